"""Evaluate a checkpoint on a data set, with the same functions as `test.ipynb`.

    python evaluate.py checkpoints/streets.pt
    python evaluate.py checkpoints/camvid.pt data/camvid --split val --out runs/camvid-val

Prints pixel accuracy and mIoU at the training's resolution and at full resolution, and the IoU of
each class, and writes metrics.json and four figures into OUT: metrics.png (the training's curves),
classious.png (IoU per class), confusion.png, and results.png (the best, median and worst scene).
"""

import json
from contextlib import suppress
from pathlib import Path

from dataset import Cityscapes, find_root
from engine import best_median_worst, evaluate_split
from figures import percent, plot_confusion, plot_curves, plot_iou, plot_predictions
from inference import load_model
from model import UNet
from runtime.checkpoint import load_checkpoint
from runtime.console import command_line, errors_shown
from runtime.files import expand
from runtime.precision import pick_device
from streets import ensure_streets
from utils import ConfusionMatrix


def table(found: dict) -> str:
    """The metrics of `evaluate_split` as lines of text."""
    rows = [*found["iou"].items(), ("mIoU", found["mIoU"])]
    rows += [("pixel accuracy", found["val_accuracy"])]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {percent(value):>7}" for name, value in rows)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("checkpoint", type=Path, help="such as runs/camvid/best.pt")
    parser.add_argument("data_root", nargs="?", help="default: where the checkpoint was trained")
    parser.add_argument("--split", default="val", help="val, train or another (default: val)")
    where = "default: runs/<run>-<checkpoint>[-<data>]-<split>[-tta]"
    parser.add_argument("--out", type=Path, help=where)
    parser.add_argument("--tta", action="store_true", help="mean over scales and mirrored images")
    parser.add_argument("--batch_size", type=int, default=8, help="images at once (default: 8)")
    parser.add_argument("--workers", type=int, default=2, help="loader processes (default: 2)")
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: the GPU if there is one)")
    args = parser.parse_args()
    data = [Path(args.data_root).resolve().name] if args.data_root else []
    of_run = name_of_run(args.checkpoint), args.checkpoint.stem
    name = "-".join([*of_run, *data, args.split, *["tta"] * args.tta])
    with errors_shown():
        out = expand(args.out or Path("runs") / name, "output directory")
        model = load_model(args.checkpoint, pick_device(args.device))
        trained = load_checkpoint(args.checkpoint)
        root = args.data_root or trained["recipe"]["data_root"]
        ensure_streets(root)
        print(note(trained, args.split, root), end="")
        scenes = Cityscapes(root, args.split)
        out.mkdir(parents=True, exist_ok=True)  # before the work, which would be lost
        options = {"batch_size": args.batch_size, "workers": args.workers, "tta": args.tta}
        found, confusion = measure(model, root, args.split, **options)
        accuracies = found["full resolution"]["accuracies"].values()
        examples = best_median_worst(model, scenes, accuracies, args.tta)
        (out / "metrics.json").write_text(json.dumps(found, indent=1))
        for name, figure in {
            "metrics": plot_curves(trained["history"]),
            "classious": plot_iou(found["full resolution"]["iou"], scenes.classes),
            "confusion": plot_confusion(confusion, scenes.classes),
            "results": plot_predictions(examples, scenes.classes),
        }.items():
            figure.savefig(out / f"{name}.png", dpi=120)
    print(f"metrics.json and four figures: {out}")


def name_of_run(checkpoint: Path) -> str:
    """The name of the directory that a checkpoint lies in: `label-1` for runs/label/1/best.pt."""
    run, runs = checkpoint.resolve().parent, Path("runs").resolve()
    return "-".join(run.relative_to(runs).parts) if runs in run.parents else run.name


def note(trained: dict, split: str, root: str | Path) -> str:
    """A line to show beside metrics on a split that a checkpoint was trained on; else "".

    Data sets are compared by name where the trained one is not here. Raises as `find_root`.
    """
    root, learned = find_root(root), Path(trained["recipe"]["data_root"])
    with suppress(FileNotFoundError):  # a variable that this machine does not have
        learned = expand(learned, "data root")
    same = learned.samefile(root) if learned.exists() else learned.name == root.resolve().name
    of_both = {"trainval": {"train", "val"}}
    seen, shown = (of_both.get(s, {s}) for s in (trained["recipe"]["train_split"], split))
    if same and seen & shown:
        return f"note: this network was trained on {split}: these metrics are no test\n"
    return ""


def measure(model: UNet, root: str, split: str, **options) -> tuple[dict, ConfusionMatrix]:
    """Print and return the metrics at both resolutions, and the confusion matrix at full."""
    found = {}
    for name, full in {"training resolution": False, "full resolution": True}.items():
        if not full or model.downscale > 1:  # else both are the same
            confusion, numbers = evaluate_split(model, root, split, full, **options)
        found[name] = numbers
        if not confusion.matrix.any():
            raise ValueError(
                f"{split} of {root} has no labels: choose another split; "
                "`predict.py --submission` writes its predictions for the benchmark"
            )
        accuracy, miou = percent(numbers["val_accuracy"]), percent(numbers["mIoU"])
        print(f"{name:20} pixel accuracy {accuracy}   mIoU {miou}", flush=True)
    print(table(found["full resolution"]))
    return found, confusion


if __name__ == "__main__":
    main()
