"""The masks of a data set: files of many forms, read as values or colours."""

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from data_io.image_io import UnfitImageError, open_image, to_rgb

TRANSPARENT = 1 << 24  # a value that is no colour and no id: not labelled
BACKGROUND, IGNORED = "_background_", "__ignore__"  # labelme's names: no shape, and not labelled
LOSSY = "JPEG", "MPO", "WEBP", "AVIF", "HEIF", "JPEG2000"
LINE, POINT = 10, 5  # labelme's width of lines and radius of points, in pixels
FORMS = {  # keys of a JSON file -> what it is, and the cure
    ("annotations", "categories"): "COCO's annotations: draw masks first (pycocotools: annToMask)",
    ("objects", "size"): "Supervisely's annotation: export it as masks (`masks_machine`)",
    ("imgHeight", "objects"): "polygons of Cityscapes' form: draw them with cityscapesScripts",
    ("type", "features"): "GeoJSON: draw masks first (rasterio.features.rasterize)",
    (): "JSON of a form that is not known: labelme's files have `shapes`",
}
SUFFIXES = {
    ".mat": "MATLAB's: save its array as .npy (scipy.io.loadmat)",
    ".npz": "several arrays: save the one of labels as .npy",
    ".txt": "text, such as YOLO's polygons: draw masks first",
    ".xml": "XML, such as the annotations of CVAT or VOC: export masks",
    ".h5": "HDF5: save the array of labels as .npy",
}
_header = Lock()  # of an array: numpy parses it as Python, where 3.11 fails in several threads


class Form(NamedTuple):
    """How masks are read."""

    colors: bool = False  # as 0xRRGGBB; else as bytes, or the indices of a palette
    targets: Collection[int] | None = None  # pixels take the nearest; None: JPEG is refused
    names: dict[str, int] = {}  # noqa: RUF012 the values of labelme's shapes
    palette: Collection[int | None] = ()  # the colour of each index that occurs


def read_values(path: Path, form: Form) -> np.ndarray:
    """A mask: (H, W), uint8 of its bytes or indices, or int32 of 0xRRGGBB and `TRANSPARENT`.

    Grey of up to 16 bits and grey saved as RGB are read as bytes, palettes as indices; arrays of
    numpy and labelme's shapes as well. Raises as `open_image`, and ValueError for a JPEG, for
    colours where bytes are expected, for values above 255, and as `to_rgb`.
    """
    if path.suffix.lower() == ".json":
        return draw_shapes(path, form.names)
    if path.suffix.lower() == ".npy":
        try:
            values = _values_of(Image.fromarray(_read_array(path)), form.colors)
        except UnfitImageError as error:
            raise ValueError(f"{path} {error}") from None
        return _nearest(values, form.targets) if form.targets else values
    with open_image(path) as image:
        if image.format in LOSSY and form.targets is None:
            raise UnfitImageError(
                f"was saved as {image.format}, which changes values: export the masks as PNG, or, "
                "if they are in colours, have the nearest colours taken with --nearest-color"
            )
        values = _values_of(image, form.colors)
    return _nearest(values, form.targets) if form.targets else values


def _read_array(path: Path) -> np.ndarray:
    """An array of numpy, (H, W) or of RGB (H, W, 3), as uint8; -1, labelme's ignored, is 255."""
    try:
        with _header:
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
    if not (ids.dtype.kind in "biuf" and ids.size and (ids == np.clip(ids, 0, 255).round()).all()):
        raise UnfitImageError(f"holds {values.dtype} that are no ids 0..255: correct it")
    return ids.astype(np.uint8)


def _values_of(image: Image.Image, colors: bool) -> np.ndarray:
    if getattr(image, "n_frames", 1) > 1:
        raise UnfitImageError(f"holds {image.n_frames} images: save the one that is meant")
    upright, tile = ImageOps.exif_transpose, str(getattr(image, "tile", ""))
    if not colors and image.mode in ("1", "L", "P"):
        # Pillow spreads grey of 2 and 4 bits, and that of a PGM with another maximum than 255.
        scale = 85 if "L;2" in tile else 17 if "L;4" in tile else 1
        if found := re.search(r"'ppm(?:_plain)?',.*\('L', (\d+)\)", tile):
            scale = 255 / int(found[1])
        values = np.array(upright(image)).astype(np.uint8)
        values = values if scale == 1 else (values / scale).round().astype(np.uint8)
    elif not colors and image.mode.startswith("I"):  # 16 bits
        values = np.array(upright(image))
        if not 0 <= values.min() <= values.max() <= 255:
            raise UnfitImageError(
                f"holds values up to {values.max()}: ids are 0..255 (are these instance ids?)"
            )
        values = values.astype(np.uint8)
    else:
        rgb = to_rgb(image, opaque=False).numpy()
        if not colors and (rgb != rgb[:1]).any():
            raise UnfitImageError(
                "is in colours, but ids are grey or the indices of a palette: use --labels colors, "
                "or leave only masks of one kind in the directory"
            )
        values = pack(rgb.astype(np.int32)) if colors else rgb[0]
    if not image.has_transparency_data:
        return values
    hidden = np.array(upright(image).convert("RGBA").getchannel("A")) == 0
    return np.where(hidden, TRANSPARENT, values.astype(np.int32))


