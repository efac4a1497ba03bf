"""Lists of classes, read as tools and data sets write them, and written as `classes.yaml`."""

import colorsys
import json
import re
from collections.abc import Iterable
from pathlib import Path

from prepare.masks import BACKGROUND, IGNORED
from utils import CITYSCAPES, Classes

VOID = {"void", "unlabeled", "unlabelled", "ignore", "ignored", IGNORED}  # are no classes
NAMES = """\
classes.yaml label_colors.txt labelmap.txt class_names.txt class_dict.csv _classes.csv config.json
config_v1.2.json config_v2.0.json rs19-config.json class_list.json dataset_meta.json
""".split()  # files that are taken for the list of the data set that they lie in
LINE = re.compile(
    r"""((?P<id>\d+)[\s,]+)?                              # Roboflow
    ((?P<camvid>\d+[\s,]+\d+[\s,]+\d+)[\s,]+)?
    (?P<name>[^\d\s:,][^:,]{0,60}?)                    # labelme has nothing else
    (:(?P<cvat>\d+,\s*\d+,\s*\d+)?:[^:]*:[^:]*)?       # and parts, and actions
    (\s*,\s*(?P<kaggle>\d+\s*,\s*\d+\s*,\s*\d+))?""",
    re.VERBOSE,
)
Row = tuple[str, int | None, tuple | None]  # name, id or its place in the list, colour or any


def read_class_list(path: Path) -> Classes:
    """The classes that a file lists.

    That is a `classes.yaml`, or a list of CamVid, CVAT, datumaro, labelme, Kaggle, Roboflow,
    Mapillary, RailSem19 or A2D2 (see docs/own-data.md). Where it gives no ids, a class's id is its
    place from 0 on; what is called void or unlabeled is ignored. Raises FileNotFoundError, or
    ValueError with the file's name.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no list of classes {path}: correct the path")
    suffix = path.suffix.lower()
    if suffix not in (".txt", ".csv", ".json"):
        return Classes.from_file(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if suffix == ".csv":
            columns, _, text = text.partition("\n")
            if not re.search("name|class|label", columns.lower()):
                raise ValueError("it has no column name")
        rows = _read_json(text) if suffix == ".json" else _read_lines(text)
        first = -1 if rows and rows[0][0] == IGNORED else 0  # of labelme, whose ids begin behind it
        kept = [
            (name, place if i is None else i, tuple(color or color_of(place)))
            for place, (name, i, color) in enumerate(rows, first)
            if name.lower() not in VOID
        ]
        if not kept:
            raise ValueError("it lists no class")
        return Classes(*zip(*kept, strict=True))
    except Exception as error:  # parsers raise nearly anything
        raise ValueError(
            f"{path} is no list of classes that is known ({error}): write a classes.yaml, a line "
            "each such as `- {name: road, id: 7, color: [128, 64, 128]}`"
        ) from error


def _read_lines(text: str) -> list[Row]:
    rows = []
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        row = LINE.fullmatch(line.replace('"', ""))
        if row is None:
            raise ValueError(
                f"a line is `128 64 128 road` or `road:128,64,128::`, not `{line[:60]}`"
            )
        color = row["camvid"] or row["cvat"] or row["kaggle"] or ""
        color = tuple(map(int, re.findall(r"\d+", color)))
        rows.append((row["name"], int(row["id"]) if row["id"] else None, color or None))
    if len({color is None for _, _, color in rows}) > 1:
        raise ValueError("some of its classes have a colour and some have none")
    return rows


def _read_json(text: str) -> list[Row]:
    """`labels` of name and color (Mapillary, RailSem19), a name of each colour (A2D2, `#ff0000`),
    or a name of each id (datumaro)."""
    content = json.loads(text)
    if "label_map" in content:
        colors = content.get("segmentation_colors") or [None] * len(content["label_map"])
        items = zip(content["label_map"].items(), colors, strict=True)
        return [(name, int(i), color) for (i, name), color in items]
    if isinstance(content.get("labels"), list):
        rows = content["labels"]
        return [(r["name"] if r.get("evaluate", True) else "void", None, r["color"]) for r in rows]
    return [(name, None, tuple(bytes.fromhex(key.lstrip("#")))) for key, name in content.items()]


def find_class_list(directories: Iterable[Path]) -> Path | None:
    """The list that lies in one of the data set's directories; None if there is none.

    Raises ValueError for several that differ.
    """
    lists = {}
    for path in sorted({folder / name for folder in directories for name in NAMES}):
        try:
            lists |= {path: read_class_list(path)} if path.is_file() else {}
        except ValueError:
            if path.suffix != ".json":  # which may be of anything
                raise
    first = next(iter(lists), None)
    if other := next((path for path in lists if lists[path] != lists[first]), None):
        raise ValueError(f"{first} and {other} list other classes: say which with --classes")
    return first


def color_of(index: int) -> tuple[int, int, int]:
    """A colour for each of many classes, neighbours far apart."""
    rgb = colorsys.hsv_to_rgb(index * 0.618 % 1, 0.6 + 0.4 * (index % 2), 0.95 - 0.15 * (index % 3))
    return tuple(round(255 * value) for value in rgb)


def as_yaml(classes: Classes, comments: dict[int, str]) -> str:
    """The text of a `classes.yaml`.

    comments: id -> what is said at the end of its line; ids of no class are listed in a comment.
    """
    lines = []
    for name, i, color in zip(classes.names, classes.ids, classes.colors, strict=True):
        row = f"- {{name: {json.dumps(name, ensure_ascii=False)}, id: {i}, color: {list(color)}}}"
        lines.append(row + (f"  # {comments[i]}" if i in comments else ""))
    for i in comments.keys() - set(classes.ids):
        lines.append(f"# - {{name: class {i}, id: {i}, color: [0, 0, 0]}}  # {comments[i]}")
    return "\n".join(lines) + "\n"


def values_of_names(classes: Classes) -> dict[str, int]:
    """The values that shapes of these names are drawn with; the rest is `void_of` the classes."""
    values = dict(zip(classes.names, classes.ids, strict=True))
    background = values.get("background", void_of(classes))
    return {BACKGROUND: background, IGNORED: void_of(classes)} | values


def void_of(classes: Classes) -> int:
    """An id of no class, for what is not labelled: Cityscapes' `unlabeled`, else the highest."""
    return 0 if classes == CITYSCAPES else max({*range(256)} - {*classes.ids})
