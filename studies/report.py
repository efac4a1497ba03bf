"""What the case studies found, in words and tables, from the records of `studies.study`.

A difference is that of two arms with the same seed. Its 95 % interval is by Student's t
distribution, which with three seeds is wide, and is not widened for the number of comparisons.
"""

import math
import statistics
from collections.abc import Callable
from typing import NamedTuple

from studies.study import DATA, STUDIES

NAMES = {"camvid": "CamVid", "streets": "Streets"}
RARE = 0.02  # share of the pixels below which a class is small
# The 97.5 % quantiles of Student's t, for 1 to 9 degrees of freedom; a tenth serves all above.
T975 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)


class Measure(NamedTuple):
    """A figure of a run: `of` takes its record. A share, 0..1, is shown in per cent."""

    name: str
    of: Callable[[dict], float | None]
    share: bool = True
    digits: int = 2

    def show(self, value: float, sign: str = "") -> str:
        return f"{100 * value if self.share else value:{sign}.{self.digits}f}"


def judged(figure: str, place: str = "val", pixels: str = "all") -> Callable:
    """A figure of `studies.study.score`, on `val` or `unseen`, of `all` pixels or the `inner`."""
    return lambda run: run["scores"].get(place, {}).get(pixels, {}).get(figure)


def group_miou(small: bool, place: str = "val") -> Callable:
    """The mean IoU of the classes below `RARE` of the pixels trained on, or of the others."""

    def of(run: dict) -> float | None:
        iou = judged("iou", place)(run) or {}
        names = [name for name, share in run["shares"].items() if share and (share < RARE) == small]
        known = [iou[name] for name in names if iou.get(name) is not None]
        return statistics.mean(known) if known else None

    return of


def lowest_loss_epoch(run: dict) -> float:
    return min(run["history"], key=lambda record: record["val_loss"])["epoch"]


def last(name: str) -> Callable:
    """A number of the last epoch's record."""
    return lambda run: run["history"][-1][name]


MIOU, ACCURACY = Measure("mIoU", judged("mIoU")), Measure("accuracy", judged("val_accuracy"))
UNSEEN = Measure("mIoU, unseen video", judged("mIoU", "unseen"))
ANSWERED = 3  # of each study's measures, the first, which `answers` puts into words
MEASURES = {  # of val, where nothing else is said
    "padding": [
        ACCURACY,
        MIOU,
        UNSEEN,
        Measure("accuracy, inner pixels", judged("val_accuracy", pixels="inner")),
        Measure("mIoU, inner pixels", judged("mIoU", pixels="inner")),
    ],
    "batchnorm": [
        ACCURACY,
        MIOU,
        UNSEEN,
        Measure("accuracy, unseen video", judged("val_accuracy", "unseen")),
    ],
    "loss": [
        MIOU,
        ACCURACY,
        Measure("mIoU, classes below 2 %", group_miou(True)),
        Measure("mIoU, the others", group_miou(False)),
        UNSEEN,
    ],
    "augmentation": [
        UNSEEN,
        MIOU,
        Measure("loss in training", last("train_loss"), False, 3),
        Measure("loss", last("val_loss"), False, 3),
        Measure("loss, unseen video", judged("loss", "unseen"), False, 3),
        Measure("epoch of the lowest loss", lowest_loss_epoch, False, 1),
    ],
}


# Statistics


def counted(runs: list[dict], data: str, arm: str) -> dict[int, dict]:
    """The runs of an arm by seed, without those that tried learning rates or diverged."""
    return {
        run["seed"]: run
        for run in runs
        if (run["data"], run["arm"], run["tried"]) == (data, arm, None) and run["scores"]
    }


def precision(run: dict) -> str:
    """What a run was trained in, several if it moved to another machine."""
    return "+".join(sorted({record["precision"] for record in run["history"]}))


def values(runs: list[dict], data: str, arm: str, measure: Measure) -> dict[tuple, float]:
    """A measure of an arm by seed and precision, in both of which pairs agree."""
    mine = counted(runs, data, arm)
    found = {(seed, precision(run)): measure.of(run) for seed, run in mine.items()}
    return {key: value for key, value in found.items() if value is not None}


class Difference(NamedTuple):
    """A mean over seeds, and its 95 % interval, which is infinite for one seed."""

    mean: float
    low: float
    high: float
    seeds: int


def difference(one: dict, other: dict) -> Difference | None:
    """`other` less `one`, by the keys of `values` that both have; None if there are none."""
    found = [other[key] - one[key] for key in one if key in other]
    if not found:
        return None
    n, mean = len(found), statistics.mean(found)
    half = math.inf
    if n > 1:
        half = T975[min(n - 1, len(T975)) - 1] * statistics.stdev(found) / math.sqrt(n)
    return Difference(mean, mean - half, mean + half, n)


def verdict(found: Difference | None, measure: Measure) -> str:
    """What a difference allows to say."""
    if found is None:
        return "no pair of runs yet"
    mean, low, high = (measure.show(value, "+") for value in found[:3])
    unit = " points" if measure.share else ""
    if found.seeds == 1:
        return f"{mean}{unit} in one seed, which says nothing of the spread"
    interval = f"{mean}{unit} (95 %: {low} to {high}, {found.seeds} seeds)"
    if found.low > 0 or found.high < 0:
        return f"{'higher' if found.low > 0 else 'lower'}, {interval}"
    return f"no difference shown, {interval}: any within the interval may be there"


