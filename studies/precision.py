"""Whether training in bf16 costs quality: the quick CamVid recipe in fp32 and bf16.

    python -m studies.precision --seeds 0 1 2

Trains recipes/camvid-quick.yaml in both precisions with each seed, 3 minutes a seed on two cores
with AVX512_BF16; refuses a CPU without bf16. Each run is written to studies/records/precision.json
when it ends, and is not repeated. One that was stopped goes on, in runs/precision/. Prints the mean
and standard deviation of the last epoch's mIoU and accuracy on val at full resolution, and those of
the differences.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from engine import Recipe, evaluate_split, fit, make_loaders, make_model
from runtime.files import atomic_write
from runtime.machine import ROOT, commit, machine
from runtime.precision import pick_precision

RECIPE = "recipes/camvid-quick.yaml"
RECORD = ROOT / "studies/records/precision.json"


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
        found = {
            precision: {r["seed"]: 100 * r[name] for r in runs if r["precision"] == precision}
            for precision in ("fp32", "bf16")
        }
        both = sorted(found["fp32"].keys() & found["bf16"].keys())
        found["bf16 - fp32"] = {s: found["bf16"][s] - found["fp32"][s] for s in both}
        for what, values in found.items():
            std, mean = torch.std_mean(torch.tensor([values[seed] for seed in both]))
            lines.append(f"{name:12} {what:11} {mean:5.1f} ± {std:.1f} ({len(both)} seeds)")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    runs = json.loads(RECORD.read_text()) if RECORD.exists() else []
    try:
        pick_precision("bf16", torch.device("cpu"))
        for seed in seeds:
            for precision in ("fp32", "bf16"):
                if any((r["precision"], r["seed"]) == (precision, seed) for r in runs):
                    continue
                runs.append(train(precision, seed))
                atomic_write(RECORD, json.dumps(runs, indent=1).encode())
                print(f"seed {seed} in {precision}: mIoU {runs[-1]['mIoU']:.1%}", flush=True)
    except (OSError, ValueError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; run the same command to go on")
    print(report(runs))


if __name__ == "__main__":
    main()
