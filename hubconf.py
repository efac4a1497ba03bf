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
from types import ModuleType

HERE = Path(__file__).resolve().parent
PREFIX = re.sub(r"\W", "_", f"hub_{HERE.name}_")
dependencies = ["torch", "torchvision", "numpy", "PIL", "yaml"]


@contextmanager
def _own_modules() -> Iterator[None]:
    """Within, imports find this project's modules; after that, they are what they were before."""
    names = {path.stem for path in HERE.iterdir() if path.suffix == ".py" or path.is_dir()}

    def take() -> dict:
        found = [n for n in sys.modules if n.partition(".")[0] in names - {"hubconf"}]
        return {name: sys.modules.pop(name) for name in found}

    before = take()
    sys.path.insert(0, str(HERE))
    try:
        yield
    finally:
        sys.path.remove(str(HERE))
        for name, module in take().items():
            _rename(module, PREFIX + name)
        sys.modules.update(before)


def _rename(module: ModuleType, new: str) -> None:
    """Give a module another name, where pickle and `torch.compile` find what it defines."""
    old, module.__name__, sys.modules[new] = module.__name__, new, module
    for value in vars(module).values():
        if getattr(value, "__module__", None) == old:
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

    Its `downscale` is by how much images are to be downscaled, its `classes` are its channels. It
    raises ValueError for images that are neither uint8 nor floats normalised to -2..2. Raises as
    `inference.load_model`.
    """
    named = HERE / "checkpoints" / f"{checkpoint}.pt"
    model = _load_model(named if named.is_file() else checkpoint, device)
    model.register_forward_pre_hook(check_normalized, with_kwargs=True)
    return model
