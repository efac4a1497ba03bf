"""The networks that race: ours, the same one the plain way, and what one would pick instead."""

import torch
from torch import nn

from bench.plain import PlainUNet

LABELS = {
    "ours": "ours",
    "plain": "the plain way",
    "smp": "segmentation-models-pytorch Unet, resnet18",
    "monai": "MONAI BasicUNet",
}


def make(name: str, width: int = 16, seed: int = 0) -> nn.Module:
    """A network for 3 channels and 19 classes, its weights at random.

    `width` is for ours and the plain one; the peers come as they are by default, without
    pretrained weights.
    """
    torch.manual_seed(seed)
    if name == "ours":
        from model import UNet

        return UNet(width=width)
    if name == "plain":
        return PlainUNet(width=width)
    if name == "smp":
        import segmentation_models_pytorch

        return segmentation_models_pytorch.Unet("resnet18", encoder_weights=None, classes=19)
    from monai.networks.nets import BasicUNet

    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=19)
