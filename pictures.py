"""Picture files, checked before they are decoded: what is damaged is named, never guessed at.

torchvision decodes PNG faster than Pillow, but where a PNG's data are damaged its libpng ends
the whole process (0.29: a segmentation fault), and Pillow may take the rest for pixels. So a
PNG's own checksums come first (half a millisecond for Cityscapes' 2.6 MB). torchvision then
decodes the plain ones, 8 bits of grey or RGB, and Pillow all others.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2.functional import pil_to_tensor

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB = 0, 2  # PNG's colour types
COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGB and alpha"}


def read_picture(path: str | Path) -> Tensor:
    """A picture file of any common format as RGB: (3, H, W) uint8.

    Grey and palettes become RGB; a camera's note on how to turn the picture is not followed.
    Raises FileNotFoundError, or ValueError with the file's name for what is damaged or no
    picture, and for what 8-bit RGB cannot say: more bits, transparency, several frames.
    """
    data = _read(path)
    try:
        if png_kind(data) in ((8, GREY, True), (8, RGB, True)):
            return decode_image(torch.from_numpy(data), mode=ImageReadMode.RGB)
        with Image.open(io.BytesIO(data)) as picture:
            if not (why := unfit(picture)):
                return pil_to_tensor(picture.convert("RGB"))
    except Exception as error:  # decoders raise nearly anything
        raise _damaged(path, error, len(data)) from error
    raise ValueError(f"{path} {why}")


def read_grey(path: str | Path) -> Tensor:
    """The bytes of a grey PNG, the form of labels: (H, W) uint8. Raises as `read_picture`.

    Nothing else will do: a palette's numbers are not what is seen, JPEG changes numbers.
    """
    data = _read(path)
    try:
        kind = png_kind(data)
        if kind == (8, GREY, True):
            return decode_image(torch.from_numpy(data), mode=ImageReadMode.UNCHANGED)[0]
        with Image.open(io.BytesIO(data)) as picture:
            if kind and kind[:2] == (8, GREY):
                return pil_to_tensor(picture)[0]
            name = picture.format
    except Exception as error:
        raise _damaged(path, error, len(data)) from error
    found = f"PNG of {kind[0]}-bit {COLOURS.get(kind[1])}" if kind else f"{name} file"
    raise ValueError(
        f"{path} is a {found}: labels are an 8-bit grey PNG of Cityscapes ids "
        "(a *_labelIds.png, not a *_color.png)"
    )


def unfit(picture: Image.Image) -> str:
    """Why 8-bit RGB cannot say what `picture` shows, and the cure; "" if it can."""
    if picture.mode.startswith(("I", "F")) or ";16" in str(getattr(picture, "tile", "")):
        return "has more than 8 bits a channel: save it with 8"
    if getattr(picture, "is_animated", False) and picture.format != "MPO":  # a photo's preview
        return f"holds {picture.n_frames} frames: save the one that is meant"
    if picture.has_transparency_data:
        if picture.convert("RGBA").getchannel("A").getextrema()[0] < 255:
            return "has transparent pixels: save it without alpha, on the ground that is meant"
    return ""


def png_kind(data: np.ndarray) -> tuple[int, int, bool] | None:
    """(bits a channel, colour type, whether plain) of a PNG; None for another format.

    Plain is a PNG without what changes the reading of its pixels, and of a size that Pillow
    does not call a bomb. Raises ValueError if the file is not what was once written.
    """
    data, at, packed, head = memoryview(data), 8, 0, None
    if data[:8] != SIGNATURE:
        return None
    while at + 12 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        body, end = data[at + 8 : at + 8 + length], at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise ValueError(f"wrong checksum of the part at byte {at}")
        if head is None:
            if name != b"IHDR" or length != 13:
                raise ValueError("no header at its start")
            width, height, *head, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            plain = not interlaced and width * height <= Image.MAX_IMAGE_PIXELS
        elif name == b"IDAT":
            packed += length
        elif name == b"IEND":
            # deflate packs at most 1032 to 1 (https://zlib.net/zlib_tech.html)
            if not width * height or height * (1 + width * head[0] // 8) > 1032 * (packed + 1):
                raise ValueError(f"{width}x{height} by its header, but not by its data")
            return *head, plain
        elif name[:1].isupper() or name in (b"tRNS", b"acTL"):
            plain = False
        at = end
    raise ValueError("its end is missing")


def _read(path: str | Path) -> np.ndarray:
    try:
        return np.fromfile(path, np.uint8)
    except FileNotFoundError:
        message = f"there is no picture at {path}: restore it, or mend the path"
        raise FileNotFoundError(message) from None
    except OSError as error:
        raise ValueError(
            f"{path} cannot be opened ({error.strerror}): a picture that you may read must be there"
        ) from error


def _damaged(path: str | Path, error: Exception, size: int) -> ValueError:
    cause = str(error).strip().splitlines()
    if isinstance(error, UnidentifiedImageError):
        cause = ["of no format that is known"]
    return ValueError(
        f"{path} cannot be read as a picture ({cause[0] if cause else type(error).__name__}; "
        f"{size:,} bytes): restore it from where it came"
    )
