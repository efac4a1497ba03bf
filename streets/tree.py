"""Draw Streets, a procedural data set with all 19 classes of Cityscapes, in Cityscapes' format.

streets.json holds the settings that it was drawn with. A scene depends only on the seed, the split,
its index and the size: not on how many scenes there are, nor on how many processes draw them.
"""

import io
import json
import operator
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from runtime.console import progress_bar
from runtime.cpu import available_cores
from runtime.files import expand

VERSION = 2  # of the drawing; raise it whenever pixels change
CITIES = {
    "train": ("ahornau", "brunnfeld", "eichental", "kastell", "lindenau", "steinbruck"),
    "val": ("falkenhorst", "seewald"),
}
BYTES = 1.6  # on disk for a pixel of 512x256; of larger scenes fewer
KINDS = {"leftImg8bit": "", "gtFine": "_labelIds", "gtCoarse": "_labelIds"}  # how names end


def draw_tree(
    dst: str | Path = "data/streets",
    train: int = 600,
    val: int = 100,
    size: tuple[int, int] = (512, 256),
    seed: int = 0,
    workers: int | None = None,
    quiet: bool = False,
) -> int:
    """Draw the data set, or the scenes of it that are missing; returns how many were drawn.

    dst: directory, made if need be; train, val: numbers of scenes; size: width and height in
    pixels, even, at least 64x32; seed: 0 or more; workers: processes, by default one per core;
    quiet: show no progress bar.

    Raises ValueError for a bad value, FileExistsError if `dst` holds anything but this data set
    with these settings, NotADirectoryError if it is a file, OSError if it cannot be written, and
    ChildProcessError, an OSError, if a drawing process dies.
    """
    dst, workers = Path(dst), available_cores() if workers is None else workers
    counts = {"train": train, "val": val}
    for name, value in {**counts, "seed": seed, "workers": workers}.items():
        least = 1 if name == "workers" else 0
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is {value!r}: give a whole number, {least} or more")
    try:
        width, height = (operator.index(n) for n in size)
    except (TypeError, ValueError):
        raise ValueError(f"size is {size!r}: give two whole numbers, (width, height)") from None
    if width < 64 or height < 32 or width % 2 or height % 2:
        raise ValueError(
            f"size is {width}x{height}: give even numbers, 64x32 or more, as in 512x256"
        )
    common = {"data": "Streets", "version": VERSION, "size": [width, height], "seed": seed}
    _claim(dst, {**common, **counts})
    jobs = [
        (dst, split, index, (width, height), seed)
        for split, count in counts.items()
        for index in range(count)
        if not all(path.exists() for path in scene_paths(dst, split, index))
    ]
    needed, free = len(jobs) * width * height * BYTES, shutil.disk_usage(dst).free
    if needed > free:
        raise OSError(
            f"{len(jobs):,} scenes of {width}x{height} take some {needed / 1e9:.1f} GB, and {dst} "
            f"has {free / 1e9:.1f} GB: free some space, or draw fewer or smaller ones"
        )
    apart = {}
    if workers > 1 < len(jobs):  # fork is not safe where threads run
        apart = {"num_workers": min(workers, len(jobs)), "multiprocessing_context": "spawn"}
    # Without batches, `collate_fn` is what a worker does with an item. With a generator of its own
    # the loader leaves PyTorch's alone.
    done = DataLoader(jobs, None, collate_fn=_draw, generator=torch.Generator(), **apart)
    bar = progress_bar(len(jobs), f"drawing {dst}", "scene", quiet or not jobs)
    try:
        with bar:
            for _ in done:
                bar.update()
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ChildProcessError(
            "a drawing process died, perhaps for lack of memory: call again to continue, with "
            "fewer workers"
        ) from error
    return len(jobs)


def ensure_streets(root: str | Path) -> None:
    """Draw or complete Streets at `root`, the data root of a recipe; leave other data alone.

    If `root` has a streets.json, missing scenes are drawn with the settings in that file. The
    default Streets is drawn if `root` is named `streets` and does not exist. Nothing is done
    otherwise, so that a mistyped path to other data is not filled with Streets.

    Variables of the environment and `~` are expanded. Raises as `draw_tree`.
    """
    root = expand(root, "data root")
    if (root / "streets.json").is_file():
        there = _read_settings(root)
        draw_tree(root, **{name: there[name] for name in ("train", "val", "size", "seed")})
    elif root.name == "streets" and not root.exists():
        draw_tree(root)


def scene_paths(dst: str | Path, split: str, index: int) -> tuple[Path, Path, Path]:
    """The three files of a scene: image, fine labels, coarse labels."""
    number, place = divmod(index, len(CITIES[split]))
    city = CITIES[split][place]
    name = f"{city}_{number:06d}_000019"
    return tuple(
        Path(dst, kind, split, city, f"{name}_{kind}{end}.png") for kind, end in KINDS.items()
    )


def _read_settings(dst: Path) -> dict:
    """The content of dst/streets.json. Raises FileExistsError if it is not that of a drawing."""
    note = dst / "streets.json"
    try:
        there = json.loads(note.read_text(encoding="utf-8"))
        return {name: there[name] for name in ("data", "version", "size", "seed", "train", "val")}
    except (ValueError, KeyError, TypeError):
        raise FileExistsError(
            f"{note} does not hold the settings of a drawing: draw into another directory, or "
            "delete this one first"
        ) from None


def _claim(dst: Path, settings: dict) -> None:
    """Write `settings` to dst/streets.json, or compare them with those that are there."""
    if dst.exists() and not dst.is_dir():
        raise NotADirectoryError(f"{dst} is a file: name a directory to draw into")
    # Listed before the note is looked for: another process that draws the same writes it first.
    held = [path.name for path in dst.iterdir()] if dst.is_dir() else []
    if (dst / "streets.json").exists():
        there = _read_settings(dst)
        differ = [name for name in settings if there[name] != settings[name]]
        if differ:
            values = (f"{name} {there[name]!r}, not {settings[name]!r}" for name in differ)
            raise FileExistsError(
                f"{dst} holds Streets drawn with other settings ({', '.join(values)}): "
                "draw into another directory, or delete this one first"
            )
        return
    if any(name != "streets.json.part" and not name.startswith(".") for name in held):
        raise FileExistsError(
            f"{dst} holds other data (it has no streets.json): draw into another directory"
        )
    try:
        write(dst / "streets.json", (json.dumps(settings, indent=1) + "\n").encode())
    except OSError as error:
        raise OSError(
            f"cannot write into {dst} ({error}): name a directory that you may write to"
        ) from error


def _draw(job: tuple[Path, str, int, tuple[int, int], int]) -> None:
    """Draw one scene (dst, split, index, size, seed) and write its files, the image last."""
    dst, split, index, size, seed = job
    from streets.scene import draw_scene  # which train.py and evaluate.py need not import

    rng = np.random.default_rng([seed, list(CITIES).index(split), index])
    image, fine, coarse = draw_scene(rng, size)
    paths = scene_paths(dst, split, index)
    for path, pixels, level in zip(reversed(paths), (coarse, fine, image), (3, 3, 2), strict=True):
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "png", compress_level=level)
        write(path, png.getvalue())


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, also where several processes draw the same bytes.

    Not `atomic_write`: flushing each file to the disk would add a quarter to the drawing time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    try:
        os.replace(part, path)
    except FileNotFoundError:  # another process has renamed its `part`, of the same name, first
        if not path.exists():
            raise
