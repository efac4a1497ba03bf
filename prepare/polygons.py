"""Labels that are no pictures: labelme's shapes, which are drawn, and others, which are named."""

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

BACKGROUND, IGNORED = "_background_", "__ignore__"  # labelme's names: no shape, and not labelled
LINE, POINT = 10, 5  # labelme's width of lines and radius of points, in pixels
FORMS = {  # keys of a JSON file -> what it is, and the cure
    ("annotations", "categories"): "COCO's annotations: draw masks first (pycocotools: annToMask)",
    ("objects", "size"): "Supervisely's annotation: export it as masks (`masks_machine`)",
    ("imgHeight", "objects"): "polygons of Cityscapes' form: draw them with cityscapesScripts",
    ("instance_map",): "BDD100K's list: take its masks",
    ("type", "features"): "GeoJSON: draw masks first (rasterio.features.rasterize)",
    (): "JSON of a form that is not known: labelme's files have `shapes`",
}
SUFFIXES = {
    ".mat": "MATLAB's: save its array as .npy (scipy.io.loadmat)",
    ".npz": "several arrays: save the one of labels as .npy",
    ".txt": "text, such as YOLO's polygons: draw masks first",
    ".xml": "XML, such as the annotations of CVAT or VOC: export masks",
    ".svg": "drawings: export masks as PNG",
    ".h5": "HDF5: save the array of labels as .npy",
    ".tfrecord": "TensorFlow's records: save each mask as PNG",
}


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
    suffix = path.suffix.lower()
    if suffix == ".json":
        try:
            read_shapes(path)
        except ValueError as error:
            return str(error)
    return f"{path} is {SUFFIXES[suffix]}" if suffix in SUFFIXES else ""


def shape_names(path: Path) -> set[str]:
    """The labels of the shapes in a labelme file. Raises ValueError for another file."""
    try:
        return {shape["label"] for shape in read_shapes(path)["shapes"]} - {BACKGROUND, IGNORED}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: a shape has no label ({error!r}): repair it") from error


def draw_shapes(path: Path, values: dict[str, int]) -> np.ndarray:
    """The shapes of a labelme file, as `labelme2voc` draws them: (H, W) uint8.

    values: of each label, and of `BACKGROUND` and `IGNORED`. Raises ValueError for another file, a
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
    if kind == "polygon":
        pen.polygon(points, fill=value, outline=value)
    elif kind == "rectangle":
        box = [min(x, x2), min(y, y2), max(x, x2), max(y, y2)]
        pen.rectangle(box, fill=value, outline=value)
    elif kind in ("circle", "point"):
        radius = POINT if kind == "point" else np.hypot(x2 - x, y2 - y)
        box = [x - radius, y - radius, x + radius, y + radius]
        pen.ellipse(box, fill=value, outline=value)
    elif kind in ("line", "linestrip"):
        pen.line(points, fill=value, width=LINE)
    elif kind == "mask":
        drawn = Image.open(io.BytesIO(base64.b64decode(shape["mask"])), formats=["PNG"])
        mask.paste(value, (int(x), int(y)), drawn.convert("1"))
    else:
        raise ValueError(f"a shape of the kind {kind!r} is not known")
