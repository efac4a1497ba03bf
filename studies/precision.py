"""Whether training in bf16 costs quality: the quick CamVid recipe in fp32 and bf16.

    python -m studies.precision --seeds 0 1 2

Trains recipes/camvid-quick.yaml in both precisions with each seed, 3 minutes a seed on two cores
with AVX512_BF16; refuses a CPU without bf16. Each run is added to studies/records/precision.jsonl
when it ends, and is not repeated. One that was stopped goes on, in runs/precision/. Prints the mean
and standard deviation of the last epoch's mIoU and accuracy on val at full resolution, and those of
the differences.
"""

from pathlib import Path

import torch

from engine import Recipe, evaluate_split, make_loaders, make_model
from runtime.console import command_line, errors_shown, table
from runtime.precision import pick_precision
from studies.common import add, find, read, train
from studies.report import spread

RECIPE, PRECISIONS = "recipes/camvid-quick.yaml", ("fp32", "bf16")


def perform(precision: str, seed: int) -> dict:
    """Metrics of the quick recipe's last epoch, at full resolution, and the seconds of all."""
    recipe = Recipe.from_file(RECIPE, precision=precision, seed=seed)
    run, model = Path("runs/precision") / f"{precision}-{seed}", make_model(recipe)
    records = list(train(model, make_loaders(recipe), recipe, run, f"{precision}, seed {seed}"))
    _, found = evaluate_split(model, recipe.data_root, precision=precision)
    seconds = round(sum(record["seconds"] for record in records))
    return {**records[-1], **found, "seed": seed, "seconds": seconds}


def report(runs: list[dict]) -> str:
    """Mean ± standard deviation of each precision, and of bf16 less fp32, in per cent."""
    rows = []
    for name in ("mIoU", "val_accuracy"):
        found = {(run["precision"], run["seed"]): 100 * run[name] for run in runs}
        seeds = [
            seed for precision, seed in found if precision == "bf16" and ("fp32", seed) in found
        ]
        fp32, bf16 = ([found[precision, seed] for seed in seeds] for precision in PRECISIONS)
        less = [b - a for a, b in zip(fp32, bf16, strict=True)]
        for what, values in (("fp32", fp32), ("bf16", bf16), ("bf16 - fp32", less)):
            rows.append([name, what, "{:.1f} ± {:.1f}".format(*spread(values)), len(seeds)])
    return table(["", "precision", "per cent", "seeds"], rows, 2)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    with errors_shown():
        pick_precision("bf16", torch.device("cpu"))
        for precision, seed in ((p, s) for s in seeds for p in PRECISIONS):
            if find("precision", precision=precision, seed=seed) is None:
                add("precision", "precision", perform(precision, seed))
    print(report(read("precision")))


if __name__ == "__main__":
    main()
