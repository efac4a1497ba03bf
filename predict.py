"""Label images and videos with a trained network.

    python predict.py checkpoints/camvid.pt street.jpg holiday/ --out runs/predictions
    python predict.py checkpoints/camvid.pt drive.mp4 --scale 0.5
    python predict.py runs/cityscapes/best.pt --submission $CITYSCAPES_DATASET --split test --zip

Takes files, directories (with all below them) and globs. For each image NAME it writes
NAME_labels.png, a byte per pixel, the ids of the label files (of Cityscapes: 7 road .. 33 bicycle),
and NAME_overlay.jpg to look at; for a video NAME_overlay.mp4. With --submission it writes what the
Cityscapes benchmark takes for a split of a data set.
"""

import argparse
import glob
import io
import sys
from pathlib import Path

from PIL import Image
from torch import Tensor
from tqdm import tqdm

from data_io.image_io import IMAGE_SUFFIXES, read_image
from data_io.video import VIDEO_SUFFIXES, VideoReader, VideoWriter
from engine import write_submission
from engine.loaders import message
from figures import overlay
from inference import check_view, load_model, predict
from model import UNet
from runtime.console import escape_output
from runtime.files import atomic_write
from runtime.precision import pick_device, pick_precision

RESULTS = "_labels.png", "_overlay.jpg", "_confidence.png", "_overlay.mp4"


def find_inputs(inputs: list[str], out: Path) -> dict[Path, Path]:
    """Each image or video of files, directories and globs, and its results' path in `out`.

    That path has no suffix yet; below a directory, it keeps the subdirectories. Results of an
    earlier call and hidden files in directories are not taken. Raises FileNotFoundError for an
    input that is not there or holds none, ValueError for two whose results would have one name,
    as names that differ in case alone do on Windows and macOS.
    """
    sources, taken = {}, {}  # by the results' path; as disks that ignore case have it
    for name in inputs:
        paths = [Path(name)] if Path(name).exists() else sorted(map(Path, glob.glob(name)))
        found = {}
        for path in paths:
            if path.is_file():
                found[path] = Path(path.name)
            for file in sorted(path.rglob("*")) if path.is_dir() else ():
                known = file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
                if known and not file.name.startswith(".") and not file.name.endswith(RESULTS):
                    found[file] = file.relative_to(path)
        if not found:
            raise FileNotFoundError(f"{name}: there is no image or video: correct the path")
        for path, place in found.items():
            target = (out / place).with_suffix("")
            other = taken.setdefault(str(target).casefold(), path)
            if other != path:
                raise ValueError(
                    f"{other} and {path} would both be written to {target}: rename one"
                )
            sources[target] = path
    return {path: target for target, path in sources.items()}


def predict_image(model: UNet, path: Path, target: Path, confidence: bool, **options) -> None:
    """Write `target`_labels.png, _overlay.jpg and, if asked for, _confidence.png."""
    image = read_image(path)
    if confidence:
        labels, probability = predict(model, image, probabilities=True, **options)
    else:
        labels = predict(model, image, **options)
    target.parent.mkdir(parents=True, exist_ok=True)
    _save(target, "_labels.png", model.classes.label_ids[labels.int()])
    _save(target, "_overlay.jpg", overlay(image, labels, model.classes))
    if confidence:
        _save(target, "_confidence.png", probability.mul(255).round().byte())


def _save(target: Path, ending: str, pixels: Tensor) -> None:
    data = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(data, "jpeg" if ending.endswith("jpg") else "png")
    atomic_write(target.with_name(target.name + ending), data.getvalue())


def predict_video(model: UNet, path: Path, target: Path, **options) -> None:
    """Write `target`_overlay.mp4, with the same frame rate; whole or not at all."""
    frames, legend = VideoReader(path), [*range(len(model.classes))]  # the same in each frame
    target.parent.mkdir(parents=True, exist_ok=True)
    done = target.with_name(target.name + "_overlay.mp4")
    part = done.with_name(done.name + ".part")
    bar = tqdm(frames, total=frames.frames, desc=path.name, unit="frame", disable=None)
    try:
        with VideoWriter(part, frames.frame_rate) as video:
            for frame in bar:
                labels = predict(model, frame, **options)
                video.write(overlay(frame, labels, model.classes, legend))
        part.replace(done)
    finally:
        part.unlink(missing_ok=True)


def main() -> None:
    escape_output()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="such as checkpoints/camvid.pt")
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="images, videos, directories")
    parser.add_argument("--out", type=Path, help="directory (default: runs/predictions)")
    parser.add_argument("--confidence", action="store_true", help="also how sure it is, in grey")
    parser.add_argument("--scale", type=float, default=1, help="resize images by this (default: 1)")
    parser.add_argument("--tile", type=int, help="tile size in pixels (default: by image size)")
    parser.add_argument("--tta", action="store_true", help="mean over scales and mirrored images")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: the GPU if there is one)")
    parser.add_argument(
        "--max-pixels", type=int, help="largest image accepted, in pixels (default: 89,478,485)"
    )
    parser.add_argument("--submission", metavar="ROOT", help="a data set, instead of INPUT")
    parser.add_argument("--split", default="test", help="with --submission (default: test)")
    parser.add_argument("--zip", action="store_true", help="also pack the submission")
    parser.add_argument("--batch_size", type=int, default=1, help="with --submission (default: 1)")
    parser.add_argument("--workers", type=int, default=2, help="with --submission (default: 2)")
    args = parser.parse_args()
    if bool(args.inputs) == bool(args.submission):
        parser.error("name images or videos, or a data set with --submission")
    try:
        check_view(args.scale, args.tile)
    except ValueError as error:
        parser.error(str(error))
    if args.submission and (args.scale != 1 or args.tile or args.confidence):
        parser.error("--scale, --tile and --confidence are not for a submission")
    Image.MAX_IMAGE_PIXELS = args.max_pixels or Image.MAX_IMAGE_PIXELS
    default = f"submission-{args.split}" if args.submission else "predictions"
    out = args.out or Path("runs") / default
    try:
        device = pick_device(args.device)
        args.precision = pick_precision(args.precision, device)
        model = load_model(args.checkpoint, device)
        if args.submission:
            done = write_submission(
                *(model, args.submission, args.split, out, args.zip),
                *(args.batch_size, args.workers, args.tta, args.precision),
            )
        else:
            done = out
            label_files(model, find_inputs(args.inputs, out), args)
    except (OSError, ValueError, FloatingPointError) as error:
        sys.exit(f"error: {message(error)}")
    except KeyboardInterrupt:
        sys.exit(f"stopped: {out} lacks predictions, repeat the command")
    print(f"predictions: {done}")


def label_files(model: UNet, targets: dict[Path, Path], args: argparse.Namespace) -> None:
    """Predict all images and videos; what cannot be read is named at the end.

    Raises ValueError, with each message, if some could not be read.
    """
    options = {name: getattr(args, name) for name in ("scale", "tile", "tta", "precision")}
    failed = []
    for path, target in tqdm(targets.items(), unit="file", disable=None):
        try:
            if path.suffix.lower() in VIDEO_SUFFIXES:
                predict_video(model, path, target, **options)
            else:
                predict_image(model, path, target, args.confidence, **options)
        except ValueError as error:
            failed.append(str(error))
    if failed:
        raise ValueError(f"{len(failed)} of {len(targets)} were left out:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
