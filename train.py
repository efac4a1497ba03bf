"""Train a U-Net from the shell, with the same functions as `trainer.ipynb`.

    python train.py --recipe recipes/camvid.yaml
    python train.py --recipe recipes/cityscapes.yaml --data_root /data/cityscapes --epochs 30
    torchrun --nproc-per-node=8 -- train.py --recipe recipes/cityscapes.yaml --run runs/eight

Every field of a recipe can be overridden. The run goes to runs/<recipe>/; the same command
again goes on where it stopped.
"""

import argparse
import sys
from pathlib import Path

from jsonargparse import ArgumentParser, DefaultHelpFormatter
from torch.distributed.elastic.multiprocessing.errors import record

from distributed import first_here, is_distributed, is_main, process_group
from engine import fit
from prepare.streets import ensure_streets
from recipe import Recipe, check_file, make_loaders, make_model


class Formatter(DefaultHelpFormatter):
    """Keeps the lines of the description as they are written."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "".join(indent + line for line in text.splitlines(keepends=True))


def show(record: dict) -> str:
    """A record of `fit` as one line."""
    return (
        f"epoch {record['epoch']:3d}   lr {record['lr']:.1e}   "
        f"train loss {record['train_loss']:.3f} accuracy {record['train_accuracy']:.1%}   "
        f"val loss {record['val_loss']:.3f} accuracy {record['val_accuracy']:.1%} "
        f"mIoU {record['mIoU']:.1%}   {record['seconds']:.0f} s"
    )


def recipe_files() -> list[str]:
    """What the command line names as recipes, of which jsonargparse's errors do not say."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--recipe", action="append", default=[])
    return parser.parse_known_args()[0].recipe


@record  # torchrun reports the process that failed first, with its message
def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=Formatter)
    parser.add_argument("--recipe", action="config", help="a YAML file with the fields below")
    parser.add_argument("--run", type=str, help="directory of the run (default: runs/<recipe>)")
    parser.add_class_arguments(Recipe)
    try:
        for path in recipe_files():
            check_file(path)
    except ValueError as error:
        sys.exit(f"error: {error}")
    args = vars(parser.parse_args())
    files, run = args.pop("recipe"), args.pop("run")
    name = Path(str(files[-1])).stem if files else "default"
    run = Path(run or Path("runs") / name)
    try:
        with process_group():
            train(Recipe(**args), run)
    except (OSError, ValueError, FloatingPointError) as error:
        if is_distributed():
            raise
        # of a loader's worker the whole traceback comes, the error last
        sys.exit(f"error: {str(error).strip().splitlines()[-1].removeprefix('ValueError: ')}")
    except KeyboardInterrupt:
        sys.exit(f"stopped; the same command goes on from {run / 'last.pt'}")


def train(recipe: Recipe, run: Path) -> None:
    """Train in `run`, or go on there; the main process says how it goes."""
    with first_here() as first:
        if first:
            ensure_streets(recipe.data_root)
    train_loader, val_loader = make_loaders(recipe)
    say = print if is_main() else lambda *args, **kwargs: None
    say(f"{len(train_loader.dataset)} images to train on, {len(val_loader.dataset)} to judge by")
    for found in fit(make_model(recipe), train_loader, val_loader, recipe, run):
        say(show(found), flush=True)
    say(f"best and last checkpoint, and history.json: {run}")


if __name__ == "__main__":
    main()
