"""The contenders: our U-Net, the baseline, and the U-Nets of two libraries."""

import torch
from torch import nn

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
    if name == "ours":
        from model import UNet

        return UNet(width=width)
    if name == "baseline":
        return PlainUNet(width=width)
    if name == "smp":
        import segmentation_models_pytorch

        return segmentation_models_pytorch.Unet("resnet18", encoder_weights=None, classes=19)
    from monai.networks.nets import BasicUNet

    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=19)