def _nearest(values: np.ndarray, targets: Collection[int]) -> np.ndarray:
    found, index = np.unique(values, return_inverse=True)
    distances = [((split_rgb(found) - split_rgb(target)) ** 2).sum(-1) for target in targets]
    taken = np.where(found == TRANSPARENT, found, np.array(targets)[np.argmin(distances, 0)])
    return taken[index].reshape(values.shape)


def are_colored(masks: list[Path]) -> bool:
    """Whether any of some masks is in colours, without a palette. Passes over damaged files."""
    for path in masks:
        try:
            values = read_values(path, Form(colors=True, targets=()))
            visible = values[values != TRANSPARENT]
            if (visible != (visible & 255) * 0x010101).any() and not palette_of(path):
                return True
        except (OSError, ValueError):
            pass
    return False


def palette_of(path: Path) -> list[int]:
    """The colours of a palette image, as 0xRRGGBB; [] for others."""
    if path.suffix.lower() in (".npy", ".json"):
        return []
    with open_image(path) as image:
        flat = image.getpalette("RGB") if image.mode == "P" else []
    return [*map(pack, zip(flat[::3], flat[1::3], flat[2::3], strict=True))]


def sample(items: list, size: int = 20) -> list:
    """Up to `size` items, evenly spaced."""
    return [items[i * len(items) // size] for i in range(size)] if len(items) > size else items


# Labelme's shapes, and what other files are


def read_shapes(path: Path) -> dict:
    """The content of a labelme file. Raises ValueError, by what it is, for any other."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or no JSON ({error}): restore it") from error
    keys = content.keys() if isinstance(content, dict) else set()
    if {"shapes", "imageHeight", "imageWidth"} <= keys:
        return content
    raise ValueError(f"{path} is {next(FORMS[needed] for needed in FORMS if {*needed} <= keys)}")


def what_is(path: Path) -> str:
    """What is wrong with a file that is no mask, by what it is; "" where that is not known."""
    if path.suffix.lower() in (".json", ".geojson"):
        try:
            read_shapes(path)
        except ValueError as error:
            return str(error)
    kind = SUFFIXES.get(path.suffix.lower())
    return f"{path} is {kind}" if kind else ""


def shape_names(path: Path) -> set[str]:
    """The labels of the shapes in a labelme file. Raises ValueError for another file."""
    try:
        labels = [shape["label"] for shape in read_shapes(path)["shapes"]]
        if other := [label for label in labels if not isinstance(label, str)]:
            raise TypeError(f"{other[0]!r} is no text")
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: a shape has no label ({error!r}): repair it") from error
    return {*labels} - {BACKGROUND}


def draw_shapes(path: Path, values: dict[str, int]) -> np.ndarray:
    """The shapes of a labelme file, as `labelme2voc` draws them: (H, W) uint8.

    values: of each label, and of `BACKGROUND`. Raises ValueError for another file, a
    label without a value, and a kind of shape that is not known.
    """
    content = read_shapes(path)
    try:
        size = int(content["imageWidth"]), int(content["imageHeight"])
        mask = Image.new("L", size, values[BACKGROUND])
        for shape in content["shapes"]:
            if shape["label"] not in values:
                raise ValueError(f"no class is called {shape['label']!r}: add it to the classes")
            _draw(mask, shape, values[shape["label"]])
    except Exception as error:  # shapes may hold nearly anything
        raise ValueError(f"{path} cannot be drawn ({error}): correct it") from error
    return np.array(mask)


def _draw(mask: Image.Image, shape: dict, value: int) -> None:
    pen, kind = ImageDraw.Draw(mask), shape.get("shape_type") or "polygon"
    points = [(float(x), float(y)) for x, y in shape["points"]]
    (x, y), (x2, y2) = points[0], points[-1]
    radius = POINT if kind == "point" else np.hypot(x2 - x, y2 - y)
    if kind in ("polygon", "rotation"):
        pen.polygon(points, value, value)
    elif kind == "rectangle":  # of two corners, X-AnyLabeling's of four
        xs, ys = zip(*points, strict=True)
        pen.rectangle([min(xs), min(ys), max(xs), max(ys)], value, value)
    elif kind in ("circle", "point"):
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], value, value)
    elif kind in ("line", "linestrip"):
        pen.line(points, value, LINE)
    elif kind == "mask":
        drawn = Image.open(io.BytesIO(base64.b64decode(shape["mask"])), formats=["PNG"])
        inside = Image.fromarray(np.array(drawn.convert("L")) > 0)  # 0 and 1, or 0 and 255
        mask.paste(value, (int(x), int(y)), inside)
    else:
        raise ValueError(f"a shape of the kind {kind!r} is not known")


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
    """0xRRGGBB as RGB: of a value, or of an array."""
    return value >> 16, value >> 8 & 255, value & 255


def split_rgb(values: Iterable[int]) -> np.ndarray:
    """0xRRGGBB (...) as RGB (..., 3) float64."""
    return np.stack(unpack(np.asarray(values)), -1).astype(np.float64)


def show(values: Iterable[int], colored: bool) -> str:
    """Up to ten values as text."""
    first = sorted(values)[:10]
    texts = [str(unpack(value) if colored else value) for value in first]
    texts = ["transparent" if v == TRANSPARENT else t for v, t in zip(first, texts, strict=True)]
    return ", ".join(texts) + (", ..." if len(values) > 10 else "")
