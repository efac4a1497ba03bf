"""Entry points for `torch.hub`.

unet = torch.hub.load("OWNER/REPOSITORY", "unet", checkpoint="camvid")
logits = unet(images, whole=True)  # uint8 (N, 3, H, W) RGB -> (N, num_classes, H, W)
unet.classes.names[logits.argmax(1)[0, 0, 0]]
"""

from pathlib import Path

from inference import load_model as _load_model
from model import UNet

dependencies = ["torch", "torchvision", "numpy", "PIL", "yaml"]


def unet(checkpoint: str = "camvid", device: str = "cpu") -> UNet:
    """A trained U-Net, in evaluation mode.

    Args:
        checkpoint: one of `checkpoints/`, by its name without `.pt`, or a path; see
            checkpoints/README.md.
        device: such as `cuda`.

    `downscale` tells by how much it wants images downscaled, `classes` what its channels are.
    Raises as `inference.load_model`.
    """
    named = Path(__file__).parent / "checkpoints" / f"{checkpoint}.pt"
    return _load_model(named if named.is_file() else checkpoint, device)
