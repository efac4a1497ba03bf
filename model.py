"""U-Net (Ronneberger, Fischer & Brox 2015, https://arxiv.org/abs/1505.04597).

The network of the paper's figure 1: a contracting path of double 3x3 convolutions and 2x2 max
pooling, an expansive path of 2x2 up-convolutions, whose output is concatenated with the skip
("copy and crop"), and a last 1x1 convolution. Added to the paper: batch norm, `same` padding, and
uint8 input. What `valid` padding, the paper's own, needs besides is in `padding.py`.
"""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from padding import extend, network_margin, output_size, skip_margin
from utils import Classes


def bounded(default: Any, low: float, high: float = math.inf) -> Any:
    """A field of a dataclass with a default, whose values are at least `low` and at most `high`."""
    return field(default=default, metadata={"bounds": (low, high)})


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The options of a `UNet`: a new one is a line here, and a line below.

    The arguments of `UNet`, a recipe's fields, `--help` and the checkpoints follow. A checkpoint
    from before an option existed has its default, which must therefore change nothing.

    Args:
        width: channels of the first level, doubled at each level below; 64 in the paper.
        depth: poolings, so that there are depth + 1 levels; 4 in the paper.
        padding: of the 3x3 convolutions. `same` keeps height and width; with `valid`, as in the
            paper, the output is smaller than the image. A training on full frames extends them by
            reflection first, so that all their pixels are trained on.
        batch_norm: normalise after every 3x3 convolution (Ioffe & Szegedy 2015), which the paper
            does not do.

    Raises ValueError for settings that make no network.
    """

    width: int = bounded(64, 1, 4096)
    depth: int = bounded(4, 1, 8)
    padding: Literal["same", "valid"] = "same"
    batch_norm: bool = True

    def __post_init__(self):
        kinds = get_type_hints(type(self))
        for each in fields(self):
            value, kind = getattr(self, each.name), kinds[each.name]
            if get_origin(kind) is Literal and value not in get_args(kind):
                options = " or ".join(map(repr, get_args(kind)))
                raise ValueError(f"{each.name} must be {options}, not {value!r}")
            if value is None or "bounds" not in each.metadata:
                continue
            low, high = each.metadata["bounds"]
            for number in value if isinstance(value, tuple) else (value,):
                if not low <= number <= high:  # also refuses nan
                    raise ValueError(f"{each.name} must be between {low} and {high}, not {value}")

    def network(self) -> dict:
        """The network's options alone, also of a recipe, which has others too."""
        return {each.name: getattr(self, each.name) for each in fields(NetworkSettings)}


