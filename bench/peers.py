"""The contenders: our U-Net, the baseline, and the U-Nets of two libraries."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model import UNet
from tests.plain import PlainUNet

LABELS = {
    "ours": "ours",
    "baseline": "baseline PyTorch",
    "smp": "segmentation-models-pytorch Unet, resnet18",
    "monai": "MONAI BasicUNet",
}


def make(name: str, width: int = 16, seed: int = 0) -> nn.Module:
    """A contender's network for 3 channels and 19 classes, with random weights.

    `width` is for ours and the baseline; the libraries' come with their defaults.
    """
    torch.manual_seed(seed)
    if name in ("ours", "baseline"):
        return (UNet if name == "ours" else PlainUNet)(width=width)
    if name == "smp":
        import segmentation_models_pytorch

        return segmentation_models_pytorch.Unet("resnet18", encoder_weights=None, classes=19)
    from monai.networks.nets import BasicUNet

    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=19)


def count(name: str, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """A contender's parameters, and the floating-point operations of a step on one image."""
    with torch.device("meta"):  # shapes without data
        model, images = make(name, width), torch.empty(1, 3, *size)
        with FlopCounterMode(display=False) as counter:
            model(images).sum().backward()
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops()
