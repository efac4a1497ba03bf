"""Entry points for `torch.hub`.

unet = torch.hub.load("OWNER/REPOSITORY", "unet", checkpoint="camvid")
logits = unet(images, full_image=True)  # uint8 (N, 3, H, W) RGB -> (N, num_classes, H, W)
unet.classes.names[logits.argmax(1)[0, 0, 0]]

The modules of this project have common names, such as `utils`. They are imported beside those of
the program that calls, and are kept in `sys.modules` under names of their own.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
PREFIX = re.sub(r"\W", "_", f"hub_{HERE.name}_")
dependencies = ["torch", "torchvision", "numpy", "PIL", "yaml"]


def _is_ours(module: object) -> bool:
    path = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), "/")
    path = Path(path).resolve()
    # A virtual environment may lie in this directory.
    return path.is_relative_to(HERE) and "site-packages" not in path.relative_to(HERE).parts


def _in_the_way() -> dict:
    """The modules of others that have the names of ours, and what belongs to them."""
    names = {path.stem for path in HERE.iterdir() if path.suffix == ".py" or path.is_dir()}
    found = {n: module for n, module in sys.modules.items() if n.partition(".")[0] in names}
    return {name: module for name, module in found.items() if not _is_ours(module)}


@contextmanager
def _own_modules() -> Iterator[None]:
    """Within, imports find this project's modules; after that, they are what they were before."""
    before = {name for name, module in sys.modules.items() if _is_ours(module)}
    others = _in_the_way()
    for name in others:
        del sys.modules[name]
    sys.path.insert(0, str(HERE))
    try:
        yield
    finally:
        sys.path.remove(str(HERE))
        for name in [name for name, module in sys.modules.items() if _is_ours(module)]:
            if name not in before and name not in ("hubconf", "__main__"):
                _rename(name, PREFIX + name)
        sys.modules.update(others)


def _rename(name: str, new: str) -> None:
    """Move a module to another name, where pickle and `torch.compile` find what it defines."""
    module = sys.modules[new] = sys.modules.pop(name)
    module.__name__ = new
    for value in vars(module).values():
        if getattr(value, "__module__", None) == name:
            value.__module__ = new


with _own_modules():
    from inference import check_normalized
    from inference import load_model as _load_model
    from model import UNet


def unet(checkpoint: str = "camvid", device: str = "cpu") -> UNet:
    """A trained U-Net, in evaluation mode.

    Args:
        checkpoint: one of `checkpoints/`, by its name without `.pt`, or a path; see
            checkpoints/README.md.
        device: such as `cuda`.

    `downscale` tells by how much it wants images downscaled, `classes` what its channels are. It
    takes images as uint8, or as floats that are normalised to -2..2, and raises ValueError for
    others, such as floats of 0..1. Raises as `inference.load_model`.
    """
    named = HERE / "checkpoints" / f"{checkpoint}.pt"
    model = _load_model(named if named.is_file() else checkpoint, device)
    model.register_forward_pre_hook(check_normalized)
    return model
