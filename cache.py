"""Decode once: pictures as they were decoded and downscaled, in one memory-mapped file of bytes.

    header     PAGE bytes: what the file is, as JSON
    records    (N, 2) uint64: for each pair, the stamp of its two source files, the sum of its bytes
    slots      N times the bytes of an image (3, H, W) and of its labels (H', W'), both uint8

A pair is taken from the file only if its record has the stamp of the sources as they are now, and
the sum of the bytes as they are there; else it is decoded, and written: first bytes, then record.
So processes need no locks. Two that fill one slot write the same bytes, and what is half written,
by one that was killed or by a machine that lost power, is never taken for whole.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

VERSION = 1  # raise it whenever decoding or downscaling gives other bytes
PAGE = 4096
SPARE = 2**30  # bytes to leave on the disk for checkpoints, or the 20th part of a small disk

Pair = tuple[np.ndarray, np.ndarray]


class Cache:
    """The pairs of one split at one size; `open_cache` makes it. Shared by all who open it.

    Attributes:
        path: the file.
        pairs: the source files of each item, an image and its labels.
        shapes: of an image and its labels in the file, (3, H, W) and (H', W').
    """

    def __init__(self, path: Path, pairs: list[tuple[str, str]], shapes: tuple):
        self.path, self.pairs, self.shapes = path, pairs, shapes
        # From here, so that a data set may be moved together with the cache in it.
        self.names = [[os.path.relpath(name, path.parent) for name in pair] for pair in pairs]
        self.image_bytes, mask_bytes = (int(np.prod(shape)) for shape in shapes)
        self.pair_bytes = self.image_bytes + mask_bytes
        self.slot_bytes = self.pair_bytes + -self.pair_bytes % 8
        self.slots_at = PAGE + 16 * len(pairs)
        self.size = self.slots_at + self.slot_bytes * len(pairs)
        note = {
            "what": "decoded and downscaled pictures: may be deleted, and will be made again",
            "version": VERSION,
            "pairs": len(pairs),
            "shapes": shapes,
        }
        self.header = json.dumps(note).encode().ljust(PAGE)
        self.map = None
        self.filling = torch.ones((), dtype=torch.bool).share_memory_()  # seen by all workers

    def __getstate__(self) -> dict:
        return {**self.__dict__, "map": None}  # a spawned worker maps the file itself

    def read(self, index: int, decode: Callable[[int], Pair]) -> Pair:
        """Item `index`, from the file if it is there and whole, else `decode(index)`, then kept."""
        stamp = self.stamp(index)
        pair = self.find(index, stamp)
        if pair is None:
            pair = decode(index)
            if self.filling:
                self.keep(index, stamp, pair)
        return pair

    def stamp(self, index: int) -> int:
        """A number that changes with path, size or mtime of a source; 0 if one is not there."""
        try:
            stats = [os.stat(path) for path in self.pairs[index]]
        except OSError:
            return 0  # whoever decodes it will say so
        key = [VERSION, self.names[index], [(s.st_size, s.st_mtime_ns) for s in stats]]
        digest = hashlib.blake2b(json.dumps(key).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") or 1

    def find(self, index: int, stamp: int) -> Pair | None:
        """A copy of item `index`; None if it is not there, of other sources, or damaged."""
        try:
            if os.path.getsize(self.path) != self.size:  # a look beyond the end would be fatal
                return None
            if self.map is None:
                self.map = np.memmap(self.path, np.uint8, "r")
        except OSError:
            return None
        record = self.map[PAGE + 16 * index :][:16].view(np.uint64)
        if stamp == 0 or record[0] != stamp:
            return None
        slot = np.array(self.map[self.slots_at + self.slot_bytes * index :][: self.slot_bytes])
        if total(slot) != record[1]:
            warnings.warn(f"{self.path} is damaged in places: they are decoded anew", stacklevel=2)
            return None
        image, mask = np.split(slot[: self.pair_bytes], [self.image_bytes])
        return image.reshape(self.shapes[0]), mask.reshape(self.shapes[1])

    def keep(self, index: int, stamp: int, pair: Pair) -> None:
        """Write item `index`. If that fails it says so, and no one of this run tries again."""
        if tuple(part.shape for part in pair) != self.shapes:
            warnings.warn(
                f"{self.path}: pictures whose size is not that of the first are decoded every time",
                stacklevel=2,
            )
            return
        slot = np.zeros(self.slot_bytes, np.uint8)
        slot[: self.pair_bytes] = np.concatenate([part.ravel() for part in pair])
        record = np.array([stamp, total(slot)], np.uint64)
        try:
            with open(self.path, "r+b", buffering=0) as file:  # a map would die of a full disk
                put(file, self.slots_at + self.slot_bytes * index, slot)
                put(file, PAGE + 16 * index, record)
        except OSError as error:
            self.filling.fill_(False)
            warnings.warn(
                f"{self.path} cannot be filled further ({error.strerror}): "
                "pictures that are not in it are decoded every time",
                stacklevel=2,
            )

    def prepare(self) -> None:
        """Make the file unless it is there. Raises OSError if it cannot be made."""
        try:
            with open(self.path, "rb") as file:
                header, size = file.read(PAGE), os.stat(file.fileno()).st_size
        except FileNotFoundError:
            header, size = b"", 0
        if header == self.header and size == self.size:
            return
        if header.strip(b"\0"):  # zeros: another process is just making it, or was killed then
            warnings.warn(
                f"{self.path} is damaged, or of other pictures: it is made anew", stacklevel=3
            )
            self.path.unlink()
        folder = self.path.parent
        if not folder.is_dir():
            folder.mkdir(parents=True)
            (folder / ".gitignore").write_text("*\n")
        print(f"{self.path} takes {readable(self.size)}, filled as pictures are first read")
        with open(self.path, "ab"):  # several processes may be here: none undoes another's work
            pass
        try:
            self.allocate()
        except OSError:
            self.path.unlink(missing_ok=True)
            raise

    def allocate(self) -> None:
        """Give the file its size, then its header. Raises OSError if the disk is too small."""
        with open(self.path, "r+b", buffering=0) as file:
            disk, there = shutil.disk_usage(file.name), os.fstat(file.fileno()).st_blocks * 512
            spare = min(SPARE, disk.total // 20)
            if disk.free + there < self.size + spare:
                raise OSError(
                    f"of {readable(disk.free)} that are free {readable(spare)} should be left"
                )
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, self.size)
            else:
                file.truncate(self.size)
            put(file, 0, self.header)


def open_cache(
    folder: Path, name: str, pairs: list[tuple[str, str]], shapes: tuple
) -> Cache | None:
    """The cache of `pairs` in `folder`, made if need be; None, said so, where that is impossible.

    Args:
        name: what tells it from other caches, such as split and factor; begins the file's name.
        pairs, shapes: as in `Cache`.
    """
    root = os.path.relpath(os.path.commonpath([path for pair in pairs for path in pair]), folder)
    digest = hashlib.blake2b(root.encode(), digest_size=4).hexdigest()  # for a folder of several
    cache = Cache(folder / f"{name}-{digest}.cache", pairs, shapes)
    try:
        cache.prepare()
    except OSError as error:
        warnings.warn(
            f"no cache at {cache.path} ({error.strerror or error}): pictures are decoded every "
            "time; name another directory as `cache`, or none (null)",
            stacklevel=2,
        )
        return None
    return cache


def put(file, offset: int, data: bytes | np.ndarray) -> None:
    """Write all of `data` at `offset` of an unbuffered file."""
    file.seek(offset)
    data = memoryview(data).cast("B")
    while len(data):
        data = data[file.write(data) :]


def total(slot: np.ndarray) -> np.uint64:
    """The sum of a slot's 64-bit words, modulo 2^64: much faster than a CRC, and no gap passes."""
    return slot.view(np.uint64).sum(dtype=np.uint64)


def readable(size: int) -> str:
    """Bytes in decimal units: 6.2 GB."""
    unit = next(i for i in range(5) if size < 1000 ** (i + 1))
    return f"{size / 1000**unit:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[unit]}"
