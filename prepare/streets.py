"""Draw Streets, a procedural data set of driving scenes in Cityscapes' own format.

It needs no account and no download, and has all 19 classes of the benchmark, with exact labels and
rough ones.  `scene.py` draws one scene; this file fills a folder with them:

    DST/streets.json                                            the settings it was drawn with
    DST/leftImg8bit/<split>/<city>/<city>_<seq>_<frame>_leftImg8bit.png        RGB
    DST/gtFine/<split>/<city>/<city>_<seq>_<frame>_gtFine_labelIds.png         exact label ids
    DST/gtCoarse/<split>/<city>/<city>_<seq>_<frame>_gtCoarse_labelIds.png     rough label ids

A scene depends on the seed, the split and its index alone: not on how many there are, nor on how
many processes draw them.
"""

import argparse
import json
import operator
import os
import re
import sys
from pathlib import Path

FOLDER = str(Path(__file__).resolve().parent)
if FOLDER not in sys.path:  # so that `scene` is found by whoever imports this file, from anywhere
    sys.path.append(FOLDER)

VERSION = 1  # of the drawing; raise it whenever pixels change
SPLITS = ("train", "val")
KINDS = {"leftImg8bit": "", "gtFine": "_labelIds", "gtCoarse": "_labelIds"}  # how names end
CITIES = {
    "train": ("ahornau", "brunnfeld", "eichental", "kastell", "lindenau", "steinbruck"),
    "val": ("falkenhorst", "seewald"),
}


def draw_tree(
    dst="data/streets", train=600, val=100, size=(512, 256), seed=0, workers=None, quiet=False
):
    """Draw the data set into `dst`, or finish it; costs nothing when it is there already.

    dst: folder, made if need be.  train, val: numbers of scenes, >= 0.  size: (width, height) in
    pixels, even, at least 64 x 32.  seed: int >= 0.  workers: processes, by default one per core.
    quiet: no progress bar.  Returns how many scenes were drawn now.

    Raises ValueError for a bad value, FileExistsError when dst holds anything but this very data
    set, NotADirectoryError when dst is a file, OSError when dst cannot be written,
    ChildProcessError (an OSError) when a drawing process dies."""
    dst = Path(dst)
    settings = check(train, val, size, seed)
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers is {workers!r}: give a number of processes, 1 or more")
    claim(dst, settings)
    jobs = [
        (str(dst), split, index, tuple(settings["size"]), seed)
        for split in SPLITS
        for index in missing(dst, split, settings[split])
    ]
    if not jobs:
        return 0
    workers = max(1, min(workers or os.cpu_count() or 1, len(jobs)))

    from tqdm import tqdm

    with tqdm(total=len(jobs), desc=f"drawing {dst}", unit="scene", disable=quiet) as bar:
        for _ in map(draw_files, jobs) if workers == 1 else spread(jobs, workers):
            bar.update()
    return len(jobs)


def check(train, val, size, seed):
    """The settings as they are kept in streets.json.  Raises ValueError for a bad one."""
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
    return dict(
        data="Streets", version=VERSION, size=[width, height], seed=seed, train=train, val=val
    )


def claim(dst, settings):
    """Make dst the home of this data set, unless it is that of another.

    Raises FileExistsError, NotADirectoryError, or OSError when dst cannot be made or written."""
    if dst.exists() and not dst.is_dir():
        raise NotADirectoryError(f"{dst} is a file: name a folder to draw into")
    note = dst / "streets.json"
    # listed before the note is looked for: another process that draws this very set writes it first
    held = [p.name for p in dst.iterdir()] if dst.is_dir() else []
    if note.exists():
        try:
            there = json.loads(note.read_text(encoding="utf-8"))
            differs = [k for k in settings if there.get(k) != settings[k]]
        except (ValueError, AttributeError):
            raise FileExistsError(
                f"{note} cannot be read as JSON: delete the folder {dst}, or draw into another"
            ) from None
        if differs:
            raise FileExistsError(
                f"{dst} holds Streets drawn with other settings ("
                + ", ".join(f"{k} {there.get(k)!r}, not {settings[k]!r}" for k in differs)
                + "): draw into another folder, or delete this one first"
            )
        return
    if any(name != note.name + ".part" and not name.startswith(".") for name in held):
        raise FileExistsError(
            f"{dst} holds other data (no streets.json in it): draw into another folder"
        )
    try:
        dst.mkdir(parents=True, exist_ok=True)
        write(note, (json.dumps(settings, indent=1) + "\n").encode())
    except OSError as error:
        raise OSError(
            f"cannot write into {dst} ({error}): name a folder you may write to"
        ) from error


def scene_paths(dst, split, index):
    """The files (image, fine labels, coarse labels) of one scene, as Paths."""
    cities = CITIES[split]
    city = cities[index % len(cities)]
    name = f"{city}_{index // len(cities):06d}_000019"
    return tuple(
        Path(dst, kind, split, city, f"{name}_{kind}{end}.png") for kind, end in KINDS.items()
    )


