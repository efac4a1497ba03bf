"""How many images one must label: a table and a figure, from the records of `studies.labels`."""

from statistics import mean

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from figures import COLORS, MARKERS
from runtime.console import table as markdown
from studies.report import spread

ALL = 266  # frames of CamVid's `train` without the unseen video
COUNTS = 5, 10, 20, 50, 100, None  # labelled images; None: all
CLASSES = (  # of CamVid: what else a network may take for a class has no pixel that is right
    *("road", "sidewalk", "building", "fence", "pole", "traffic sign", "vegetation", "sky"),
    *("person", "rider", "car"),
)
ARM = "count", "start", "choice", "pixels"  # what runs of several seeds have in common


def of(runs: list[dict], figure: str, **wanted) -> list[float]:
    """A figure of the runs with these fields, a seed after the other.

    mIoU is the mean over the eleven classes of CamVid.
    """
    own = [run for run in runs if wanted.items() <= run.items()]
    if figure == "mIoU":
        return [mean(run["iou"][name] for name in CLASSES) for run in own if "iou" in run]
    return [run[figure] for run in own if run.get(figure) is not None]


def table(runs: list[dict]) -> str:
    """Markdown: a row for each arm, the mean over the seeds, of mIoU ± standard deviation."""
    rows = []
    for arm in dict.fromkeys(tuple(run[name] for name in ARM) for run in runs):
        fields = dict(zip(ARM, arm, strict=True))
        mious, accuracies, fills = (of(runs, n, **fields) for n in ("mIoU", "accuracy", "fills"))
        shown = ["", "", ""]
        if mious:
            middle, deviation = spread(100 * miou for miou in mious)
            miou = f"{middle:.1f} ± {deviation:.1f}" if len(mious) > 1 else f"{middle:.1f}"
            shown = [miou, f"{100 * mean(accuracies):.1f}", ""]
        if fills:
            shown[2] = f"{mean(fills):.0f}"
        count, start, choice, pixels = arm
        number = ALL if count is None else count
        weights, part = (start if mious else "no network"), (f"{pixels:.0%}" if number else "")
        rows.append([number, weights, choice, part, len(mious) or "", *shown])
    head = ["images", "weights", "chosen", "pixels", "seeds", "mIoU", "accuracy", "fills to 95 %"]
    return markdown(head, rows, 3) if rows else "No run counts yet: `python -m studies.labels`"


def plot(runs: list[dict]) -> Figure | None:
    """mIoU and accuracy on the unseen video against the number of labelled images.

    None as long as nothing is on record.
    """
    if not any("iou" in run for run in runs):
        return None
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    ticks = [count or ALL for count in COUNTS]
    for ax, name in zip(figure.subplots(1, 2), ("mIoU", "accuracy"), strict=True):
        for i, (start, whose) in enumerate({"streets": "Streets'", "random": "random"}.items()):
            arm = {"start": start, "choice": "at random", "pixels": 1.0}
            found = {count or ALL: of(runs, name, count=count, **arm) for count in COUNTS}
            found = {count: values for count, values in found.items() if values}
            for count, values in found.items():
                ax.scatter([count] * len(values), values, s=8, color=COLORS[i], alpha=0.6)
            style = {"color": COLORS[i], "marker": MARKERS[i], "ms": 5}
            means = [mean(values) for values in found.values()]
            ax.plot([*found], means, label=f"from {whose} weights", **style)
        if bare := of(runs, name, count=0, start="streets"):
            ax.axhline(bare[0], color=COLORS[0], ls=":", lw=1, label="Streets alone, no label")
        ax.set(xscale="log", xlabel="labelled images (dots: single seeds)")
        ax.set_ylabel(f"{name}, unseen video")
        ax.set_xticks(ticks, ticks)
        ax.minorticks_off()
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
    return figure
