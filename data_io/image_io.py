"""Image files, read by Pillow and checked before they are decoded.

Pillow ignores a PNG's checksums while it decodes, and would take damaged data for pixels.
`Image.verify` checks them, and leaves the image unusable, so that each file is opened twice.
"""

import io
import math
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

try:
    import pillow_heif
except ImportError:  # optional
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()

_OF_SUFFIX = Image.registered_extensions()  # which makes Pillow load all of its formats
PROGRAMS = {"EPS", "WMF"}  # for Ghostscript or Windows to run
NOT_DECODED = {"BUFR", "GRIB", "HDF5", "MPEG"}  # formats that Pillow only knows by name
FORMATS = sorted(set(Image.OPEN) - PROGRAMS - NOT_DECODED)
IMAGE_SUFFIXES = {suffix for suffix, name in _OF_SUFFIX.items() if name in FORMATS}
HEIF_SUFFIXES = {".heic", ".heif", ".hif"}
NEEDS_HEIF = "photographs in HEIC need pillow-heif: `pip install pillow-heif`"
SEVERAL_PICTURES = "MPO", "HEIF"  # of which the first is the photograph: previews, depth, bursts
# A few stray bytes before the end do no harm. Where damage shows by this alone, they are more.
STRAY = re.compile(r"Corrupt JPEG data: [1-8] extraneous bytes before marker 0xd9")
_stderr = threading.Lock()


def why_unread(paths: Iterable[Path], why: str) -> str:
    """Why files are not read: what HEIC needs if some are of it, else `why`."""
    return NEEDS_HEIF if any(path.suffix.lower() in HEIF_SUFFIXES for path in paths) else why


class UnfitImageError(ValueError):
    """An intact image of a form that is not wanted; says why, and the cure."""


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Within: an image file of one of `FORMATS`, verified and not decoded yet.

    Raises FileNotFoundError, or ValueError with the file's name for one that is damaged, is no
    image, or is larger than Pillow's limit (`Image.MAX_IMAGE_PIXELS`), also if that shows only
    when the block decodes it.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no image at {path}: restore it, or correct the path"
        ) from None
    except OSError as error:
        raise ValueError(
            f"{path} cannot be opened ({error.strerror}): it must be an image that you may read"
        ) from error
    try:
        Image.open(io.BytesIO(data), formats=FORMATS).verify()
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise Image.DecompressionBombError  # of which Pillow only warns up to twice that
            yield image
    except UnfitImageError as error:
        raise ValueError(f"{path} {error}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path} has more than {Image.MAX_IMAGE_PIXELS:,} pixels by its header: make it "
            "smaller, or raise PIL.Image.MAX_IMAGE_PIXELS (`--max-pixels` of predict.py)"
        ) from error
    except UnidentifiedImageError as error:
        cure = "restore it from where it came, or, if it is intact, convert it to JPEG or PNG"
        if pillow_heif is None and Path(path).suffix.lower() in HEIF_SUFFIXES:
            cure = NEEDS_HEIF
        raise ValueError(
            f"{path} ({len(data):,} bytes) is of no format that Pillow knows: {cure}"
        ) from error
    except Exception as error:  # decoders raise nearly anything
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path} cannot be read as an image ({cause}; {len(data):,} bytes): "
            "restore it from where it came"
        ) from error


def read_image(path: str | Path) -> Tensor:
    """An image file as RGB: (3, H, W) uint8; see `to_rgb`. Raises as `open_image`."""
    with open_image(path) as image:
        return to_rgb(image)


def jpeg_damage(path: str | Path) -> str:
    """What is wrong with the data of a JPEG; "" if nothing, or if the file is no JPEG.

    JPEG has no checksums, so that only libjpeg's warnings show damage. Pillow drops them;
    torchvision's libjpeg writes them to the process's stderr, which is read back here. Versions of
    torchvision without this decoder, which is deprecated, find nothing.
    """
    data, decode_jpeg = Path(path).read_bytes(), getattr(torchvision.io, "decode_jpeg", None)
    if not data.startswith(b"\xff\xd8") or decode_jpeg is None:
        return ""
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    with _stderr, tempfile.TemporaryFile() as said:
        try:
            kept = os.dup(2)
        except OSError:  # a process without stderr
            return ""
        os.dup2(said.fileno(), 2)
        try:
            with warnings.catch_warnings(action="ignore"):
                decode_jpeg(encoded)
        except RuntimeError:
            pass  # forms of JPEG that torchvision cannot decode and Pillow can
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        said.seek(0)
        text = said.read().decode(errors="replace")
    faults = re.findall(r"(?:Corrupt|Premature)[^\r\n]*", text)  # other threads write there, too
    if all(map(STRAY.fullmatch, faults)):
        return ""
    return (
        f"{path} is damaged, and parts of it are not what was photographed ({'; '.join(faults)}): "
        "restore it from where it came"
    )


def to_rgb(image: Image.Image, opaque: bool = True) -> Tensor:
    """A Pillow image as RGB, upright: (3, H, W) uint8.

    Grey and palettes become RGB; the camera's orientation tag (EXIF) is followed. Raises
    UnfitImageError, a ValueError, for what 8-bit RGB cannot hold: more than 8 bits a channel,
    several frames, and, if it must be `opaque`, transparent pixels.
    """
    if image.mode.startswith(("I", "F")) or ";16" in str(getattr(image, "tile", "")):
        raise UnfitImageError("has more than 8 bits a channel: save it with 8")
    if getattr(image, "is_animated", False) and image.format not in SEVERAL_PICTURES:
        raise UnfitImageError(f"holds {image.n_frames} frames: save the one that is meant")
    if opaque and image.has_transparency_data:
        if image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
            raise UnfitImageError("has transparent pixels: save it without an alpha channel")
    return pil_to_tensor(ImageOps.exif_transpose(image).convert("RGB"))


def encode(pixels: np.ndarray, form: str = "png", **options) -> bytes:
    """The bytes of an image file of (H, W) or RGB (H, W, 3) uint8; options are those of Pillow."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form, **options)
    return data.getvalue()


def read_grey(path: str | Path) -> Tensor:
    """The bytes of an 8-bit grey PNG, the form of label files: (H, W) uint8.

    Raises as `open_image`, and ValueError for any other form: a palette's indices are not the
    colours that one sees, and JPEG changes values.
    """
    with open_image(path) as image:
        if image.format != "PNG" or image.mode != "L" or "L;" in str(image.tile):
            raise UnfitImageError(
                f"is a {image.format} file of mode {image.mode}: labels are an 8-bit grey PNG of "
                "label ids (a *_labelIds.png, not a *_color.png)"
            )
        return torch.from_numpy(np.array(image))


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Height and width by an image file's header, once it is upright; None if it is no image."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # by 90 degrees
            return image.size if turned else image.size[::-1]
    except Exception:  # decoders raise nearly anything
        return None
