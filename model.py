"""U-Net (Ronneberger, Fischer & Brox 2015, https://arxiv.org/abs/1505.04597).

The network of the paper's figure 1: a contracting path of double 3x3 convolutions and 2x2 max
pooling, an expansive path of 2x2 up-convolutions, whose output is concatenated with the skip
("copy and crop"), and a last 1x1 convolution. `UNet` says what is added to the paper: batch norm,
`same` padding, and uint8 input.
"""

from itertools import count

import torch
from torch import Tensor, nn

from utils import Classes

MOST_DEPTH = 16  # of 65,536 x 65,536 pixels, the deepest level sees one


def normalize(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -2..2, any shape.

    The only place where the project normalises. The network calls it on uint8 input, so that a
    batch travels to the device as bytes, and nobody can forget it.
    """
    return images.float().div_(63.75).sub_(2)


def mirror(images: Tensor, height: int, width: int, margin: int = 0) -> Tensor:
    """Extend (N, C, H, W) by reflection to (N, C, height, width).

    The image is put `margin` pixels from the top and left; what is right of it and below is
    mirrored too, as often as needed (`F.pad` reflects only once). This is the paper's
    extrapolation of missing context (section 2, figure 2).
    """

    def index(size: int, padded: int) -> Tensor:
        period = max(2 * (size - 1), 1)
        i = (torch.arange(padded, device=images.device) - margin) % period
        return torch.minimum(i, period - i) if size > 1 else torch.zeros_like(i)

    rows, columns = index(images.shape[-2], height), index(images.shape[-1], width)
    return images.index_select(-2, rows).index_select(-1, columns)


def double_conv(in_channels: int, out_channels: int, padding: str, batch_norm: bool) -> nn.Module:
    """Twice 3x3 convolution, batch norm if asked for, ReLU: (N, in, H, W) -> (N, out, H, W).

    With `valid` padding H and W shrink by 4. Batch norm has a bias, so that the convolution
    before it needs none.
    """
    layers = []
    for channels in (in_channels, out_channels):
        layers.append(nn.Conv2d(channels, out_channels, 3, padding=padding, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Up(nn.Module):
    """A level of the expansive path: 2x2 up-convolution, copy and crop, double 3x3 convolution.

    `margin` is how many pixels of the skip, at its top and left, the map from below does not
    cover: 0 with `same` padding. A fixed margin, rather than centring, keeps both maps aligned
    when a pooling has dropped an odd last row.
    """

    def __init__(self, in_channels: int, padding: str, batch_norm: bool, margin: int):
        super().__init__()
        channels = in_channels // 2
        self.margin = margin
        self.up = nn.ConvTranspose2d(in_channels, channels, 2, stride=2)
        self.convs = double_conv(in_channels, channels, padding, batch_norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, 2C, h, w) and a skip (N, C, H, W), H >= 2h -> (N, C, 2h, 2w), 4 less if `valid`."""
        x = self.up(x)  # (N, C, 2h, 2w)
        top, left = self.margin, self.margin
        skip = skip[..., top : top + x.shape[-2], left : left + x.shape[-1]]
        return self.convs(self.join(skip, x))  # 2C channels in, C out

    def join(self, skip: Tensor, x: Tensor) -> Tensor:
        """Concatenate: (N, C, h, w) and (N, C, h, w) -> (N, 2C, h, w)."""
        return torch.cat([skip, x], dim=1)


class UNet(nn.Module):
    """U-Net for images of any size.

    Args:
        in_channels: of the image, 3 for RGB.
        num_classes: channels of the output.
        width: channels of the first level, doubled at each level below; 64 in the paper.
        depth: poolings, so that there are depth + 1 levels; 4 in the paper, at most `MOST_DEPTH`.
        padding: `"valid"` as in the paper, where the output is smaller than the image by
            `margin` on each side (572x572 in, 388x388 out at depth 4), or `"same"`, where
            height and width stay the same.
        batch_norm: normalise after every 3x3 convolution (Ioffe & Szegedy 2015), which the
            paper does not do.

    Attributes:
        settings: the arguments, from which the network can be built again.
        classes, downscale: of the data that it is trained on, for `inference.predict`.

    Weights start as in the paper's section 3: Gaussian, standard deviation sqrt(2 / N), N the
    number of a unit's inputs (He et al. 2015); biases at 0.

    Raises ValueError for settings that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 19,
        width: int = 64,
        depth: int = 4,
        padding: str = "same",
        batch_norm: bool = True,
    ):
        super().__init__()
        if padding not in ("same", "valid"):
            raise ValueError(f'padding is "same" or "valid", not {padding!r}')
        sizes = {"in_channels": in_channels, "num_classes": num_classes, "width": width}
        for name, value in {**sizes, "depth": depth}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if depth > MOST_DEPTH:
            raise ValueError(f"depth must be at most {MOST_DEPTH}, not {depth}")
        self.settings = {**sizes, "depth": depth, "padding": padding, "batch_norm": batch_norm}
        self.depth, self.padding = depth, padding
        self.classes: Classes | None = None
        self.downscale = 1

        channels = [width * 2**level for level in range(depth + 1)]
        self.contracting = nn.ModuleList(
            double_conv(i, o, padding, batch_norm)
            for i, o in zip([in_channels, *channels[:-1]], channels, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.expansive = nn.ModuleList()
        # Pixels that the two unpadded convolutions of the level below cost on each side, 2, at the
        # resolution of the skip.
        margin = 4
        for c in reversed(channels[1:]):
            cut = margin if padding == "valid" else 0
            self.expansive.append(Up(c, padding, batch_norm, margin=cut))
            margin = 2 * (margin + 4)
        self.conv_1x1 = nn.Conv2d(width, num_classes, 1)
        # The top skip's margin, and a double convolution before and after it.
        self.margin = self.expansive[-1].margin + 4 if padding == "valid" else 0
        self.apply(init_weights)
        self.to(memory_format=torch.channels_last)  # the layout that convolutions are fast in

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output for an image of `height` x `width` pixels.

        Raises ValueError if the image is empty, or too small for `valid` padding.
        """
        if min(height, width) < 1:
            raise ValueError(f"an image of {height}x{width} pixels is empty")
        if self.padding == "same":
            return height, width
        if self._valid_size(min(height, width)) < 1:
            smallest = next(n for n in count(1) if self._valid_size(n) > 0)
            raise ValueError(
                f'an image of {height}x{width} pixels is too small for padding="valid" at depth '
                f'{self.depth}: give at least {smallest}x{smallest}, or use padding="same"'
            )
        return self._valid_size(height), self._valid_size(width)

    def _valid_size(self, n: int) -> int:
        """What `valid` padding leaves of n pixels; less than 1 if nothing."""
        for _ in range(self.depth):
            n = (n - 4) // 2
        n = n - 4
        for _ in range(self.depth):
            n = 2 * n - 4
        return n

    def forward(self, images: Tensor, whole: bool = False) -> Tensor:
        """The logits of every pixel.

        Args:
            images: (N, in_channels, H, W), uint8 as they come from a file, or floats that
                went through `normalize`.
            whole: with `valid` padding, extend the image by reflection first, as the paper
                does, so that all of its pixels get logits. No effect with `same`.

        Returns:
            (N, num_classes, *output_size(H, W)), or (N, num_classes, H, W) if `whole`.
        """
        size = images.shape[-2:]
        x = normalize(images) if images.dtype == torch.uint8 else images
        x = x.to(self.conv_1x1.weight.dtype)  # of a network that was made .half() or .bfloat16()
        if self.padding == "same":
            step = 2**self.depth  # each pooling must find an even size
            height, width = self.output_size(*size)
            padded = [n + -n % step for n in size]
        elif whole:
            height, width = size
            padded = [next(m for m in count(n) if self._valid_size(m) >= n) for n in size]
        else:
            height, width = self.output_size(*size)
            padded = size
        if tuple(padded) != size:
            x = mirror(x, *padded, margin=self.margin)
        return self.layers(x)[..., :height, :width]

    def layers(self, x: Tensor) -> Tensor:
        """The network itself: normalised images whose size its poolings divide -> logits."""
        x = x.contiguous(memory_format=torch.channels_last)
        skips = []
        for level, convs in enumerate(self.contracting):
            if level:
                skips.append(x)
                x = self.pool(x)  # (N, C, H, W) -> (N, C, H/2, W/2)
            x = convs(x)  # -> (N, width * 2**level, H, W)
        for up in self.expansive:
            x = up(x, skips.pop())  # (N, C, H, W) -> (N, C/2, 2H, 2W)
        return self.conv_1x1(x)  # -> (N, num_classes, H, W)


def init_weights(module: nn.Module) -> None:
    """The paper's initialisation (section 3), for a convolution; others are left alone."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        # A pixel of a 2x2 up-convolution of stride 2 sees one pixel of its input.
        inputs = module.weight[0].numel() if isinstance(module, nn.Conv2d) else module.in_channels
        nn.init.normal_(module.weight, std=(2 / inputs) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
