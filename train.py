"""Train a U-Net from the shell, with the same functions as `trainer.ipynb`.

    python train.py --recipe recipes/camvid.yaml
    python train.py --recipe recipes/cityscapes.yaml --data_root /data/cityscapes --epochs 30
    torchrun --nproc-per-node=8 -- train.py --recipe recipes/cityscapes.yaml --run runs/eight

Every field of a recipe can be changed. The run goes to runs/<recipe>/; the same command again
goes on where it stopped.
"""

import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import record

from engine import Recipe, fit, make_loaders, make_model
from engine.recipe import parse_recipe, recipe_parser
from prepare.streets import ensure_streets
from runtime.distributed import first_here, is_distributed, is_main, process_group


def summary(record: dict) -> str:
    """A record of `fit` as one line."""
    return (
        f"epoch {record['epoch']:3d}   lr {record['lr']:.1e}   "
        f"train loss {record['train_loss']:.3f} accuracy {record['train_accuracy']:.1%}   "
        f"val loss {record['val_loss']:.3f} accuracy {record['val_accuracy']:.1%} "
        f"mIoU {record['mIoU']:.1%}   {record['seconds']:.0f} s"
    )


@record  # torchrun reports the process that failed first, with its message
def main() -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("--run", type=str, help="directory of the run (default: runs/<recipe>)")
    run = Path("runs")
    try:
        recipe, args = parse_recipe(parser)
        run = Path(args.run or Path("runs") / Path(args.recipe or "default").stem)
        with process_group():
            train(recipe, run)
    except (OSError, ValueError, FloatingPointError) as error:
        if is_distributed():
            raise
        # Of a loader's worker the whole traceback arrives, with the message at its end.
        sys.exit(f"error: {str(error).strip().splitlines()[-1].removeprefix('ValueError: ')}")
    except KeyboardInterrupt:
        sys.exit(f"stopped; the same command goes on, from {run / 'last.pt'} if it is there")


def train(recipe: Recipe, run: Path) -> None:
    """Train in `run`, or go on there; the main process prints a line for each epoch."""
    with first_here() as first:
        if first:
            ensure_streets(recipe.data_root)
    train_loader, val_loader = make_loaders(recipe)
    say = print if is_main() else lambda *args, **kwargs: None
    say(f"{len(train_loader.dataset)} images to train on, {len(val_loader.dataset)} to validate on")
    model = make_model(recipe, train_loader.dataset.classes)
    for found in fit(model, train_loader, val_loader, recipe, run):
        say(summary(found), flush=True)
    say(f"best and last checkpoint, and history.json: {run}")


if __name__ == "__main__":
    main()
