"""One network from several trainings that began with the same weights: the mean of theirs.

    python -m engine.average averaged.pt runs/camvid-0/last.pt runs/camvid-1/last.pt --keep 0.1

Trainings of different seeds that start from the same weights (`init`) end close enough to each
other for the mean of their weights to be a good network; on streets that none of them saw it is a
better one (model soups, Wortsman et al. 2022, https://arxiv.org/abs/2203.05482). A part of the
weights that they started from keeps more of what these knew (Wortsman et al. 2021,
https://arxiv.org/abs/2109.01903). That it helped here is in docs/unseen-videos.md; whether it does
elsewhere is seen on images that are unlike those trained on. Prints what each network and the mean
have on val.
"""

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from engine.report import evaluate_split
from figures import percent
from inference import has_finite_weights, load_model
from model import UNet
from runtime.checkpoint import load_checkpoint, write_checkpoint
from runtime.console import command_line, errors_shown
from runtime.precision import pick_device


def average(paths: list[str], keep: float = 0.0) -> dict[str, Tensor]:
    """The mean of the weights of checkpoints, and of batch norm's statistics, by name.

    Args:
        paths: of checkpoints; their last epochs, since the best of some on val is not the best of
            their mean.
        keep: the weight, 0..1, of the `init` that all of them started from.

    Raises as `load_checkpoint`, and ValueError for checkpoints of different networks, classes or
    `init`, of none, or whose `init` has other classes and is to be kept; for `keep` of 1 or more.
    """
    if not 0 <= keep < 1:
        raise ValueError(f"the part of `init` to keep must be at least 0 and below 1, not {keep}")
    checkpoints = [load_checkpoint(path) for path in paths]
    first, *others = checkpoints
    for path, other in zip(paths[1:], others, strict=True):
        for what in ("settings", "classes"):
            if other.get(what) != first.get(what):
                raise ValueError(f"{path} has other {what} than {paths[0]}: they have no mean")
        if other["recipe"].get("init") != first["recipe"].get("init"):
            raise ValueError(f"{path} began with other weights than {paths[0]} (`init`)")
    start, parts = first["recipe"].get("init"), [each["model"] for each in checkpoints]
    if start is None:
        raise ValueError(
            f"{paths[0]} began with random weights, whose trainings have no useful mean: take ones "
            "with the same `init`"
        )
    shares = [(1 - keep) / len(parts)] * len(parts)
    if keep:
        source = load_checkpoint(start)
        if source.get("classes") != first.get("classes"):
            raise ValueError(f"{start} has other classes, so that nothing of it can be kept")
        parts, shares = [*parts, source["model"]], [*shares, keep]
    return {name: _mean([part[name] for part in parts], shares) for name in parts[0]}


def _mean(tensors: list[Tensor], shares: Iterable[float]) -> Tensor:
    """The weighted mean, of counters the first one."""
    if not tensors[0].is_floating_point():
        return tensors[0]
    return sum(share * each.float() for each, share in zip(tensors, shares, strict=True))


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("out", type=Path, help="the checkpoint to write")
    parser.add_argument("checkpoints", nargs="+", help="such as runs/camvid-0/last.pt")
    parser.add_argument("--keep", type=float, default=0.0, help="part of `init`, 0..1 (default: 0)")
    parser.add_argument("--half", action="store_true", help="in 16 bits, half the size on disk")
    parser.add_argument("--data_root", help="to evaluate on; default: what they were trained on")
    args = parser.parse_args()
    with errors_shown():
        weights = average(args.checkpoints, args.keep)
        if args.half:
            weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
        first = load_checkpoint(args.checkpoints[0])
        root = args.data_root or first["recipe"]["data_root"]
        for path in args.checkpoints:
            model = load_model(path, pick_device())
            evaluate(path, model, root)
        model.load_state_dict(weights)
        if not has_finite_weights(model):
            raise ValueError("the mean has numbers too large for 16 bits: leave out --half")
        new = {"average": {"of": args.checkpoints, "keep": args.keep}, "model": weights}
        new["metrics"] = evaluate(args.out, model, root)
        kept = {k: v for k, v in first.items() if k not in ("training", "data")}
        write_checkpoint(args.out, {**kept, **new})


def evaluate(name: object, model: UNet, root: str) -> dict:
    """Print a network's metrics on val, and return them."""
    _, found = evaluate_split(model, root, full_resolution=False)
    accuracy, miou = percent(found["val_accuracy"]), percent(found["mIoU"])
    print(f"{name}: val accuracy {accuracy}, mIoU {miou}")
    return found


if __name__ == "__main__":
    main()
