"""Whether training in bf16 costs quality: the quick CamVid recipe in fp32 and bf16.

    python -m studies.precision --seeds 0 1 2

Trains recipes/camvid-quick.yaml in both precisions with each seed, 3 minutes a seed on two cores
with AVX512_BF16; refuses a CPU without bf16. Each run is written to studies/records/precision.json
when it ends, and is not repeated. One that was stopped goes on, in runs/precision/. Prints the mean
and standard deviation of the last epoch's mIoU and accuracy on val at full resolution, and those of
the differences.
"""

import json
from pathlib import Path

import torch

from engine import Recipe, evaluate_split, fit, make_loaders, make_model
from runtime.console import command_line
from runtime.files import atomic_write
from runtime.machine import commit, machine
from runtime.precision import pick_precision
from studies.common import RECORDS, errors_shown

RECIPE, RECORD = "recipes/camvid-quick.yaml", RECORDS / "precision.json"


def train(precision: str, seed: int) -> dict:
    """Metrics of the quick recipe's last epoch, at full resolution, and the seconds of all."""
    recipe = Recipe.from_file(RECIPE, precision=precision, seed=seed)
    run, model = Path("runs/precision") / f"{precision}-{seed}", make_model(recipe)
    records = list(fit(model, *make_loaders(recipe), recipe, run))
    _, found = evaluate_split(model, recipe.data_root, precision=precision)
    seconds = round(sum(record["seconds"] for record in records))
    made = {"seed": seed, "seconds": seconds, "machine": machine(), "commit": commit()}
    return {**records[-1], **found, **made}


def report(runs: list[dict]) -> str:
    """Mean and standard deviation of each precision, and of bf16 minus fp32, in per cent."""
    lines = []
    for name in ("mIoU", "val_accuracy"):
        found = {(run["precision"], run["seed"]): 100 * run[name] for run in runs}
        seeds = sorted(s for precision, s in found if precision == "bf16" and ("fp32", s) in found)
        fp32, bf16 = (torch.tensor([found[p, s] for s in seeds]) for p in ("fp32", "bf16"))
        for what, values in (("fp32", fp32), ("bf16", bf16), ("bf16 - fp32", bf16 - fp32)):
            std, mean = torch.std_mean(values)
            lines.append(f"{name:12} {what:11} {mean:5.1f} ± {std:.1f} ({len(seeds)} seeds)")
    return "\n".join(lines)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    runs = json.loads(RECORD.read_text()) if RECORD.exists() else []
    with errors_shown():
        pick_precision("bf16", torch.device("cpu"))
        for precision, seed in ((p, s) for s in seeds for p in ("fp32", "bf16")):
            if not any((r["precision"], r["seed"]) == (precision, seed) for r in runs):
                runs.append(train(precision, seed))
                atomic_write(RECORD, json.dumps(runs, indent=1).encode())
                print(f"seed {seed} in {precision}: mIoU {runs[-1]['mIoU']:.1%}", flush=True)
    print(report(runs))


if __name__ == "__main__":
    main()
