"""Draw Streets, a procedural data set of driving scenes in Cityscapes' format.

It needs no account and no download, and has all 19 classes of the benchmark, with exact and with
coarse labels. `scene.py` draws one scene; this file fills a directory with them:

    DST/streets.json                                            the settings it was drawn with
    DST/leftImg8bit/<split>/<city>/<city>_<seq>_<frame>_leftImg8bit.png        RGB
    DST/gtFine/<split>/<city>/<city>_<seq>_<frame>_gtFine_labelIds.png         exact label ids
    DST/gtCoarse/<split>/<city>/<city>_<seq>_<frame>_gtCoarse_labelIds.png     coarse label ids

A scene depends only on the seed, the split, its index and the size: not on how many scenes there
are, nor on how many processes draw them.
"""

import io
import json
import multiprocessing
import operator
import os
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np
from PIL import Image

from runtime.console import progress_bar
from runtime.cpu import available_cores
from runtime.files import expand
from streets.scene import draw_scene

VERSION = 2  # of the drawing; raise it whenever pixels change
SPLITS = ("train", "val")
KINDS = {"leftImg8bit": "", "gtFine": "_labelIds", "gtCoarse": "_labelIds"}  # how names end
CITIES = {
    "train": ("ahornau", "brunnfeld", "eichental", "kastell", "lindenau", "steinbruck"),
    "val": ("falkenhorst", "seewald"),
}

