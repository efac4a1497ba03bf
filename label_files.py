"""Labels for a user's images and videos: which files there are, and what is written for each."""

import glob
import io
import time
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from data_io.image_io import HEIF_SUFFIXES, IMAGE_SUFFIXES, jpeg_damage, read_image, why_unread
from data_io.video import VIDEO_SUFFIXES, VideoReader, is_video
from data_io.video_writer import VideoWriter
from data_io.walk import left_out, walk
from figures import overlay, with_safe_colors
from inference import predict
from model import UNet
from runtime.console import is_out_of_memory, progress_bar
from runtime.files import atomic_write
from utils import Classes

ENDINGS = {
    "image": ("_labels.png", "_overlay.jpg", "_confidence.png"),
    "video": ("_overlay.mp4",),
}
MOST_SIDE = 65_500  # pixels, of what libjpeg writes
RESULTS = tuple(ending for endings in ENDINGS.values() for ending in endings)


class Input(NamedTuple):
    """A file to label."""

    path: Path
    kind: str  # `image` or `video`
    target: Path  # of its results, without their endings


def kind_of(path: Path) -> str | None:
    """`image` or `video`, by the suffix, or by what PyAV finds in a file of another; else None."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if suffix in HEIF_SUFFIXES:  # without pillow-heif; a video to FFmpeg
        return None
    return "video" if suffix in VIDEO_SUFFIXES or is_video(path) else None


def find_inputs(inputs: list[str], out: Path) -> tuple[list[Input], list[str]]:
    """Each image and video of files, directories and globs; and notes on what is left out.

    The results of a directory's files go to a directory of its name in `out`, in the same
    subdirectories. Results of an earlier call are left out. Raises FileNotFoundError for an input
    that does not exist or has no image or video, ValueError for two whose results would have one
    name, on Windows and macOS also names that differ in case alone.
    """
    found, notes = {}, []  # by the results' path, as disks that ignore case have it
    for name in inputs:
        paths = [Path(name)] if Path(name).exists() else sorted(map(Path, glob.glob(name)))
        here, before = [], len(notes)
        for path in paths:
            if path.is_dir():
                some, more = _of_directory(path, out)
                here, notes = here + some, notes + more
            else:  # reading it will raise for what it is not
                here.append(Input(path, kind_of(path) or "image", out / path.stem))
        if not here:
            holds = f": {notes[-1]}" if len(notes) > before else ""
            raise FileNotFoundError(f"{name}: there is no image or video{holds}: correct the path")
        for each in here:
            other = found.setdefault((each.kind, str(each.target).casefold()), each)
            if other.path != each.path:
                raise ValueError(
                    f"{other.path} and {each.path} would both be written to {each.target}: "
                    "rename one, or label them in two calls, with another --out"
                )
    made = {path.resolve() for each in found.values() for path in results_of(each)}
    inputs = [each for each in found.values() if each.path.resolve() not in made]
    if len(inputs) < len(found):
        notes.append(f"note: {len(found) - len(inputs)} inputs are results of others, left out")
    return inputs, notes


def results_of(each: Input) -> list[Path]:
    """The files that an input's results are written to."""
    return [each.target.with_name(each.target.name + ending) for ending in ENDINGS[each.kind]]


def _of_directory(directory: Path, out: Path) -> tuple[list[Input], list[str]]:
    """The images and videos below a directory, and notes on its other files."""
    found, others, results = [], [], []
    base = out / directory.resolve().name
    for path in walk(directory):
        if path.name.endswith(RESULTS):
            results.append(path)
        elif kind := kind_of(path):
            found.append(Input(path, kind, base / path.relative_to(directory).with_suffix("")))
        else:
            others.append(path)
    notes = left_out(directory, others, why_unread(others, "neither Pillow nor PyAV reads them"))
    notes += left_out(directory, results, f"they end as results do ({', '.join(RESULTS)})")
    return found, notes


def refuse_overwriting(inputs: list[Input]) -> None:
    """Raise FileExistsError if results are there already, of this or of another call."""
    for each in inputs:
        for path in results_of(each):
            if path.exists():
                raise FileExistsError(
                    f"{path} is there already: write elsewhere with --out, or replace the "
                    "results of an earlier call with --overwrite"
                )


