"""What the case studies found, as tables, from the records of `studies.study`.

A difference is that of two arms with the same seed. Its 95 % interval is by Student's t
distribution, which with three seeds is wide, and is not widened for the number of comparisons.
"""

import math
from statistics import mean, stdev

from figures import percent
from runtime.console import table as markdown
from studies.study import DATA, STUDIES

UNSEEN = "mIoU, unseen video"
# The digits of figures that are no per cent.
DIGITS = {"loss in training": 3, "loss": 3, "loss, unseen video": 3, "epoch of the lowest loss": 1}
NAMES = {"camvid": "CamVid", "streets": "Streets"}
RARE = 0.02  # of the pixels, below which a class is small
# The 97.5 % quantiles of Student's t, for 1 to 9 degrees of freedom; the last serves all above.
T975 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)
MEASURES = {  # columns of the tables, of val where nothing else is said: see `measure`
    "padding": ["accuracy", "mIoU", UNSEEN, "accuracy, inner pixels", "mIoU, inner pixels"],
    "batchnorm": ["accuracy", "mIoU", UNSEEN, "accuracy, unseen video"],
    "loss": ["mIoU", "accuracy", "mIoU, classes below 2 %", "mIoU, the others", UNSEEN],
    "augmentation": [UNSEEN, "mIoU", *DIGITS],
}


def measure(run: dict) -> dict[str, float | None]:
    """The figures of a run, None where they were not measured; see `studies.study.score`."""
    frequencies, history, val = run["frequencies"], run["history"], run["scores"]["val"]
    unseen, iou = run["scores"].get("unseen", {}).get("all", {}), val["all"]["iou"]
    known = [name for name, part in frequencies.items() if part and iou.get(name) is not None]
    small = [iou[name] for name in known if frequencies[name] < RARE]
    others = [iou[name] for name in known if frequencies[name] >= RARE]
    return {
        "mIoU": val["all"]["mIoU"],
        "accuracy": val["all"]["val_accuracy"],
        "mIoU, inner pixels": val["inner"]["mIoU"],
        "accuracy, inner pixels": val["inner"]["val_accuracy"],
        "mIoU, classes below 2 %": mean(small) if small else None,
        "mIoU, the others": mean(others) if others else None,
        UNSEEN: unseen.get("mIoU"),
        "accuracy, unseen video": unseen.get("val_accuracy"),
        "loss, unseen video": unseen.get("loss"),
        "loss": history[-1]["val_loss"],
        "loss in training": history[-1]["train_loss"],
        "epoch of the lowest loss": min(history, key=lambda record: record["val_loss"])["epoch"],
    }


def show(name: str, value: float, sign: str = "") -> str:
    """A figure as text, those of `DIGITS` as they are, the others in per cent."""
    return f"{value:{sign}.{DIGITS[name]}f}" if name in DIGITS else f"{100 * value:{sign}.2f}"


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


def values(runs: list[dict], data: str, arm: str, name: str) -> dict[tuple, float]:
    """A figure of an arm by seed and precision, in both of which pairs agree."""
    mine = counted(runs, data, arm)
    found = {(seed, precision(run)): measure(run)[name] for seed, run in mine.items()}
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


def cell(first: dict, own: dict, name: str) -> str:
    """A figure of an arm, and in brackets its difference to the first arm's, as in `table`."""
    if not own:
        return "-"
    middle, deviation = (show(name, value) for value in spread(own.values()))
    text = f"{middle} ± {deviation}" if len(own) > 1 else middle
    if first is own or (found := difference(first, own)) is None:
        return text
    delta, low, high = (show(name, value, "+") for value in found)
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
    for name in MEASURES[study]:
        found = {arm: values(runs, data, arm, name) for arm in STUDIES[study]}
        if any(found.values()):
            columns.append((name, found))
    for arm in arms(runs, study, data):
        cells = [cell(found[first], found[arm], name) for name, found in columns]
        rows.append([arm, " ".join(map(str, sorted(counted(runs, data, arm)))), *cells])
    head = [NAMES[data], "seeds", *(name for name, _ in columns)]
    return markdown(head, rows, 2) if rows else ""


def tables(study: str, runs: list[dict]) -> str:
    """The tables of all data sets that have runs."""
    there = [text for data in DATA if (text := table(study, data, runs))]
    return "\n\n".join(there) or f"No run counts yet: `python -m studies.study {study}`"


def all_runs(runs: list[dict]) -> str:
    """Markdown: a row for each run, also those that tried a learning rate or diverged."""
    head = "data arm seed learning_rate mIoU_on_val minutes precision commit machine".split()
    rows = []
    for run in sorted(runs, key=lambda run: run["data"]):
        lr = f"{run['recipe']['lr']:g}" + ", tried" * (run["tried"] is not None)
        miou = percent(measure(run)["mIoU"]) if run["scores"] else "diverged"
        row = [NAMES[run["data"]], run["arm"], run["seed"], lr, miou, f"{run['seconds'] / 60:.1f}"]
        rows.append([*row, precision(run), run["commit"], run["machine"]])
    return markdown([name.replace("_", " ") for name in head], rows, len(head))


def folded(title: str, text: str) -> str:
    """Markdown whose text is shown once its title is clicked."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"
