"""The figures of the case studies, from the records of `studies.study`.

    python -m studies.figures

Prints the tables of `studies.report` and `labels_report`, and draws images/padding.png,
batchnorm.png, loss.png, augmentation.png and labels.png, of whatever is on record;
`studies.ipynb` shows both with its story.
"""

from collections.abc import Collection

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from figures import COLORS, MARKERS
from runtime.machine import ROOT
from studies import labels_report
from studies.common import read
from studies.report import NAMES, RARE, UNSEEN, arms, counted, spread, tables, values
from studies.study import DATA, STUDIES


def label_of(arm: str, runs: Collection) -> str:
    return f"{arm} ({len(runs)} seed{'s' * (len(runs) > 1)})"


def draw_curves(ax: Axes, runs: list[dict], study: str, data: str, name: str) -> None:
    """A number of the history over the epochs: a thick line for the mean, a thin one a seed."""
    for i, arm in enumerate(STUDIES[study]):
        if not (mine := counted(runs, data, arm).values()):
            continue
        lines = np.array([[record[name] for record in run["history"]] for run in mine])
        epochs = range(1, lines.shape[1] + 1)
        ax.plot(epochs, lines.T, color=COLORS[i], lw=0.7, alpha=0.4)
        style = {"color": COLORS[i], "marker": MARKERS[i], "ms": 5}
        ax.plot(epochs, lines.mean(0), lw=2, markevery=3, label=label_of(arm, mine), **style)
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)


def draw_accuracy(axes: list[Axes], study: str, runs: list[dict], data: str) -> None:
    """Validation accuracy over the epochs, as in the reference's images/padding.png."""
    (ax,) = axes
    draw_curves(ax, runs, study, data, "val_accuracy")
    ax.set(title=NAMES[data], ylabel="pixel accuracy on val")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(frameon=False, loc="lower right")


def draw_classes(axes: list[Axes], study: str, runs: list[dict], data: str) -> None:
    """IoU of each class on val, mean ± standard deviation over the seeds, the rarest class first.

    The dashed line separates the classes below 2 % of the training pixels from the others.
    """
    (ax,), there = axes, arms(runs, study, data)
    frequencies = next(iter(counted(runs, data, there[0]).values()))["frequencies"]
    names = sorted((name for name, part in frequencies.items() if part), key=frequencies.get)
    for i, arm in enumerate(there):
        mine, points = list(counted(runs, data, arm).values()), []
        for x, name in enumerate(names):
            ious = [run["scores"]["val"]["all"]["iou"].get(name) for run in mine]
            known = [iou for iou in ious if iou is not None]
            if known:  # the arms side by side
                points.append((x + 0.15 * (i - (len(there) - 1) / 2), *spread(known)))
        number = list(STUDIES[study]).index(arm)
        style = {"fmt": MARKERS[number], "color": COLORS[number], "ms": 5}
        ax.errorbar(*zip(*points, strict=True), **style, label=label_of(arm, mine))
    labels = [f"{name} {frequencies[name]:.2%}" for name in names]
    ax.set_xticks(range(len(names)), labels, rotation=50, ha="right", fontsize=8)
    ax.axvline(sum(frequencies[name] < RARE for name in names) - 0.5, color="0.6", ls="--", lw=1)
    ax.set(title=NAMES[data], ylim=(0, 1), xlabel="class, and its part of the training pixels")
    ax.set_ylabel("IoU on val, mean ± standard deviation")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, loc="upper left", fontsize=8)


def draw_overfitting(axes: list[Axes], study: str, runs: list[dict], data: str) -> None:
    """Loss in training and on val over the epochs, and the last mIoU."""
    train, val, bars = axes
    for ax, name, title in ((train, "train_loss", "training"), (val, "val_loss", "validation")):
        draw_curves(ax, runs, study, data, name)
        ax.set(title=f"{NAMES[data]}: {title}", ylabel="cross-entropy", ylim=(0, None))
    train.legend(frameon=False, fontsize=8)
    draw_miou(bars, runs, study, data)


def draw_miou(ax: Axes, runs: list[dict], study: str, data: str) -> None:
    """A bar for each arm: mIoU of the last epoch on val and, if one was held out, the video."""
    there, shift = arms(runs, study, data), 0.0
    for name, of, color in (("mIoU", "val", "0.75"), (UNSEEN, "unseen video", "0.4")):
        found = [list(values(runs, data, arm, name).values()) for arm in there]
        if bars := [(x + shift, *spread(each)) for x, each in enumerate(found) if each]:
            x, means, errors = zip(*bars, strict=True)
            ax.bar(x, means, 0.38, yerr=errors, color=color, label=of, capsize=3)
            shift += 0.4
    middles = [x + (shift - 0.4) / 2 for x in range(len(there))]
    ax.set_xticks(middles, there, rotation=20, ha="right", fontsize=8)
    ax.set(title=f"{NAMES[data]}: last epoch, ± std. dev.", ylabel="mIoU")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(frameon=False)


# study -> what draws it, the panels of a data set, and the width and height of one in inches
FIGURES = {
    "padding": (draw_accuracy, 1, (6, 3.9)),
    "batchnorm": (draw_accuracy, 1, (6, 3.9)),
    "loss": (draw_classes, 1, (6, 4.8)),
    "augmentation": (draw_overfitting, 3, (4.3, 4)),
}


def figure(study: str, runs: list[dict]) -> Figure | None:
    """The study's figure: data sets side by side or, of several panels each, one below the other.

    None as long as nothing is counted.
    """
    there = [data for data in DATA if arms(runs, study, data)]
    if not there:
        return None
    draw, panels, (width, height) = FIGURES[study]
    rows, columns = (1, len(there)) if panels == 1 else (len(there), panels)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).reshape(len(there), panels)
    for data, row in zip(there, axes, strict=True):
        draw(list(row), study, runs, data)
    return figure


def main() -> None:
    for study in STUDIES:
        runs = read(study)
        print(f"# {study}\n\n{tables(study, runs)}\n")
        if drawn := figure(study, runs):
            drawn.savefig(ROOT / "images" / f"{study}.png", dpi=120)
    runs = read("labels")
    print(f"# labels\n\n{labels_report.table(runs)}")
    if drawn := labels_report.plot(runs):
        drawn.savefig(ROOT / "images" / "labels.png", dpi=120)


if __name__ == "__main__":
    main()
