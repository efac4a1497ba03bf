"""What the case studies found, as tables, from the records of `studies.study`.

A difference is that of two arms with the same seed. Its 95 % interval is by Student's t
distribution, which with three seeds is wide, and is not widened for the number of comparisons.
"""

import math
from collections.abc import Callable
from statistics import mean, stdev
from typing import NamedTuple

from figures import percent
from runtime.console import table as markdown
from studies.study import DATA, STUDIES

NAMES = {"camvid": "CamVid", "streets": "Streets"}
RARE = 0.02  # of the pixels, below which a class is small
# The 97.5 % quantiles of Student's t, for 1 to 9 degrees of freedom; the last serves all above.
T975 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)


class Measure(NamedTuple):
    """A figure of a run, shown `factor` times as large: `of` takes the run's record."""

    name: str
    of: Callable[[dict], float | None]
    factor: int = 100
    digits: int = 2

    def show(self, value: float, sign: str = "") -> str:
        return f"{self.factor * value:{sign}.{self.digits}f}"


def metric(name: str, split: str = "val", pixels: str = "all") -> Callable:
    """A figure of `studies.study.score`, on `val` or `unseen`, of `all` pixels or the `inner`."""
    return lambda run: run["scores"].get(split, {}).get(pixels, {}).get(name)


def group_miou(small: bool) -> Callable:
    """The mean IoU of the classes below `RARE` of the pixels trained on, or of the others."""

    def of(run: dict) -> float | None:
        iou, frequencies = metric("iou")(run), run["frequencies"].items()
        names = [name for name, part in frequencies if part and (part < RARE) == small]
        known = [iou[name] for name in names if iou.get(name) is not None]
        return mean(known) if known else None

    return of


def lowest_loss_epoch(run: dict) -> float:
    return min(run["history"], key=lambda record: record["val_loss"])["epoch"]


MIOU, ACCURACY = Measure("mIoU", metric("mIoU")), Measure("accuracy", metric("val_accuracy"))
UNSEEN = Measure("mIoU, unseen video", metric("mIoU", "unseen"))
UNSEEN_ACCURACY = Measure("accuracy, unseen video", metric("val_accuracy", "unseen"))
INNER_ACCURACY = Measure("accuracy, inner pixels", metric("val_accuracy", pixels="inner"))
INNER_MIOU = Measure("mIoU, inner pixels", metric("mIoU", pixels="inner"))
SMALL = Measure("mIoU, classes below 2 %", group_miou(True))
OTHERS = Measure("mIoU, the others", group_miou(False))
LOSSES = (
    Measure("loss in training", lambda run: run["history"][-1]["train_loss"], 1, 3),
    Measure("loss", lambda run: run["history"][-1]["val_loss"], 1, 3),
    Measure("loss, unseen video", metric("loss", "unseen"), 1, 3),
    Measure("epoch of the lowest loss", lowest_loss_epoch, 1, 1),
)
MEASURES = {  # of val, where nothing else is said
    "padding": [ACCURACY, MIOU, UNSEEN, INNER_ACCURACY, INNER_MIOU],
    "batchnorm": [ACCURACY, MIOU, UNSEEN, UNSEEN_ACCURACY],
    "loss": [MIOU, ACCURACY, SMALL, OTHERS, UNSEEN],
    "augmentation": [UNSEEN, MIOU, *LOSSES],
}


def counted(runs: list[dict], data: str, arm: str) -> dict[int, dict]:
    """The runs of an arm by seed, without those that tried learning rates or diverged."""
    return {
        run["seed"]: run
        for run in runs
        if (run["data"], run["arm"], run["tried"]) == (data, arm, None) and run["scores"]
    }


def arms(runs: list[dict], study: str, data: str) -> list[str]:
    """The arms of a study that have a counted run on a data set, in the study's order."""
    return [arm for arm in STUDIES[study] if counted(runs, data, arm)]


