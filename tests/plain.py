"""The baseline: the same U-Net and the same training step as a tutorial would write them.

Contiguous tensors, cross-entropy over (N, C, H, W), PyTorch's own allocator. The parameters are
those of `model.UNet`, in the same order.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def double_conv(in_channels: int, out_channels: int) -> nn.Module:
    """Two 3x3 convolutions, each with batch norm and ReLU: (N, in, H, W) -> (N, out, H, W)."""
    layers = []
    for channels in (in_channels, out_channels):
        layers.append(nn.Conv2d(channels, out_channels, 3, padding=1, bias=False))
        layers += [nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class PlainUNet(nn.Module):
    """U-Net with `same` padding: float32 (N, 3, H, W) -> logits (N, classes, H, W)."""

    # H and W must be multiples of 2 ** depth.

    def __init__(self, num_classes: int = 19, width: int = 16, depth: int = 4):
        super().__init__()
        channels = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            double_conv(i, o) for i, o in zip([3, *channels[:-1]], channels, strict=True)
        )
        self.up = nn.ModuleList()
        for c in reversed(channels[1:]):
            up = nn.ConvTranspose2d(c, c // 2, 2, stride=2)
            self.up.append(nn.ModuleList([up, double_conv(c, c // 2)]))
        self.last = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level, convs in enumerate(self.down):
            if level:
                skips.append(x)
                x = F.max_pool2d(x, 2)
            x = convs(x)
        for up, convs in self.up:
            x = convs(torch.cat([skips.pop(), up(x)], 1))
        return self.last(x)


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy the weights of `source`, a `model.UNet`, to `target`, a `PlainUNet`."""
    names, values = target.state_dict(), source.state_dict().values()
    target.load_state_dict(dict(zip(names, values, strict=True)))


def plain_input(images: Tensor) -> Tensor:
    """Normalise as our network does: uint8 0..255 -> float32 -2..2."""
    return images.float() / 63.75 - 2


def plain_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    dtype: torch.dtype = torch.float32,  # of autocast; float32 is none
) -> Tensor:
    """One training step with uint8 (N, 3, H, W) and int64 (N, H, W); returns its loss."""
    optimizer.zero_grad()
    with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
        loss = F.cross_entropy(model(plain_input(images)), labels, ignore_index=255)
    loss.backward()
    optimizer.step()
    return loss.detach()