# Text


def spread(numbers) -> tuple[float, float]:
    """Mean and standard deviation over the seeds; 0 of a single one, which draws no bar."""
    numbers = list(numbers)
    return statistics.mean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else 0


def shown(found: dict, measure: Measure) -> str:
    """Mean ± standard deviation over the seeds."""
    if not found:
        return "-"
    mean, deviation = map(measure.show, spread(found.values()))
    return f"{mean} ± {deviation}" if len(found) > 1 else mean


def arms(runs: list[dict], study: str, data: str) -> list[str]:
    """The arms of a study that have a counted run on a data set, in the study's order."""
    return [arm for arm in STUDIES[study] if counted(runs, data, arm)]


def status(study: str, runs: list[dict]) -> str:
    """Which runs are on record, where they were trained, and which learning rates were tried."""
    if not runs:
        return f"Nothing has been run yet: `python -m studies.study {study} --seeds 0 1 2`"
    lines = []
    for data, arm in ((data, arm) for data in DATA for arm in STUDIES[study]):
        mine = [run for run in runs if (run["data"], run["arm"]) == (data, arm)]
        if not mine:
            continue
        seeds = " ".join(map(str, sorted(counted(runs, data, arm)))) or "none yet"
        parts = [f"{NAMES[data]}, {arm}: seeds {seeds}"]
        for run in mine:
            lr = f"lr {run['recipe']['lr']:g}"
            if not run["scores"]:
                parts.append(f"diverged with seed {run['seed']}, {lr}")
            elif run["tried"] is not None:
                parts.append(f"tried {lr}: mIoU {MIOU.show(MIOU.of(run))}")
        if used := sorted({run["recipe"]["lr"] for run in mine if run["tried"] is None}):
            parts.append(f"lr {', '.join(f'{lr:g}' for lr in used)}")
        lines.append("; ".join(parts))
    minutes = statistics.mean(run["seconds"] for run in runs) / 60
    lines += [
        f"{minutes:.1f} minutes a run; {'; '.join(sorted({run['machine'] for run in runs}))}",
        f"precision {', '.join(sorted({precision(run) for run in runs}))}",
        f"commits {', '.join(sorted({str(run['commit']) for run in runs}))}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def table(study: str, data: str, runs: list[dict]) -> str:
    """Markdown: a row for each arm, mean ± standard deviation, and in brackets the difference to
    the first arm with its 95 % interval; "" without runs."""
    there = arms(runs, study, data)
    found = {m: {arm: values(runs, data, arm, m) for arm in there} for m in MEASURES[study]}
    columns = [measure for measure in found if any(found[measure].values())]
    lines = [f"| {NAMES[data]} | seeds | {' | '.join(m.name for m in columns)} |"]
    lines.append("|---|---|" + "---:|" * len(columns))
    first = next(iter(STUDIES[study]))
    for arm in there:
        cells = [arm, " ".join(map(str, sorted(counted(runs, data, arm))))]
        for measure in columns:
            cells.append(shown(found[measure][arm], measure))
            delta = difference(found[measure].get(first, {}), found[measure][arm])
            if arm != first and delta:
                mean, low, high = (measure.show(value, "+") for value in delta[:3])
                cells[-1] += f" ({mean}; {low} to {high})" if delta.seeds > 1 else f" ({mean})"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if there else ""


def tables(study: str, runs: list[dict]) -> str:
    """The tables of all data sets that have runs."""
    there = [text for data in DATA if (text := table(study, data, runs))]
    return "\n\n".join(there) or "No run counts yet."


def answers(study: str, runs: list[dict]) -> str:
    """The study's answers as a list in Markdown: its first measures against its first arm.

    The arm with the highest mean is named where each has two seeds at least.
    """
    lines = []
    first, *others = STUDIES[study]
    for data, measure in ((data, m) for data in DATA for m in MEASURES[study][:ANSWERED]):
        found = {arm: values(runs, data, arm, measure) for arm in arms(runs, study, data)}
        found = {arm: by_seed for arm, by_seed in found.items() if by_seed}
        what = f"- {NAMES[data]}, {measure.name}"
        for arm in others:
            if arm in found:
                said = verdict(difference(found.get(first, {}), found[arm]), measure)
                lines.append(f"{what}, {arm} against {first}: {said}")
        if len(found) > 2 and measure.share and min(map(len, found.values())) > 1:
            best = max(found, key=lambda arm: spread(found[arm].values()))
            lines.append(f"{what}: the highest mean has {best}, {shown(found[best], measure)}")
    return "\n".join(lines) or "No answer yet."


def folded(title: str, text: str) -> str:
    """Markdown whose text is shown once its title is clicked."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def report(study: str, runs: list[dict]) -> str:
    """What is on record, the tables, and the answers, as Markdown."""
    return "\n\n".join([status(study, runs), tables(study, runs), answers(study, runs)])
