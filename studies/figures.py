"""The figures of the case studies, from the records of `studies.study`.

    python -m studies.figures

Prints the tables and answers of `studies.report`, and draws images/padding.png, batchnorm.png,
loss.png and augmentation.png, of whatever is on record; `studies.ipynb` shows both with its story.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from figures import COLORS, MARKERS
from runtime.machine import ROOT
from studies.report import MIOU, NAMES, RARE, UNSEEN, arms, counted, judged, report, spread, values
from studies.study import DATA, STUDIES, read


def panels(runs: list[dict], study: str, height: float = 3.9) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel for each data set that has runs."""
    there = [data for data in DATA if arms(runs, study, data)]
    figure = Figure(figsize=(6 * len(there), height), layout="constrained")
    axes = figure.subplots(1, len(there), squeeze=False)[0]
    for ax, data in zip(axes, there, strict=True):
        ax.set_title(NAMES[data])
        ax.grid(alpha=0.3)
    return figure, dict(zip(there, axes, strict=True))


def labelled(arm: str, runs: list) -> str:
    return f"{arm} ({len(runs)} seed{'s' * (len(runs) > 1)})"


def draw_curves(ax: Axes, runs: list[dict], study: str, data: str, name: str) -> None:
    """A number of the history over the epochs: a thick line for the mean, a thin one a seed."""
    for i, arm in enumerate(STUDIES[study]):
        histories = [run["history"] for run in counted(runs, data, arm).values()]
        if not histories:
            continue
        epochs = [record["epoch"] for record in histories[0]]
        lines = [[record[name] for record in history] for history in histories]
        columns = list(zip(*lines, strict=True))
        ax.plot(epochs, columns, color=COLORS[i], lw=0.7, alpha=0.4)
        means = [spread(column)[0] for column in columns]
        style = {"color": COLORS[i], "marker": MARKERS[i], "ms": 5}
        ax.plot(epochs, means, lw=2, markevery=3, label=labelled(arm, lines), **style)
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


def plot_frequencies(study: str, runs: list[dict]) -> Figure:
    """IoU of each class on val, mean ± standard deviation over the seeds, the rarest class first.

    The dashed line parts the classes below 2 % of the pixels that were trained on from the others.
    """
    figure, axes = panels(runs, study, 4.8)
    for data, ax in axes.items():
        there = arms(runs, study, data)
        for i, arm in enumerate(there):
            mine = list(counted(runs, data, arm).values())
            shares = {name: share for name, share in mine[0]["shares"].items() if share > 0}
            names = sorted(shares, key=shares.get)
            points = []
            for x, name in enumerate(names):
                known = [v for run in mine if (v := judged("iou")(run).get(name)) is not None]
                if known:  # the arms side by side
                    points.append((x + 0.15 * (i - (len(there) - 1) / 2), *spread(known)))
            style, label = list(STUDIES[study]).index(arm), labelled(arm, mine)
            columns = zip(*points, strict=True)
            ax.errorbar(*columns, fmt=MARKERS[style], ms=5, color=COLORS[style], label=label)
        labels = [f"{name} {shares[name]:.2%}" for name in names]
        ax.set_xticks(range(len(names)), labels, rotation=50, ha="right", fontsize=8)
        ax.axvline(sum(shares[name] < RARE for name in names) - 0.5, color="0.6", ls="--", lw=1)
        ax.set(ylim=(0, 1), xlabel="share of the pixels trained on", ylabel="IoU on val")
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.legend(frameon=False, loc="upper left", fontsize=8)
    return figure


def plot_overfitting(study: str, runs: list[dict]) -> Figure:
    """A row for each data set: loss in training and on val over the epochs, and the last mIoU."""
    rows = [data for data in DATA if arms(runs, study, data)]
    figure = Figure(figsize=(13, 4 * len(rows)), layout="constrained")
    for data, (train, val, bars) in zip(
        rows, figure.subplots(len(rows), 3, squeeze=False), strict=True
    ):
        for ax, name, title in ((train, "train_loss", "training"), (val, "val_loss", "validation")):
            draw_curves(ax, runs, study, data, name)
            ax.set(title=f"{NAMES[data]}: {title}", ylabel="cross-entropy", ylim=(0, None))
            ax.grid(alpha=0.3)
        train.legend(frameon=False, fontsize=8)
        draw_scores(bars, runs, study, data)
    return figure


def draw_scores(ax: Axes, runs: list[dict], study: str, data: str) -> None:
    """A bar for each arm: mIoU of the last epoch on val and, if one was held out, the video."""
    there = arms(runs, study, data)
    shown = []
    for measure, name, color in ((MIOU, "val", "0.75"), (UNSEEN, "unseen video", "0.4")):
        found = [list(values(runs, data, arm, measure).values()) for arm in there]
        if any(found):
            shown.append((found, name, color))
    for i, (found, name, color) in enumerate(shown):
        bars = [(x + 0.4 * i, *spread(v)) for x, v in enumerate(found) if v]
        x, means, errors = zip(*bars, strict=True)
        ax.bar(x, means, 0.38, yerr=errors, color=color, label=name, capsize=3)
    middles = [x + 0.2 * (len(shown) - 1) for x in range(len(there))]
    ax.set_xticks(middles, there, rotation=20, ha="right", fontsize=8)
    ax.set(title=f"{NAMES[data]}: last epoch, ± std. dev.", ylabel="mIoU")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(frameon=False)


FIGURES = {
    "padding": plot_accuracy,
    "batchnorm": plot_accuracy,
    "loss": plot_frequencies,
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
            drawn.savefig(ROOT / "images" / f"{study}.png", dpi=120)


if __name__ == "__main__":
    main()