def precision(run: dict) -> str:
    """What a run was trained in, several if it moved to another machine."""
    return "+".join(sorted({record["precision"] for record in run["history"]}))


def values(runs: list[dict], data: str, arm: str, measure: Measure) -> dict[tuple, float]:
    """A measure of an arm by seed and precision, in both of which pairs agree."""
    mine = counted(runs, data, arm)
    found = {(seed, precision(run)): measure.of(run) for seed, run in mine.items()}
    return {key: value for key, value in found.items() if value is not None}


def spread(numbers) -> tuple[float, float]:
    """Mean and standard deviation over the seeds; 0 of a single one, which draws no bar."""
    numbers = list(numbers)
    return mean(numbers), stdev(numbers) if len(numbers) > 1 else 0


def difference(one: dict, other: dict) -> tuple[float, float, float] | None:
    """The mean of `other` less `one` over the keys that both have, and its 95 % interval.

    The interval is infinite for one key. None if they have no key in common.
    """
    found = [other[key] - one[key] for key in one if key in other]
    if not found:
        return None
    middle, deviation = spread(found)
    n, half = len(found), math.inf
    if n > 1:
        half = T975[min(n - 1, len(T975)) - 1] * deviation / math.sqrt(n)
    return middle, middle - half, middle + half


def cell(first: dict, own: dict, measure: Measure) -> str:
    """A measure of an arm, and in brackets its difference to the first arm's, as in `table`."""
    if not own:
        return "-"
    middle, deviation = map(measure.show, spread(own.values()))
    text = f"{middle} ± {deviation}" if len(own) > 1 else middle
    if first is own or (found := difference(first, own)) is None:
        return text
    delta, low, high = (measure.show(value, "+") for value in found)
    if math.isinf(found[1]):
        return f"{text} ({delta})"
    bold = "**" if found[1] > 0 or found[2] < 0 else ""
    return f"{text} ({bold}{delta}; {low} to {high}{bold})"


def table(study: str, data: str, runs: list[dict]) -> str:
    """Markdown: a row for each arm, mean ± standard deviation over the seeds, and in brackets the
    difference from the first arm with its 95 % interval, bold where that is without zero; ""
    without runs.
    """
    columns, first, rows = [], next(iter(STUDIES[study])), []
    for measure in MEASURES[study]:
        found = {arm: values(runs, data, arm, measure) for arm in STUDIES[study]}
        if any(found.values()):
            columns.append((measure, found))
    for arm in arms(runs, study, data):
        cells = [cell(found[first], found[arm], measure) for measure, found in columns]
        rows.append([arm, " ".join(map(str, sorted(counted(runs, data, arm)))), *cells])
    head = [NAMES[data], "seeds", *(measure.name for measure, _ in columns)]
    return markdown(head, rows, 2) if rows else ""


def tables(study: str, runs: list[dict]) -> str:
    """The tables of all data sets that have runs."""
    there = [text for data in DATA if (text := table(study, data, runs))]
    return "\n\n".join(there) or f"No run counts yet: `python -m studies.study {study}`"


def all_runs(runs: list[dict]) -> str:
    """Markdown: a row for each run, also those that tried a learning rate or diverged."""
    head = "data arm seed learning_rate mIoU_on_val minutes precision commit machine".split()
    rows = [
        [NAMES[run["data"]], run["arm"], run["seed"]]
        + [f"{run['recipe']['lr']:g}" + ", tried" * (run["tried"] is not None)]
        + [percent(MIOU.of(run)) if run["scores"] else "diverged", f"{run['seconds'] / 60:.1f}"]
        + [precision(run), run["commit"], run["machine"]]
        for run in sorted(runs, key=lambda run: run["data"])
    ]
    return markdown([name.replace("_", " ") for name in head], rows, len(head))


def folded(title: str, text: str) -> str:
    """Markdown whose text is shown once its title is clicked."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"