class Labeller:
    """Labels files one by one, and counts.

    Args:
        model: as `inference.load_model` returns it.
        confidence: also write how sure the network is of each pixel of an image.
        alpha: how opaque the colours of overlays are, 0..1.
        safe: overlays have colours that colour-blind people can tell apart.
        options: of `inference.predict`.

    Attributes:
        pixels: of each class, by train id, in what was labelled: int64.
        numbers: of images, videos and frames.
        failed: a message for each file that could not be labelled.
        notes: a message for each file of which parts could not be read.
    """

    def __init__(self, model: UNet, confidence: bool, alpha: float, safe: bool, **options):
        self.model, self.confidence, self.options = model, confidence, options
        self.alpha, self.shown = alpha, with_safe_colors(model.classes) if safe else model.classes
        self.pixels = torch.zeros(256, dtype=torch.int64)
        self.numbers = dict.fromkeys(("images", "videos", "frames"), 0)
        self.failed, self.notes = [], []

    def label_all(self, inputs: list[Input]) -> None:
        """Label all files that can be read and fit into memory, with a progress bar."""
        with progress_bar(len(inputs), "label", "file") as bar:
            for each in inputs:
                try:
                    label = self.label_video if each.kind == "video" else self.label_image
                    label(each.path, each.target)
                except (FileNotFoundError, ValueError) as error:  # a broken link is not found
                    self.failed.append(str(error))
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    cure = "give a lower --scale or --tile, or leave --tta out"
                    self.failed.append(f"{each.path} does not fit into memory: {cure}")
                bar.update()

    def label_image(self, path: Path, target: Path) -> None:
        """Write `target`_labels.png, _overlay.jpg and, if asked for, _confidence.png."""
        image = read_image(path)
        if damage := jpeg_damage(path):
            self.notes.append(f"warning: {damage}")
        found = predict(self.model, image, probabilities=self.confidence, **self.options)
        labels = found[0] if self.confidence else found
        classes, shown = self.model.classes, overlay(image, labels, self.shown, alpha=self.alpha)
        if max(shown.shape) > MOST_SIDE:  # with its legend
            raise ValueError(
                f"{path}: its overlay would be a JPEG, which has at most {MOST_SIDE:,} pixels a "
                "side: cut it into parts"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        _save(target, "_labels.png", classes.label_ids[labels.int()], classes)
        _save(target, "_overlay.jpg", shown)
        if self.confidence:
            _save(target, "_confidence.png", found[1].mul(255).round().byte())
        else:  # one of before would be another network's
            target.with_name(target.name + "_confidence.png").unlink(missing_ok=True)
        self._count("images", labels)

    def label_video(self, path: Path, target: Path) -> None:
        """Write `target`_overlay.mp4 with the video's times and sound, atomically."""
        video = VideoReader(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        done = target.with_name(target.name + "_overlay.mp4")
        part = done.with_name(done.name + ".part")
        legend = self.model.known or [*range(len(self.shown))]  # the same in each frame
        try:
            with (
                progress_bar(video.frames, path.name, "frame") as bar,
                VideoWriter(part, video.frame_rate, video.time_base, sound_of=path) as writer,
            ):
                for at, frame in video:
                    labels = predict(self.model, frame, **self.options)
                    self._count("frames", labels)
                    writer.write(overlay(frame, labels, self.shown, legend, self.alpha), at)
                    bar.update()
            part.replace(done)
        finally:
            part.unlink(missing_ok=True)
        self.numbers["videos"] += 1
        if video.damage:
            self.notes.append(f"warning: {path} is damaged: {video.damage}")

    def _count(self, what: str, labels: Tensor) -> None:
        self.numbers[what] += 1
        self.pixels += torch.bincount(labels.flatten(), minlength=256)

    def summary(self, started: float) -> str:
        """What was labelled since `started` (`time.monotonic`), and each class's proportion."""
        done = [f"{n:,} {what[:-1] if n == 1 else what}" for what, n in self.numbers.items() if n]
        text = ", ".join(done) or "nothing"
        parts = (self.pixels / self.pixels.sum().clamp(min=1)).tolist()
        named = sorted(zip(parts, self.model.classes.names, strict=False), reverse=True)
        listed = ", ".join(f"{name} {part:.1%}" for part, name in named if part >= 0.0005)
        return f"{text} in {time.monotonic() - started:.1f} s\npixels by class: {listed or '-'}"


def _save(target: Path, ending: str, pixels: Tensor, classes: Classes | None = None) -> None:
    """Write an image; with `classes`, ids as a PNG's indices, which its palette makes visible."""
    image, data = Image.fromarray(pixels.numpy()), io.BytesIO()
    if classes is not None:
        colors = bytearray(768)
        for i, color in zip(classes.ids, classes.colors, strict=True):
            colors[3 * i : 3 * i + 3] = color
        image.putpalette(bytes(colors))
    image.save(data, "jpeg" if ending.endswith("jpg") else "png")
    atomic_write(target.with_name(target.name + ending), data.getvalue())
