"""The figures of the case studies, from the records of `bench.study`.

    python -m bench.study_figures

Prints the tables and answers of `bench.study_report`, and draws images/padding.png, batchnorm.png,
loss.png and augmentation.png, of whatever is on record; `studies.ipynb` shows both with its story.
"""

import statistics
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bench.study import DATA, STUDIES, read
from bench.study_report import MIOU, NAMES, RARE, UNSEEN, arms, counted, judged, report, values

IMAGES = Path(__file__).resolve().parent.parent / "images"


def panels(runs: list[dict], study: str, height: float = 3.9) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel for each data set that has runs."""
    there = [data for data in DATA if arms(runs, study, data)]
    figure = Figure(figsize=(6 * len(there), height), layout="constrained")
    axes = figure.subplots(1, len(there), squeeze=False)[0]
    for ax, data in zip(axes, there, strict=True):
        ax.set_title(NAMES[data])
        ax.grid(alpha=0.3)
    return figure, dict(zip(there, axes, strict=True))


def seeds(runs: list) -> str:
    return f"{len(runs)} seed{'s' * (len(runs) > 1)}"


def draw_curves(ax: Axes, runs: list[dict], study: str, data: str, name: str) -> None:
    """A figure of the history over the epochs: a thick line for the mean, a thin one a seed."""
    for i, arm in enumerate(STUDIES[study]):
        histories = [run["history"] for run in counted(runs, data, arm).values()]
        if not histories:
            continue
        lines = [[record[name] for record in history] for history in histories]
        epochs = [record["epoch"] for record in histories[0]]
        for line in lines:
            ax.plot(epochs, line, color=f"C{i}", lw=0.7, alpha=0.4)
        mean = [statistics.mean(column) for column in zip(*lines, strict=True)]
        ax.plot(epochs, mean, color=f"C{i}", lw=2, label=f"{arm} ({seeds(lines)})")
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def plot_accuracy(study: str, runs: list[dict]) -> Figure:
    """Validation accuracy over the epochs, as in the reference's images/padding.png."""
    figure, axes = panels(runs, study)
    for data, ax in axes.items():
        draw_curves(ax, runs, study, data, "val_accuracy")
        ax.set_ylabel("pixel accuracy on val")
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.legend(frameon=False, loc="lower right")
    return figure


def plot_shares(study: str, runs: list[dict]) -> Figure:
    """IoU of each class on val, the mean over the seeds, against its share of the pixels."""
    figure, axes = panels(runs, study, 4.6)
    for data, ax in axes.items():
        shares = {}
        for i, arm in enumerate(arms(runs, study, data)):
            mine = list(counted(runs, data, arm).values())
            shares = {name: share for name, share in mine[0]["shares"].items() if share > 0}
            points = []
            for name in sorted(shares, key=shares.get):
                known = [v for r in mine if (v := judged("iou")(r).get(name)) is not None]
                if known:
                    points.append((shares[name], statistics.mean(known)))
            label, color = f"{arm} ({seeds(mine)})", f"C{list(STUDIES[study]).index(arm)}"
            ax.plot(
                *zip(*points, strict=True), ".-", color=color, lw=0.8, label=label, zorder=3 + i
            )
        for name, share in shares.items():
            ax.text(share, 1.01, name, rotation=60, fontsize=7, transform=ax.get_xaxis_transform())
        ax.axvline(RARE, color="0.6", ls="--", lw=1)
        ax.set(xscale="log", ylim=(0, 1), xlabel="share of the pixels trained on", ylabel="IoU")
        ax.set_title(NAMES[data], pad=55)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=None))
        ax.legend(frameon=False, loc="upper left", fontsize=8)
    return figure


def plot_overfitting(study: str, runs: list[dict]) -> Figure:
    """A row for each data set: loss in training and on val over the epochs, and the last mIoU."""
    rows = [data for data in DATA if arms(runs, study, data)]
    figure = Figure(figsize=(13, 4 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), 3, squeeze=False)
    for data, (train, val, bars) in zip(rows, panels, strict=True):
        for ax, name, title in ((train, "train_loss", "training"), (val, "val_loss", "validation")):
            draw_curves(ax, runs, study, data, name)
            ax.set(title=f"{NAMES[data]}: cross-entropy, {title}", ylim=(0, None))
            ax.grid(alpha=0.3)
        train.legend(frameon=False, fontsize=8)
        draw_scores(bars, runs, study, data)
    return figure


def draw_scores(ax: Axes, runs: list[dict], study: str, data: str) -> None:
    """A bar for each arm: mIoU of the last epoch on val and, if one was held out, the video."""
    there = arms(runs, study, data)
    shown = []
    for measure, name, color in ((MIOU, "val", "0.75"), (UNSEEN, "unseen video", "0.4")):
        found = {arm: list(values(runs, data, arm, measure).values()) for arm in there}
        if any(found.values()):
            shown.append((found, name, color))
    for i, (found, name, color) in enumerate(shown):
        places = [there.index(arm) + 0.4 * i for arm in there if found[arm]]
        means = [statistics.mean(v) for v in found.values() if v]
        errors = [statistics.stdev(v) if len(v) > 1 else 0 for v in found.values() if v]
        ax.bar(places, means, 0.38, yerr=errors, color=color, label=name, capsize=3)
    middle = 0.2 * (len(shown) - 1)
    ax.set_xticks(
        [x + middle for x in range(len(there))], there, rotation=20, ha="right", fontsize=8
    )
    ax.set(title=f"{NAMES[data]}: last mIoU, ± standard deviation")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(frameon=False)


FIGURES = {
    "padding": plot_accuracy,
    "batchnorm": plot_accuracy,
    "loss": plot_shares,
    "augmentation": plot_overfitting,
}


def figure(study: str, runs: list[dict]) -> Figure | None:
    """The study's figure; None as long as nothing is counted."""
    there = any(arms(runs, study, data) for data in DATA)
    return FIGURES[study](study, runs) if there else None


def main() -> None:
    for study in STUDIES:
        runs = read(study)
        print(f"# {study}\n\n{report(study, runs)}\n")
        if drawn := figure(study, runs):
            drawn.savefig(IMAGES / f"{study}.png", dpi=120)


if __name__ == "__main__":
    main()
