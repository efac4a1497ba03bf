"""Feed damaged files to everything that reads files from outside, and look what it does.

    python -m tests.stress.fuzz --seconds 300

Whole files of every kind that users hand over are damaged at random (tests/stress/mutations.py).
The functions behind the commands read them, in a process that may die or hang alone. A reader may
return, or raise what its docstring names. Anything else is a failure: another exception, the end of
the process, `LONGEST` seconds, `MOST_MEMORY`, a file outside of the data set. A file with checksums
must give what it held before, or be refused. Failures are kept in runs/fuzz. tests/stress/fuzz.json
gets the counts, also if Ctrl-C ends it. The same seed gives the same files. Linux only.
"""

import faulthandler
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path

import torch
from tqdm import tqdm

from runtime.console import command_line
from runtime.machine import ROOT, write_record
from tests.stress.fuzz_kinds import KINDS, Kind

RECORD = Path(__file__).with_name("fuzz.json")
LONGEST = 30  # seconds for one file
MOST_MEMORY = 2**30  # bytes that reading the small files may take
BATCH = 20


def fuzz(seconds: float, seed: int, keep: Path) -> dict[str, Counter]:
    """Read damaged files for so long; returns how many of each kind were read, refused, or failed.

    File `i` of a kind depends on seed, kind and i alone. Failures go to `keep`, each with a text.
    """
    counts = {name: Counter(read=0, refused=0, failed=0) for name in KINDS}
    pool, start, bar = new_pool(), time.monotonic(), tqdm(unit="file", disable=None)
    with suppress(KeyboardInterrupt):
        while time.monotonic() - start < seconds:
            for name in (name for name in KINDS for _ in range(BATCH)):
                i = counts[name].total()
                try:
                    outcome, what = pool.submit(read_one, seed, name, i).result()
                except BrokenProcessPool:
                    outcome, what = "failed", f"the process died, or took {LONGEST} seconds"
                counts[name][outcome] += 1
                bar.update()
                if outcome == "failed":
                    keep.mkdir(parents=True, exist_ok=True)
                    path = keep / f"{name.replace(' ', '-')}-{seed}-{i}"
                    path.write_bytes(KINDS[name].damaged(f"{seed} {name} {i}"))
                    path.with_name(f"{path.name}.txt").write_text(what)
                    pool.shutdown()
                    pool = new_pool()
    pool.shutdown()
    bar.close()
    return counts


def new_pool() -> ProcessPoolExecutor:
    """A process that reads files; when it dies, the executor is broken."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_start)


def _start() -> None:
    import resource  # not on Windows

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (limit + 8 * MOST_MEMORY,) * 2)  # spares the machine
    _worker["folder"] = tempfile.TemporaryDirectory()
    os.chdir(folder := Path(_worker["folder"].name))
    for name, kind in KINDS.items():
        _worker[name] = [outcomes(kind, content, folder) for content in kind.whole]
        assert all(map(any, _worker[name])), f"a whole file of {name} is refused"
    _worker["peak"] = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _worker["start"] = _worker["peak"]()


_worker = {}  # of its process: folder, memory at the start, and what readers make of whole files


def read_one(seed: int, name: str, i: int) -> tuple[str, str]:
    """The outcome for file `i` of a kind, `read`, `refused` or `failed`, and what happened."""
    kind = KINDS[name]
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    try:
        found = outcomes(kind, kind.damaged(f"{seed} {name} {i}"), Path(_worker["folder"].name))
    except Exception:
        return "failed", traceback.format_exc()
    finally:
        faulthandler.cancel_dump_traceback_later()
    taken = _worker["peak"]() - _worker["start"]  # kB
    if taken * 1024 > MOST_MEMORY:
        return "failed", f"took {taken / 1e6:.1f} GB"
    for value, *whole in zip(found, *_worker[name], strict=True):
        if kind.sealed and value is not None and value not in whole:
            return "failed", "changed silently"
    return ("refused" if found[0] is None else "read"), ""


def outcomes(kind: Kind, content: bytes, folder: Path) -> list[str | None]:
    """What each of a kind's readers makes of a file: a digest, or None where it is refused."""
    inside, found = folder / "around" / "inside", []
    for read, documented in kind.readers:
        shutil.rmtree(inside, ignore_errors=True)
        inside.mkdir(parents=True)
        path = inside / kind.name
        path.write_bytes(content)
        value = None
        with redirect_stderr(StringIO()), suppress(*documented):
            value = read(path)
        digest = hashlib.sha256(repr(value).encode()).hexdigest()
        found.append(None if value is None else digest)
    if os.listdir(folder) != ["around"] or os.listdir(inside.parent) != ["inside"]:
        raise AssertionError("a file was written outside of the data set")
    return found


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="how long (300)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="default: random")
    args = parser.parse_args()
    start = time.monotonic()
    counts = fuzz(args.seconds, args.seed, ROOT / "runs" / "fuzz")
    record = {
        "files": sum(each.total() for each in counts.values()),
        "failed": sum(each["failed"] for each in counts.values()),
        "kinds": counts,
        "seconds": round(time.monotonic() - start),
        "seed": args.seed,
    }
    write_record(RECORD, "tests.stress.fuzz", record)
    sys.exit(record["failed"] > 0)


if __name__ == "__main__":
    main()
