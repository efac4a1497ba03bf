"""The masks of a data set: files of many forms, read as values or colours."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from data_io.image_io import UnfitImageError, open_image, to_rgb
from prepare.polygons import draw_shapes

TRANSPARENT = 1 << 24  # a value that is no colour and no id: not labelled


class Form(NamedTuple):
    """How masks are read.

    Attributes:
        colors: by their colours, as 0xRRGGBB; else by bytes or a palette's indices.
        lossy: JPEG is taken, too.
        targets: the colours of which each pixel takes the nearest; none: as they are.
        names: the values of the labels of labelme's shapes.
        palette: RGB of each index, of masks with a palette that are read by index.
    """

    colors: bool = False
    lossy: bool = False
    targets: tuple[int, ...] = ()
    names: dict[str, int] = {}  # noqa: RUF012
    palette: tuple[tuple[int, int, int], ...] = ()


def read_values(path: Path, form: Form) -> np.ndarray:
    """A mask: (H, W), uint8 of its bytes or indices, or int32 of 0xRRGGBB and `TRANSPARENT`.

    Grey of up to 16 bits and grey saved as RGB are read as bytes, palettes as indices; arrays of
    numpy and labelme's shapes as well. Raises as `open_image`, and ValueError for a JPEG, for
    colours where bytes are expected, for values above 255, and as `to_rgb`.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        return draw_shapes(path, form.names)
    if suffix == ".npy":
        try:
            values = _values_of(Image.fromarray(_read_array(path)), form)
        except UnfitImageError as error:
            raise ValueError(f"{path} {error}") from None
    else:
        with open_image(path) as image:
            if image.format in ("JPEG", "MPO") and not form.lossy:
                raise UnfitImageError(
                    "is a JPEG, which changes values: export the masks as PNG, or, if they are in "
                    "colours, have the nearest colours taken with --nearest-color"
                )
            values = _values_of(image, form)
    return _nearest(values, form.targets) if form.targets else values


def _read_array(path: Path) -> np.ndarray:
    """An array of numpy, (H, W) or of RGB (H, W, 3), as uint8; -1, labelme's ignored, is 255."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an array ({error}): restore it") from error
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.squeeze(0 if values.shape[0] == 1 else 2)
    if values.ndim != 2 and values.shape[2:] != (3,):
        raise UnfitImageError(
            f"has the shape {values.shape}, not height and width: if it holds a score for each "
            "class, save its argmax"
        )
    ids = np.where(values == -1, 255, values)
    fits = ids.dtype.kind in "biuf" and ids.size and (ids == np.clip(ids, 0, 255).round()).all()
    if not fits:
        raise UnfitImageError(f"holds {values.dtype} that are no ids 0..255: correct it")
    return ids.astype(np.uint8)


def _values_of(image: Image.Image, form: Form) -> np.ndarray:
    upright = ImageOps.exif_transpose
    if not form.colors and image.mode.startswith("I"):  # 16 bits
        values = np.array(upright(image))
        if not 0 <= values.min() <= values.max() <= 255:
            raise UnfitImageError(
                f"holds values up to {values.max()}: ids are 0..255 (are these instance ids?)"
            )
        return values.astype(np.uint8)
    if not form.colors and image.mode in ("1", "L", "P"):
        scale = {"L;2": 85, "L;4": 17}  # of Pillow, which spreads two and four bits to eight
        raw = next((mode for mode in scale if mode in str(getattr(image, "tile", ""))), None)
        return np.array(upright(image)).astype(np.uint8) // scale.get(raw, 1)
    rgb = to_rgb(image, opaque=False).numpy()
    if form.colors:
        values = pack(rgb.astype(np.int32))
    elif (rgb == rgb[:1]).all():
        values = rgb[0]
    else:
        raise UnfitImageError(
            "is in colours, but ids are grey or the indices of a palette: use --labels colors, "
            "or leave only masks of one kind in the directory"
        )
    if not image.has_transparency_data:
        return values
    hidden = np.array(upright(image).convert("RGBA").getchannel("A")) == 0
    if hidden.all():
        raise UnfitImageError("is transparent everywhere: export the masks without transparency")
    return np.where(hidden, TRANSPARENT, values.astype(np.int32))


def _nearest(values: np.ndarray, targets: tuple[int, ...]) -> np.ndarray:
    """Each colour replaced by the nearest of some, in RGB; what is transparent stays."""
    found, index = np.unique(values, return_inverse=True)
    known = np.array(targets, np.int32)
    apart = [((split_rgb(found) - split_rgb(np.array([t]))) ** 2).sum(1) for t in targets]
    taken = np.where(found == TRANSPARENT, found, known[np.argmin(apart, 0)])
    return taken[index].reshape(values.shape)


def are_colored(masks: list[Path]) -> bool:
    """Whether any of some masks is in colours, without a palette. Passes over damaged files."""
    for path in masks:
        try:
            if path.suffix.lower() != ".json" and not palette_of(path):
                values = read_values(path, Form(colors=True, lossy=True))
                if ((values != (values & 255) * 0x010101) & (values != TRANSPARENT)).any():
                    return True
        except (OSError, ValueError):
            continue
    return False


def palette_of(path: Path) -> tuple[tuple[int, int, int], ...]:
    """The colours of a palette image; () for others."""
    if path.suffix.lower() in (".npy", ".json"):
        return ()
    with open_image(path) as image:
        flat = image.getpalette("RGB") if image.mode == "P" else None
    return tuple(zip(*[iter(flat or [])] * 3, strict=True))


def sample(items: list, size: int = 20) -> list:
    """Up to `size` items, evenly spaced."""
    return [items[i * len(items) // size] for i in range(size)] if len(items) > size else items


# Values


def count(values: np.ndarray) -> Counter:
    """Value -> number of pixels, of what `read_values` returns."""
    found, numbers = np.unique(values, return_counts=True)
    return Counter(dict(zip(found.tolist(), numbers.tolist(), strict=True)))


def translate(values: np.ndarray, ids: dict[int, int]) -> np.ndarray:
    """The ids of the label files that the values of a mask become: (H, W) uint8."""
    known = np.array(sorted(ids), dtype=np.int32)
    table = np.array([ids[value] for value in known.tolist()], dtype=np.uint8)
    return table[np.searchsorted(known, values)]


def pack(color: Iterable) -> int:
    """RGB as 0xRRGGBB: of a colour, or of arrays of int32."""
    r, g, b = color
    return r << 16 | g << 8 | b


def unpack(value: int) -> tuple[int, int, int]:
    """0xRRGGBB as RGB."""
    return value >> 16, value >> 8 & 255, value & 255


def split_rgb(values: np.ndarray) -> np.ndarray:
    """0xRRGGBB (n,) as RGB (n, 3) float64."""
    return np.stack(unpack(values), 1).astype(np.float64)


def show(values: Iterable[int], colored: bool) -> str:
    """Up to ten values as text."""
    values = sorted(values)
    texts = [str(unpack(value)) if colored else str(value) for value in values[:10]]
    texts = ["transparent" if v == TRANSPARENT else t for v, t in zip(values, texts, strict=False)]
    return ", ".join(texts) + (", ..." if len(values) > 10 else "")