Job = tuple[Path, str, int, tuple[int, int], int]  # dst, split, index, size, seed


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

    Args:
        dst: directory, made if need be.
        train, val: numbers of scenes, 0 or more.
        size: width and height in pixels, even, at least 64x32.
        seed: 0 or more.
        workers: processes, by default one per core.
        quiet: show no progress bar.

    Raises ValueError for a bad value, FileExistsError if `dst` holds anything but this data set
    with these settings, NotADirectoryError if it is a file, OSError if it cannot be written, and
    ChildProcessError, an OSError, if a drawing process dies.
    """
    dst = Path(dst)
    settings = check_settings(train, val, size, seed)
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers is {workers!r}: give a number of processes, 1 or more")
    claim(dst, settings)
    jobs = [
        (dst, split, index, tuple(settings["size"]), seed)
        for split in SPLITS
        for index in missing(dst, split, settings[split])
    ]
    if not jobs:
        return 0
    workers = min(workers or available_cores(), len(jobs))
    with progress_bar(len(jobs), f"drawing {dst}", "scene", quiet) as bar:
        for _ in map(draw_files, jobs) if workers == 1 else draw_in_parallel(jobs, workers):
            bar.update()
    return len(jobs)


def ensure_streets(root: str | Path) -> None:
    """Draw or complete Streets at `root`, the data root of a recipe; leave other data alone.

    If `root` has a streets.json, missing scenes are drawn with the settings in that file. The
    default Streets is drawn if `root` is named `streets` and does not exist. Nothing is done
    otherwise, so that a mistyped path to other data is not filled with Streets.

    Variables of the environment and `~` are expanded. Raises as `draw_tree`.
    """
    root = expand(root, "data root")
    note = root / "streets.json"
    if note.is_file():
        try:
            there = json.loads(note.read_text(encoding="utf-8"))
            settings = {name: there[name] for name in ("train", "val", "size", "seed")}
        except (ValueError, KeyError, TypeError):
            raise _unreadable(note) from None
        draw_tree(root, **settings)
    elif root.name == "streets" and not root.exists():
        draw_tree(root)


def check_settings(train: int, val: int, size: tuple[int, int], seed: int) -> dict:
    """The content of streets.json. Raises ValueError for a bad value."""
    for name, count in (("train", train), ("val", val)):
        if not isinstance(count, int) or count < 0:
            raise ValueError(f"{name} is {count!r}: give a number of scenes, 0 or more")
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed is {seed!r}: give a whole number, 0 or more")
    try:
        width, height = (operator.index(n) for n in size)
    except (TypeError, ValueError):
        raise ValueError(f"size is {size!r}: give two whole numbers, (width, height)") from None
    if width < 64 or height < 32 or width % 2 or height % 2:
        raise ValueError(
            f"size is {width}x{height}: give even numbers, 64x32 or more, as in 512x256"
        )
    return {
        "data": "Streets",
        "version": VERSION,
        "size": [width, height],
        "seed": seed,
        "train": train,
        "val": val,
    }


def claim(dst: Path, settings: dict) -> None:
    """Write `settings` to dst/streets.json, or compare them with those that are there.

    Raises FileExistsError if `dst` holds other data or other settings, NotADirectoryError if it
    is a file, OSError if it cannot be made or written.
    """
    if dst.exists() and not dst.is_dir():
        raise NotADirectoryError(f"{dst} is a file: name a directory to draw into")
    note = dst / "streets.json"
    # Listed before the note is looked for: another process that draws the same writes it first.
    held = [path.name for path in dst.iterdir()] if dst.is_dir() else []
    if note.exists():
        _compare(note, settings)
        return
    if any(name != note.name + ".part" and not name.startswith(".") for name in held):
        raise FileExistsError(
            f"{dst} holds other data (it has no streets.json): draw into another directory"
        )
    try:
        dst.mkdir(parents=True, exist_ok=True)
        write(note, (json.dumps(settings, indent=1) + "\n").encode())
    except OSError as error:
        raise OSError(
            f"cannot write into {dst} ({error}): name a directory that you may write to"
        ) from error


def _compare(note: Path, settings: dict) -> None:
    """Raise FileExistsError if the file `note` holds other settings, or none."""
    try:
        there = json.loads(note.read_text(encoding="utf-8"))
        differ = [name for name in settings if there.get(name) != settings[name]]
    except (ValueError, AttributeError):
        raise _unreadable(note) from None
    if differ:
        values = (f"{name} {there.get(name)!r}, not {settings[name]!r}" for name in differ)
        raise FileExistsError(
            f"{note.parent} holds Streets drawn with other settings ({', '.join(values)}): "
            "draw into another directory, or delete this one first"
        )


def _unreadable(note: Path) -> FileExistsError:
    return FileExistsError(
        f"{note} does not hold the settings of a drawing: draw into another directory, or delete "
        "this one first"
    )


def scene_paths(dst: str | Path, split: str, index: int) -> tuple[Path, Path, Path]:
    """The three files of a scene: image, fine labels, coarse labels."""
    cities = CITIES[split]
    city = cities[index % len(cities)]
    name = f"{city}_{index // len(cities):06d}_000019"
    return tuple(
        Path(dst, kind, split, city, f"{name}_{kind}{end}.png") for kind, end in KINDS.items()
    )


def missing(dst: Path, split: str, count: int) -> list[int]:
    """The indices below `count` of the scenes that lack a file."""
    there = set()
    for kind in KINDS:
        for city in CITIES[split]:
            directory = dst / kind / split / city
            if directory.is_dir():
                there.update(os.listdir(directory))
    return [
        index
        for index in range(count)
        if not there.issuperset(path.name for path in scene_paths(dst, split, index))
    ]


def draw_files(job: Job) -> None:
    """Draw one scene and write its files, the image last."""
    dst, split, index, size, seed = job
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    image, fine, coarse = draw_scene(rng, size)
    paths = scene_paths(dst, split, index)
    for path, pixels, level in zip(reversed(paths), (coarse, fine, image), (3, 3, 2), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "png", compress_level=level)
        write(path, png.getvalue())


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, also where several processes draw the same bytes.

    Not `atomic_write`: flushing each file to the disk would add a quarter to the drawing time.
    """
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    try:
        os.replace(part, path)
    except FileNotFoundError:  # another process has renamed its `part`, of the same name, first
        if not path.exists():
            raise


def draw_in_parallel(jobs: list[Job], workers: int) -> Iterator[None]:
    """Draw in some processes; yields once for each scene that is done.

    Each process has its share of the jobs and a pipe of its own. If this process is killed, the
    others end at their next report, which fails. Raises what drawing raises, and
    ChildProcessError if a process dies.
    """
    context = multiprocessing.get_context("spawn")  # fork is not safe where threads run
    processes, pipes = [], []
    try:
        for i in range(workers):
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(jobs[i::workers], there), daemon=True)
            process.start()
            processes.append(process)
            there.close()
            pipes.append(here)
        while pipes:
            for pipe in wait(pipes):
                try:
                    report = pipe.recv()
                except EOFError:
                    raise ChildProcessError(
                        "a drawing process died, perhaps for lack of memory: call again to "
                        "continue, with fewer workers"
                    ) from None
                if isinstance(report, Exception):
                    raise report
                if report == "done":
                    pipes.remove(pipe)
                else:
                    yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _work(jobs: list[Job], pipe: Connection) -> None:
    """In a process of its own: draw one scene after the other, and report each."""
    try:
        for job in jobs:
            draw_files(job)
            pipe.send(None)
        pipe.send("done")
    except (KeyboardInterrupt, BrokenPipeError):
        pass  # the parent gets Ctrl-C itself, or it is gone
    except Exception as error:
        pipe.send(error)
