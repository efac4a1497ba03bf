"""Small files that tests write and spoil, and what they find in a folder afterwards."""

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

NOISE = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options) -> Path:
    """Write an image, in a directory that is made for it, in a mode of Pillow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def png(width: int, height: int, rows: bytes, bits=8, color=2, text=b"") -> bytes:
    """A PNG of this header (2: RGB, 0: grey), rows and compressed text, with right checksums."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    if text:
        chunks.insert(1, (b"zTXt", b"Comment\0\0" + zlib.compress(text, 1)))
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        content += struct.pack(">I", len(body)) + name + body
        content += struct.pack(">I", zlib.crc32(name + body))
    return content


def turned(orientation: int = 6) -> Image.Exif:
    """The tag of a camera that lay on its side."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def cut(path: Path, keep: float) -> Path:
    """Leave a share of a file, or take so many bytes off its end."""
    size = path.stat().st_size
    os.truncate(path, int(size * keep) if keep >= 0 else size + int(keep))
    return path


def patched(content: bytes, *changes: tuple[int, bytes]) -> bytes:
    """A content with other bytes from some places on."""
    data = bytearray(content)
    for place, value in changes:
        data[place : place + len(value)] = value
    return bytes(data)


def flip_bit(path: Path) -> Path:
    """Change a bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    return path


def move(paths: Iterable[Path], target: Callable[[Path], Path]) -> None:
    """Rename files, into directories that are made for them."""
    for path in list(paths):
        target(path).parent.mkdir(exist_ok=True)
        path.rename(target(path))


def first(tree: Path, kind: str = "leftImg8bit", split: str = "train") -> Path:
    """The first image of a split, or its labels."""
    return min((tree / kind / split).rglob("*.png"))


def pack(root: Path, to: Path) -> None:
    """Zip the images and the fine labels of a tree, as Cityscapes is published."""
    for kind in ("leftImg8bit", "gtFine"):
        with zipfile.ZipFile(to / f"{kind}_trainvaltest.zip", "w") as file:
            for path in sorted((root / kind).rglob("*.png")):
                file.write(path, path.relative_to(root))


def contents(root: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder, by its relative path."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def times(root: Path) -> dict[Path, int]:
    """When each file and folder below a folder was last written, in ns."""
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}
