"""Decodes a recipe's pictures ahead of time, into the cache that the first epoch would fill.

    python prepare/decode.py --recipe recipes/cityscapes.yaml

Takes any field of a recipe, as `train.py` does. Interrupted, it goes on where it stopped.
"""

import os
import sys
from pathlib import Path

from jsonargparse import ArgumentParser
from torch.utils.data import DataLoader
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the project's modules

from dataset import Cityscapes  # noqa: E402
from guard import quiet_worker  # noqa: E402
from recipe import Recipe, make_loaders  # noqa: E402
from train import Formatter  # noqa: E402


def fill(scenes: Cityscapes, workers: int) -> None:
    """Have all of `scenes` in its cache. Raises as `Cityscapes`, and OSError if it is not there."""
    if scenes.cache is None:
        raise OSError(f"{scenes.images_dir} has no cache to fill: name a directory for it")
    scenes.transforms = None
    loader = DataLoader(scenes, 1, num_workers=workers, collate_fn=len, worker_init_fn=quiet_worker)
    for _ in tqdm(loader, desc=f"decoding {scenes.split}", unit="img"):
        pass
    if not scenes.cache.filling:
        raise OSError(f"{scenes.cache.path} could not be filled: make room, or name another disk")


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=Formatter)
    parser.add_argument("--recipe", action="config", help="a YAML file with the fields below")
    parser.add_class_arguments(Recipe)
    fields = vars(parser.parse_args())
    fields.pop("recipe")
    try:
        for loader in make_loaders(Recipe(**fields)):
            fill(loader.dataset, os.cpu_count() or 1)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")


if __name__ == "__main__":
    main()