def normalize(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -2..2, any shape.

    The network calls it on uint8 input, so that a batch travels to the device as bytes.
    """
    return images.to(torch.float32, copy=True).div_(63.75).sub_(2)


def double_conv(in_channels: int, out_channels: int, options: NetworkSettings) -> nn.Module:
    """Twice 3x3 convolution, batch norm if asked for, ReLU: (N, in, H, W) -> (N, out, H, W).

    With `valid` padding H and W shrink by 4. Batch norm has a bias, so that the convolution
    before it needs none.
    """
    layers = []
    for channels in (in_channels, out_channels):
        bias = not options.batch_norm
        layers.append(nn.Conv2d(channels, out_channels, 3, padding=options.padding, bias=bias))
        if options.batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Up(nn.Module):
    """A level of the expansive path: 2x2 up-convolution, copy and crop, double 3x3 convolution.

    `margin` is how much of the skip is cropped at its top and left: 0 with `same` padding. It is
    fixed, so that both maps stay aligned when a pooling has dropped an odd last row.
    """

    def __init__(self, in_channels: int, margin: int, options: NetworkSettings):
        super().__init__()
        channels = in_channels // 2
        self.margin = margin
        self.up = nn.ConvTranspose2d(in_channels, channels, 2, stride=2)
        self.convs = double_conv(in_channels, channels, options)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, 2C, h, w) and a skip (N, C, H, W), H >= 2h -> (N, C, 2h, 2w), 4 less if `valid`."""
        x = self.up(x)  # (N, C, 2h, 2w)
        if self.margin:
            skip = skip[..., self.margin :, self.margin :][..., : x.shape[-2], : x.shape[-1]]
        return self.convs(self.join(skip, x))  # 2C channels in, C out

    def join(self, skip: Tensor, x: Tensor) -> Tensor:
        """Concatenate: (N, C, h, w) and (N, C, h, w) -> (N, 2C, h, w)."""
        return torch.cat([skip, x], dim=1)


class UNet(nn.Module):
    """U-Net for images of any size.

    Args:
        in_channels: of the image, 3 for RGB.
        num_classes: channels of the output.
        options: fields of `NetworkSettings`, which explains them.

    Attributes:
        settings: all of these, from which the network can be built again.
        margin: pixels of the image, at each side, without logits; 0 with `same` padding.
        classes, downscale: of the data that it is trained on, for `inference.predict`.
        known: the train ids that occurred in its validation; empty if that is unknown.

    Raises ValueError for settings that make no network.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 19, **options):
        super().__init__()
        for name, value in {"in_channels": in_channels, "num_classes": num_classes}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        options = NetworkSettings(**options)
        self.settings = {"in_channels": in_channels, "num_classes": num_classes, **asdict(options)}
        self.depth, self.padding = options.depth, options.padding
        self.classes: Classes | None = None
        self.downscale, self.known = 1, []
        is_valid = self.padding == "valid"
        self.margin = network_margin(self.depth) if is_valid else 0

        width = [options.width * 2**level for level in range(self.depth + 1)]
        self.contracting = nn.ModuleList(
            double_conv(i, o, options) for i, o in zip([in_channels, *width], width, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.expansive = nn.ModuleList(
            Up(channels, skip_margin(step) if is_valid else 0, options)
            for step, channels in enumerate(reversed(width[1:]))
        )
        self.conv_1x1 = nn.Conv2d(width[0], num_classes, 1)
        self.apply(init_weights)
        self.to(memory_format=torch.channels_last)  # the layout that convolutions are fast in

    def layers(self, x: Tensor) -> Tensor:
        """The network itself: normalised images whose size its poolings divide -> logits."""
        x = x.contiguous(memory_format=torch.channels_last)
        skips = []
        *levels, deepest = self.contracting
        for convs in levels:
            x = convs(x)  # -> (N, width * 2**level, H, W)
            skips.append(x)
            x = self.pool(x)  # (N, C, H, W) -> (N, C, H/2, W/2)
        x = deepest(x)
        for up in self.expansive:
            x = up(x, skips.pop())  # (N, C, H, W) -> (N, C/2, 2H, 2W)
        return self.conv_1x1(x)  # -> (N, num_classes, H, W)

    def forward(self, images: Tensor, full_image: bool = False) -> Tensor:
        """The logits of every pixel.

        Args:
            images: (N, in_channels, H, W), uint8 as they come from a file, or floats that
                went through `normalize`.
            full_image: with `valid` padding, extend the image by reflection first, as the paper
                does, so that all of its pixels get logits. No effect with `same`.

        Returns:
            (N, num_classes, *output_size(H, W)), or (N, num_classes, H, W) if `full_image`.
        """
        height, width = self.output_size(*images.shape[-2:], full_image)
        x = normalize(images) if images.dtype == torch.uint8 else images
        x = x.to(self.conv_1x1.weight.dtype)  # of a network that was made .half() or .bfloat16()
        x = extend(x, self.depth, self.padding, full_image)
        return self.layers(x)[..., :height, :width]

    def output_size(self, height: int, width: int, full_image: bool = False) -> tuple[int, int]:
        """Height and width of the output for an image of `height` x `width` pixels.

        Raises ValueError if the image is empty, or too small for `valid` padding.
        """
        return output_size(height, width, self.depth, "same" if full_image else self.padding)


def init_weights(module: nn.Module) -> None:
    """The paper's initialisation (section 3) of a convolution; other layers are left alone.

    Gaussian, of standard deviation sqrt(2 / N), N the number of a unit's inputs (He et al. 2015);
    biases at 0.
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        # A pixel of a 2x2 up-convolution of stride 2 sees one pixel of its input.
        inputs = module.weight[0].numel() if isinstance(module, nn.Conv2d) else module.in_channels
        nn.init.normal_(module.weight, std=(2 / inputs) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def check_settings(settings: dict, path: object) -> None:
    """Raise ValueError if a checkpoint's network has options that this version does not know."""
    known = {"in_channels", "num_classes"} | {each.name for each in fields(NetworkSettings)}
    if unknown := [str(name) for name in settings if name not in known]:
        raise ValueError(
            f"{path} needs a newer version: `{'`, `'.join(unknown)}` is not known to this one"
        )
