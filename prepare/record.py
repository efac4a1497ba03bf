"""What `prepare.own` keeps of a data set, so that the same command later means the same."""

import json
from collections import Counter
from pathlib import Path

from data_io.layout import OWN_RECORD
from dataset import read_classes
from prepare.class_lists import as_yaml, values_of_names
from prepare.masks import Form
from prepare.meaning import LABELS, Meaning, ids_of
from runtime.files import atomic_write
from utils import CITYSCAPES

PROPOSAL = """\
# Proposed by `python -m prepare.own` from the masks in
# {source}.
# Give the classes their names, and remove the lines of what is to be ignored. The images need
# not be converted again.
"""


def read_record(dst: Path) -> Meaning | None:
    """What an earlier call took the masks in `dst` for; None if it is new.

    Colours and names that were added to classes.yaml since then have a meaning, too. Raises
    ValueError if `dst` holds a data set of another origin, or a record that is damaged.
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
        names = {str(name): int(value) for name, value in record.get("names", {}).items()}
        targets = tuple(map(int, record.get("targets", ())))
        palette = tuple(map(tuple, record.get("palette", ())))
        if labels not in LABELS or not {*ids.values(), *names.values()} <= {*range(256)}:
            raise ValueError("its labels or ids are invalid")
    except Exception as error:  # parsers raise nearly anything
        raise ValueError(
            f"{dst / OWN_RECORD} is damaged ({error!r}): restore it, or choose a new directory"
        ) from error
    names = values_of_names(classes) | names if names else {}
    form = Form(labels == "colors", bool(targets), targets, names, palette)
    return Meaning(labels, classes, ids_of(labels, classes) | ids, "the same as before", form=form)


def write_record(dst: Path, meaning: Meaning, results: list[Counter], source: Path) -> None:
    """Write `OWN_RECORD` and, unless the classes are Cityscapes', `classes.yaml`."""
    dst.mkdir(parents=True, exist_ok=True)
    if meaning.proposed:
        text = PROPOSAL.format(source=source) + as_yaml(meaning.classes, _shares(results, meaning))
    else:
        text = as_yaml(meaning.classes, {})
    if meaning.classes != CITYSCAPES and not (dst / "classes.yaml").exists():
        atomic_write(dst / "classes.yaml", text.encode())
    record = {"labels": meaning.labels, "ids": meaning.ids, **meaning.form._asdict()}
    atomic_write(dst / OWN_RECORD, json.dumps(record).encode())


def _shares(results: list[Counter], meaning: Meaning) -> dict[int, str]:
    """id -> its share of the pixels and in how many masks it is."""
    pixels, files = sum(results, Counter()), Counter(value for each in results for value in each)
    texts = {}
    for value, number in pixels.items():
        share, masks = number / pixels.total(), f"{files[value]} of {len(results)} masks"
        texts[meaning.ids[value]] = f"{share:.2%} of the pixels, in {masks}"
    return texts