def missing(dst, split, count):
    """The indices below count of the scenes that lack a file."""
    there = set()
    for kind in KINDS:
        for city in CITIES[split]:
            folder = dst / kind / split / city
            if folder.is_dir():
                there.update(os.listdir(folder))
    return [
        i
        for i in range(count)
        if not there.issuperset(path.name for path in scene_paths(dst, split, i))
    ]


def write(path, data):
    """Write bytes to a file that is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    try:
        os.replace(part, path)
    except FileNotFoundError:  # another process that draws the same bytes was quicker
        if not path.exists():
            raise


def draw_files(job):
    """Draw one scene and write its files, the image last.  job: (dst, split, index, size, seed)."""
    import io

    import numpy as np
    from PIL import Image
    from scene import draw_scene

    dst, split, index, size, seed = job
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    image, fine, coarse = draw_scene(rng, size)
    paths = scene_paths(dst, split, index)
    for path, pixels, level in zip(reversed(paths), (coarse, fine, image), (3, 3, 2), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "png", compress_level=level)
        write(path, png.getvalue())


def spread(jobs, workers):
    """Have the jobs done by some processes; yields once for each that is done.

    Each process has its own share and its own pipe, so that none outlives its parent: the next
    report fails.  Raises what drawing raises, ChildProcessError when a process dies."""
    import multiprocessing
    from multiprocessing.connection import wait

    context = multiprocessing.get_context("spawn")  # safe with threads about, the same everywhere
    processes, pipes = [], []
    try:
        for i in range(workers):
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=work, args=(jobs[i::workers], there), daemon=True)
            process.start()
            processes.append(process)
            there.close()
            pipes.append(here)
        while pipes:
            for pipe in wait(pipes):
                try:
                    error = pipe.recv()
                except EOFError:
                    raise ChildProcessError(
                        "a drawing process died, perhaps for want of memory: call "
                        "again to continue, with fewer workers"
                    ) from None
                if isinstance(error, Exception):
                    raise error
                if error == "done":
                    pipes.remove(pipe)
                else:
                    yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def work(jobs, report):
    """Do the jobs one after the other, and report each."""
    try:
        for job in jobs:
            draw_files(job)
            report.send(None)
        report.send("done")
    except (KeyboardInterrupt, BrokenPipeError):
        pass  # the parent is told by the keyboard too, or is gone
    except Exception as error:
        report.send(error)


def ensure_streets(root):
    """Draw Streets at `root` if that is what is meant by it and it is not (wholly) there.

    A drawing that has begun (there is a streets.json) is finished with its own settings; the
    default one is drawn where `root` is called `streets` and does not exist. All else is left
    alone, so that a mistyped path to other data never becomes Streets in silence.

    root: folder; may name variables of the environment.  Raises as `draw_tree`."""
    root = Path(os.path.expandvars(root)).expanduser()
    note = root / "streets.json"
    if note.is_file():
        try:
            there = json.loads(note.read_text(encoding="utf-8"))
            settings = {name: there[name] for name in ("train", "val", "size", "seed")}
        except (ValueError, KeyError, TypeError):
            raise FileExistsError(f"{note} cannot be read: delete the folder {root}") from None
        draw_tree(root, **settings)
    elif root.name == "streets" and not root.exists():
        draw_tree(root)


def parse_size(text):
    """'512x256' as (512, 256), for argparse."""
    match = re.fullmatch(r"(\d+)[x×](\d+)", text.strip().lower())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, as in 512x256")
    return int(match[1]), int(match[2])


def main(argv=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Draw Streets: driving scenes with exact and coarse labels of all 19\n"
        "Cityscapes classes, as a folder in Cityscapes' own format. The same seed gives\n"
        "the same pixels. Calling it again continues a drawing that was interrupted, and\n"
        "costs nothing once it is complete.",
        epilog="example:\n"
        "  python prepare/streets.py data/streets --train 600 --val 100 --size 512x256",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "dst",
        nargs="?",
        default="data/streets",
        metavar="DST",
        help="folder to draw into (default: data/streets)",
    )
    parser.add_argument(
        "--train", type=int, default=600, metavar="N", help="training scenes (default: 600)"
    )
    parser.add_argument(
        "--val", type=int, default=100, metavar="N", help="validation scenes (default: 100)"
    )
    parser.add_argument(
        "--size",
        type=parse_size,
        default=(512, 256),
        metavar="WxH",
        help="width and height in pixels, even (default: 512x256)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="which Streets (default: 0)"
    )
    parser.add_argument(
        "--workers", type=int, default=None, metavar="N", help="processes (default: one per core)"
    )
    args = parser.parse_args(argv)
    try:
        drawn = draw_tree(args.dst, args.train, args.val, args.size, args.seed, args.workers)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: call again to continue", file=sys.stderr)
        return 130
    total = args.train + args.val
    print(f"{args.dst}: {total} scenes" + ("" if drawn else ", already drawn"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
