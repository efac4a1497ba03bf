"""Train a U-Net from the shell, with the same functions as `trainer.ipynb`.

    python train.py --recipe recipes/camvid.yaml
    python train.py --recipe recipes/cityscapes.yaml --data_root /data/cityscapes --epochs 30
    torchrun --nproc-per-node=8 -- train.py --recipe recipes/cityscapes.yaml --run runs/eight

Every field of a recipe can be changed. The run goes to runs/<recipe>/; the same command again
goes on where it stopped.
"""

from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import record

from dataset import Cityscapes
from engine import Recipe, fit, make_loaders, make_model
from engine.recipe import parse_recipe, recipe_parser
from figures import percent
from runtime.console import errors_shown
from runtime.distributed import is_main, local_main_first, process_group
from runtime.files import expand
from runtime.shared_memory import lost_workers_named
from streets import ensure_streets


def summary(record: dict) -> str:
    """A record of `fit` as one line."""
    return (
        f"epoch {record['epoch']:3d}   lr {record['lr']:.1e}   "
        f"train loss {record['train_loss']:.3f} accuracy {record['train_accuracy']:.1%}   "
        f"val loss {record['val_loss']:.3f} accuracy {percent(record['val_accuracy'])} "
        f"mIoU {percent(record['mIoU'])}   {record['seconds']:.0f} s"
    )


@record  # torchrun reports the process that failed first, with its message
def main() -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("--run", type=str, help="directory of the run (default: runs/<recipe>)")
    with errors_shown(), lost_workers_named():  # also between epochs
        recipe, args = parse_recipe(parser)
        run = args.run or Path("runs") / Path(args.recipe or "default").stem
        run = expand(run, "run directory")
        with process_group():
            train(recipe, run)


def train(recipe: Recipe, run: Path) -> None:
    """Train in `run`, or go on there; the main process prints a line for each epoch."""
    with local_main_first() as first:
        if first:  # draws or unpacks the data, once on each machine
            ensure_streets(recipe.data_root)
            Cityscapes(recipe.data_root, recipe.train_split, recipe.mode)
            Cityscapes(recipe.data_root, "val")
    train_loader, val_loader = make_loaders(recipe)
    show = print if is_main() else lambda *args, **kwargs: None
    trained_on = " (trained on, too)" if recipe.train_split == "trainval" else ""
    scenes, val_scenes = train_loader.dataset, val_loader.dataset
    show(f"{len(scenes)} images to train on, {len(val_scenes)} to validate on{trained_on}")
    if scenes.cache and is_main():  # the size takes reading an image
        size = scenes.cache_size() + val_scenes.cache_size()
        show(f"decoded images are kept in {scenes.cache.folder}: {size / 1e9:.2f} GB")
    model = make_model(recipe, scenes.classes, run)
    resumed = 0
    for epoch in fit(model, train_loader, val_loader, recipe, run):
        if epoch["resumed"]:
            resumed = epoch["epoch"]
            continue
        if epoch["epoch"] == resumed + 1 > 1:
            show(f"resumed after epoch {resumed} of {recipe.epochs}")
        show(summary(epoch), flush=True)
    if resumed == recipe.epochs:
        show(f"all {resumed} epochs were trained before")
    show(f"best and last checkpoint, and history.json: {run}")


if __name__ == "__main__":
    main()
