"""Decode once: images and labels as they were decoded and downscaled, a memory-mapped file each.

A file is a header of `HEADER` bytes, then the image (3, H, W) and its labels (H', W'), both
uint8. The header holds a fingerprint of the two source files, the four sizes, and the Adler-32
checksum of the sizes and of all that follows, which takes a third of a CRC's time. A pair is read
from the cache only if all of this fits. Otherwise it is decoded, and written to a temporary file
which is then renamed, so that a reader finds a complete file or none. Processes need no locks, and
what a killed writer, a power failure or a full disk leaves is never taken for an image.
"""

import hashlib
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch

from runtime.files import relative_path
from runtime.shared_memory import share

VERSION = 4  # raise it whenever decoding or downscaling gives other bytes
HEADER = 48  # bytes: fingerprint, checksum, H, W, H', W' as uint64
RESERVE = 2**30  # bytes to leave on the disk, for checkpoints

Sources = tuple[str, str]  # the files of an image and of its labels
Pair = tuple[np.ndarray, np.ndarray]


class Cache:
    """The decoded pairs of one split at one size; shared by all processes that open it.

    Args:
        folder: of the files; created with the first of them.
        size: what was done to them, such as the factor of the downscaling.

    A folder may be deleted at any time. If it cannot be written, a warning says so, and items
    are decoded every time.
    """

    def __init__(self, folder: Path, size: str):
        self.folder, self.size = folder, size
        self.writable = share(torch.ones((), dtype=torch.bool))  # seen by all workers

    def read(self, sources: Sources, decode: Callable[[], Pair]) -> Pair:
        """What was decoded from `sources`, from its file if that is complete, else `decode()`.

        What had to be decoded is kept. Returns arrays (3, H, W) and (H', W') uint8; to change them
        does not change the file.
        """
        path, fingerprint = self.path(sources), self.fingerprint(sources)
        pair = self.load(path, fingerprint)
        if pair is None:
            pair = decode()
            if self.writable and fingerprint:
                self.save(path, fingerprint, pair)
        return pair

    def path(self, sources: Sources) -> Path:
        """The file of a pair, which stays the same when folder and sources move together."""
        names = [relative_path(path, self.folder) for path in sources]
        digest = _digest([names, self.size]).hex()
        return self.folder / f"{Path(sources[0]).stem}-{digest}.cache"

    def fingerprint(self, sources: Sources) -> int:
        """A number that changes with size or mtime of a source; 0 if one is not there."""
        try:
            stats = [os.stat(path) for path in sources]
        except OSError:
            return 0  # decoding it will say so
        return int.from_bytes(_digest([VERSION, [(s.st_size, s.st_mtime_ns) for s in stats]])) or 1

    def load(self, path: Path, fingerprint: int) -> Pair | None:
        """A file's pair; None if it is not there, of other sources, or damaged."""
        try:
            content = np.memmap(path, np.uint8, "c")  # whoever changes the array gets a copy
        except (OSError, ValueError):  # ValueError: an empty file
            return None
        if len(content) < HEADER:
            return None
        found, checksum, *sizes = content[:HEADER].view(np.uint64).tolist()
        h, w, label_h, label_w = sizes
        if not found or found != fingerprint:  # 0 is no fingerprint, but what a file of zeros has
            return None
        body = content[HEADER:].view(np.ndarray)
        if len(body) != 3 * h * w + label_h * label_w or _checksum(sizes, body) != checksum:
            warnings.warn(f"{path} is damaged: it is decoded again", stacklevel=3)
            return None
        image, labels = np.split(body, [3 * h * w])
        return image.reshape(3, h, w), labels.reshape(label_h, label_w)

    def save(self, path: Path, fingerprint: int, pair: Pair) -> None:
        """Write a pair. If that fails it warns, and no process of this run tries again."""
        body = np.concatenate([part.ravel() for part in pair])
        sizes = [*pair[0].shape[1:], *pair[1].shape]
        header = np.array([fingerprint, _checksum(sizes, body), *sizes], np.uint64)
        part = path.with_name(f"{path.name}.{uuid4().hex}.part")
        try:
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True, exist_ok=True)
                (self.folder / ".gitignore").write_text("*\n")
            if shutil.disk_usage(self.folder).free < RESERVE + len(body):
                raise OSError(f"less than {RESERVE >> 30} GiB would be left on the disk")
            with open(part, "wb") as file:
                file.write(header.tobytes())
                file.write(body.data)
            os.replace(part, path)
        except OSError as error:
            self.writable.fill_(False)
            with suppress(OSError):
                part.unlink(missing_ok=True)
            warnings.warn(
                f"the cache {self.folder} cannot be filled further ({error.strerror or error}): "
                "images that are not in it are decoded every time; name another directory as "
                "`cache`, or none (null)",
                stacklevel=3,
            )


def _checksum(sizes: list[int], body: np.ndarray) -> int:
    return zlib.adler32(body, zlib.adler32(np.array(sizes, np.uint64).tobytes()))


def _digest(key: list) -> bytes:
    return hashlib.blake2b(json.dumps(key).encode(), digest_size=8).digest()
