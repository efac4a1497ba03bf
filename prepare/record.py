"""What `prepare.own` keeps of a data set, so that the same command later means the same."""

import json
from collections import Counter
from pathlib import Path

from data_io.layout import OWN_RECORD
from dataset import read_classes
from prepare import class_lists
from prepare.masks import TRANSPARENT, Form, pack
from prepare.meaning import LABELS, Meaning
from runtime.files import atomic_write
from utils import CITYSCAPES

PROPOSAL = """\
# Proposed by `python -m prepare.own` from the masks in
# {source}.
# Give the classes their names, and remove the lines of what is not to be scored. The images need
# not be converted again.
"""


def read_record(dst: Path) -> Meaning | None:
    """What an earlier call took the masks in `dst` for; None if it is new.

    Raises ValueError if `dst` holds a data set of another origin, or a record that is damaged.
    """
    if not (dst / OWN_RECORD).is_file():
        for name in ("leftImg8bit", "gtFine"):
            if (dst / name).exists():
                raise ValueError(f"{dst / name} is of another data set: choose a new directory")
        return None
    classes = read_classes(dst)
    try:
        record = json.loads((dst / OWN_RECORD).read_text(encoding="utf-8"))
        labels, ids = record["labels"], {int(value): i for value, i in record["ids"].items()}
        if labels in ("ids", "palette") and classes == CITYSCAPES:  # of earlier versions
            labels = "cityscapes"
        labels = "ids" if labels == "palette" else labels
        names = {str(name): int(value) for name, value in record.get("names", {}).items()}
        targets = tuple(map(int, record.get("targets", ())))
        if labels not in LABELS or not {*ids.values(), *names.values()} <= {*range(256)}:
            raise ValueError("its labels or ids are invalid")
    except Exception as error:  # parsers raise nearly anything
        raise ValueError(
            f"{dst / OWN_RECORD} is damaged ({error!r}): restore it, or choose a new directory"
        ) from error
    void = 0 if classes == CITYSCAPES else class_lists.void_of(classes)
    if labels == "colors" and classes != CITYSCAPES:  # those that were added to classes.yaml
        ids = dict(zip(map(pack, classes.colors), classes.ids, strict=True)) | ids
    form = Form(labels == "colors", targets, names)
    return Meaning(labels, classes, {TRANSPARENT: void} | ids, "the same as before", form=form)


def write_record(dst: Path, meaning: Meaning, results: list[Counter], source: Path) -> None:
    """Write `OWN_RECORD` and, unless the classes are Cityscapes', `classes.yaml`."""
    dst.mkdir(parents=True, exist_ok=True)
    if meaning.classes != CITYSCAPES and not (dst / "classes.yaml").exists():
        comments = describe(results, meaning) if meaning.proposed else {}
        text = class_lists.as_yaml(meaning.classes, comments)
        if meaning.proposed:
            text = PROPOSAL.format(source=source) + text
        atomic_write(dst / "classes.yaml", text.encode())
    record = {"labels": meaning.labels, "ids": meaning.ids, **meaning.form._asdict()}
    atomic_write(dst / OWN_RECORD, json.dumps(record).encode())


def describe(results: list[Counter], meaning: Meaning) -> dict[int, str]:
    """id -> its share of the pixels and in how many masks it is."""
    total = sum(result.total() for result in results)
    texts = {}
    for value, i in meaning.ids.items():
        pixels = sum(result[value] for result in results)
        files = sum(result[value] > 0 for result in results)
        if pixels:
            texts[i] = f"{pixels / total:.2%} of the pixels, in {files} of {len(results)} masks"
    return texts
