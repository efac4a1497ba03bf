"""Decode the images of a recipe ahead of time, into the cache that the first epoch would fill.

    python -m engine.fill_cache --recipe recipes/cityscapes.yaml

Takes any field of a recipe, as `train.py` does. If it is interrupted, the same command continues.
"""

from dataset import Cityscapes
from engine.loaders import make_loaders
from engine.recipe import parse_recipe, recipe_parser
from runtime.console import errors_shown, in_threads


def fill(data: Cityscapes) -> None:
    """Fill the cache of a data set. Raises as `Cityscapes`, and OSError if that fails."""
    if data.cache is None:
        raise OSError(f"{data.root} has no cache to fill: name a directory as `cache`")

    size = f"{data.cache_size() / 1e9:.2f} GB"
    print(f"{data.split}: {len(data)} images in {data.cache.folder}, {size}", flush=True)

    def read(index: int) -> None:  # returns nothing, so that no image is kept in memory
        data.read(index)

    in_threads(read, range(len(data)), f"decoding {data.split}")  # without Python's lock
    if not data.cache.writable:
        raise OSError(
            f"{data.cache.folder} could not be filled: free some space, or name another directory "
            "as `cache`"
        )


def main() -> None:
    with errors_shown():
        recipe, _ = parse_recipe(recipe_parser(__doc__))
        for loader in make_loaders(recipe):
            fill(loader.dataset)


if __name__ == "__main__":
    main()
