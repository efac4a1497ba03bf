"""Lists of classes, read as tools and data sets write them, and written as `classes.yaml`."""

import colorsys
import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_io.image_io import read_grey
from prepare.masks import BACKGROUND, IGNORED
from utils import CITYSCAPES, Classes

VOID = {"void", "unlabeled", "unlabelled", "ignore", "ignored", IGNORED}  # names of no class
NAMES = """\
classes.yaml label_colors.txt labelmap.txt class_names.txt class_dict.csv _classes.csv config.json
config_v1.2.json config_v2.0.json rs19-config.json class_list.json dataset_meta.json
""".split()  # files that are taken for the list of the data set beside them
OF_TOOLS = ".txt", ".csv", ".json"  # suffixes of lists that other tools write
LINE = re.compile(  # an id or a colour, the name, a colour, and what CVAT adds
    r"(?:([\d\s,]*\d)[\s,]+)?"
    r"([^\d\s:,][^:,]{0,60}?)"
    r"(?:[\s:,]+(\d+[\s,]+\d+[\s,]+\d+))?"
    r"\s*(?::?(?::[^:]*){2})?"
)
Row = tuple[str, int | None, tuple | None]  # name, id and colour, as far as they are listed
Color = tuple[int, int, int]


def read_class_list(path: Path) -> tuple[Classes, list[Color] | None]:
    """The classes that a file lists, and the colours that it gives to what is ignored.

    The file is a `classes.yaml`, or a list of CamVid, CVAT, datumaro, labelme, Kaggle, Roboflow,
    Mapillary, RailSem19 or A2D2 (see docs/own-data.md). Without ids, classes are numbered from 0
    in their order. In other lists than a `classes.yaml`, classes called void or unlabeled are
    ignored. A `classes.yaml` lists nothing else than classes, so that the colours are None.

    Raises FileNotFoundError, or ValueError with the file's name.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no list of classes {path}: correct the path")
    if path.suffix.lower() not in OF_TOOLS:
        return Classes.from_file(path), None
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _read_json(text) if path.suffix.lower() == ".json" else _read_lines(text, path)
        first = -1 if rows and rows[0][0] == IGNORED else 0  # labelme counts from it on
        classes = [
            (name, number if i is None else i, tuple(color or color_of(number)))
            for number, (name, i, color) in enumerate(rows, first)
            if name.lower() not in VOID
        ]
        if not classes:
            raise ValueError("it lists no class")
        voids = [tuple(color) for name, _, color in rows if name.lower() in VOID and color]
        return Classes(*zip(*classes, strict=True)), voids
    except Exception as error:  # parsers raise nearly anything
        raise ValueError(
            f"{path} is no list of classes that is known ({error}): write a classes.yaml, a line "
            "each such as `- {name: road, id: 7, color: [128, 64, 128]}`"
        ) from error


def _read_lines(text: str, path: Path) -> list[Row]:
    lines = [line.strip() for line in text.replace('"', "").replace(";", ",").splitlines()]
    if path.suffix.lower() == ".csv":
        columns, *lines = lines or [""]
        if not re.search("name|class|label", columns.lower()):
            raise ValueError("it has no column name")
    rows = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        found = LINE.fullmatch(line)
        before, name, after = found.groups("") if found else ("1 2", "", "")
        numbers = tuple(map(int, re.findall(r"\d+", f"{before} {after}")))
        if len(numbers) not in (0, 1, 3, 4):
            raise ValueError(f"a line is `1 2 3 road` or `road:1,2,3::`, not `{line[:60]}`")
        i = numbers[0] if len(numbers) in (1, 4) else None
        rows.append((name, i, numbers[-3:] if len(numbers) >= 3 else None))
    ends = [re.fullmatch(r"(.*?)\s+(\d[\d\s]*)", name) for name, _, _ in rows]
    if all(ends) and all(i is None for _, i, _ in rows):  # road 7
        rows = [(end[1], int(end[2]), row[2]) for end, row in zip(ends, rows, strict=True)]
    if len({color is None for _, _, color in rows}) > 1:
        raise ValueError("some of its classes have a colour and some have none")
    return rows


def _read_json(text: str) -> list[Row]:
    content = json.loads(text)
    if "label_map" in content:  # datumaro
        names = content["label_map"]
        colors = content.get("segmentation_colors") or [None] * len(names)
        return [(names[i], int(i), color) for i, color in zip(names, colors, strict=True)]
    if isinstance(content.get("labels"), list):  # Mapillary, RailSem19
        rows = content["labels"]
        return [(r["name"] if r.get("evaluate", True) else "void", None, r["color"]) for r in rows]
    return [(content[key], None, tuple(bytes.fromhex(key[1:]))) for key in content]  # A2D2


def find_class_list(
    directories: Iterable[Path],
) -> tuple[Path, Classes, list[Color] | None] | None:
    """The list in one of the data set's directories, as `read_class_list`; None if there is none.

    Raises ValueError for several that differ.
    """
    lists = []
    for path in sorted({folder / name for folder in directories for name in NAMES}):
        try:
            lists += [(path, *read_class_list(path))] if path.is_file() else []
        except ValueError:
            if path.suffix != ".json":  # which may hold anything
                raise
    for path, classes, _ in lists[1:]:
        if classes != lists[0][1]:
            raise ValueError(f"{lists[0][0]} and {path} list other classes: give one as --classes")
    return lists[0] if lists else None


def merge_classes(
    given: list[str] | str | Path | None,
    there: Classes | None,
    void: int | None,
    masks: list[Path],
    root: Path,
) -> tuple[Classes, int]:
    """The classes of a session, and the id of what is not labelled.

    Names that the data set knows keep their ids, whatever their order, so that its masks stay
    right; new ones get ids that are free. Raises ValueError, with the cure, where a class is left
    out that masks have.
    """
    known, colors = {}, dict(zip(CITYSCAPES.names, CITYSCAPES.colors, strict=True))
    if there:
        known = dict(zip(there.names, there.ids, strict=True))
        colors |= dict(zip(there.names, there.colors, strict=True))
    if given is None:
        given = there or CITYSCAPES
    elif isinstance(given, str | Path):
        given, _ = read_class_list(Path(given))
    else:
        shown = tuple(colors.get(name) or color_of(i) for i, name in enumerate(given))
        given = Classes(tuple(given), tuple(range(len(given))), shown)
    gone = {i: name for name, i in known.items() if name not in given.names}
    for path in masks if gone else ():
        for i in gone.keys() & set(np.unique(read_grey(path).numpy()).tolist()):
            raise ValueError(
                f"the class {gone[i]} is no longer in the list, but {path} has pixels of it: put "
                f"it back, or erase them with it first; if it has a new name, change that in "
                f"{root / 'classes.yaml'}, too, where it keeps its id"
            )
    free = sorted({*range(256)} - {*known.values(), *given.ids, void})
    if void is None and free:
        void = free.pop()
    ids = []
    for name, i in zip(given.names, given.ids, strict=True):
        i = known.get(name, i)
        if i == void or i in ids or (name not in known and i in known.values()):
            if not free:
                raise ValueError("give fewer than 256 classes: one id stands for not labelled")
            i = free.pop(0)
        ids.append(i)
    return Classes(given.names, tuple(ids), given.colors), void


def color_of(index: int) -> tuple[int, int, int]:
    """A colour for each of many classes, neighbours far apart."""
    rgb = colorsys.hsv_to_rgb(index * 0.618 % 1, 0.6 + 0.4 * (index % 2), 0.95 - 0.15 * (index % 3))
    return tuple(round(255 * value) for value in rgb)


def as_yaml(classes: Classes, comments: dict[int, str]) -> str:
    """The text of a `classes.yaml`.

    comments: id -> the end of its line. Ids of no class are listed in comments.
    """
    lines = []
    for name, i, color in zip(classes.names, classes.ids, classes.colors, strict=True):
        row = f"- {{name: {json.dumps(name, ensure_ascii=False)}, id: {i}, color: {list(color)}}}"
        lines.append(f"{row}  # {comments[i]}" if i in comments else row)
    for i in comments.keys() - {*classes.ids}:
        lines.append(f"# - {{name: class {i}, id: {i}, color: [0, 0, 0]}}  # {comments[i]}")
    return "\n".join(lines) + "\n"


def values_of_names(classes: Classes) -> dict[str, int]:
    """The value with which labelme's shapes of each name are drawn, also of names in `VOID`."""
    values = dict(zip(classes.names, classes.ids, strict=True))
    void, forms = void_of(classes), (str.lower, str.capitalize, str.upper)
    ignored = {form(name): void for name in VOID for form in forms}
    return {BACKGROUND: values.get("background", void)} | ignored | values


def void_of(classes: Classes) -> int:
    """An id of no class, for what is not labelled: Cityscapes' `unlabeled`, else the highest."""
    return 0 if classes == CITYSCAPES else max({*range(256)} - {*classes.ids})
