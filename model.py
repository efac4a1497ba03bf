"""U-Net (Ronneberger, Fischer & Brox 2015, https://arxiv.org/abs/1505.04597).

The network of the paper's figure 1, its parts under the figure's names: a contracting path of
double 3x3 convolutions and 2x2 max pooling, an expansive path of 2x2 up-convolutions whose
result is joined with the skip ("copy and crop"), and a last 1x1 convolution. What is added to
the paper is said in `UNet`: batch norm, `same` padding, and input in bytes.
"""

from functools import partial
from itertools import count
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import pil_to_tensor

import lean
from checkpoint import load_checkpoint
from convolution import Conv3x3, UpConv2x2
from pictures import read_picture, unfit
from speed import fold_batch_norm, keep_freed_memory
from utils import downscale


def normalize(images: Tensor) -> Tensor:
    """Bytes as the network wants them: uint8 0..255 -> float32 -2..2, any shape.

    The only place where the project normalises. The network calls it on uint8 input, on the
    device, so that a batch travels as bytes and whoever predicts cannot forget it.
    """
    return images.float().div_(63.75).sub_(2)


def mirror(images: Tensor, height: int, width: int, margin: int = 0) -> Tensor:
    """Extend (N, C, H, W) by reflection to (N, C, height, width).

    The picture is put `margin` pixels from the top and left; what is right of it and below is
    mirrored too, as often as needed (`F.pad` reflects only once). This is the paper's
    extrapolation of missing context (section 2, figure 2).
    """

    def index(size: int, padded: int) -> Tensor:
        period = max(2 * (size - 1), 1)
        i = (torch.arange(padded, device=images.device) - margin) % period
        return torch.minimum(i, period - i) if size > 1 else torch.zeros_like(i)

    rows, columns = index(images.shape[-2], height), index(images.shape[-1], width)
    return images.index_select(-2, rows).index_select(-1, columns)


def conv_3x3(in_channels: int, out_channels: int, padding: str, batch_norm: bool) -> list:
    """3x3 convolution, batch norm if asked for, ReLU: (N, in, H, W) -> (N, out, H, W).

    With `valid` padding H and W shrink by 2. The bias is left to the batch norm where there
    is one.
    """
    conv = Conv3x3(in_channels, out_channels, padding, bias=not batch_norm)
    norm = [nn.BatchNorm2d(out_channels)] if batch_norm else []
    return [conv, *norm, nn.ReLU(inplace=True)]


def double_conv(in_channels: int, out_channels: int, padding: str, batch_norm: bool) -> nn.Module:
    """Two `conv_3x3` in a row, a level of either path: (N, in, H, W) -> (N, out, H, W)."""
    return nn.Sequential(
        *conv_3x3(in_channels, out_channels, padding, batch_norm),
        *conv_3x3(out_channels, out_channels, padding, batch_norm),
    )


class UpConv(nn.Module):
    """A level of the expansive path: up-conv 2x2, copy and crop, double 3x3 convolution.

    `margin` is how many pixels of the skip, at its top and left, have no counterpart in the
    map from below: 0 with `same` padding. A fixed margin, rather than centring, keeps both
    maps aligned when a pooling has dropped an odd last row.
    """

    def __init__(self, in_channels: int, padding: str, batch_norm: bool, margin: int):
        super().__init__()
        channels = in_channels // 2
        self.margin = margin
        self.up = UpConv2x2(in_channels, channels)
        self.convs = double_conv(in_channels, channels, padding, batch_norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, 2C, h, w) and a skip (N, C, H, W), H >= 2h -> (N, C, 2h, 2w), 4 less if `valid`."""
        x = self.up(x)  # (N, C, 2h, 2w)
        top, left = self.margin, self.margin
        skip = skip[..., top : top + x.shape[-2], left : left + x.shape[-1]]
        return self.convs(torch.cat([skip, x], dim=1))  # 2C channels in, C out


class UNet(nn.Module):
    """U-Net for pictures of any size.

    Args:
        in_channels: of the picture, 3 for RGB.
        num_classes: channels of the result.
        width: channels of the first level, doubled at each level below; 64 in the paper.
        depth: poolings, so that there are depth + 1 levels; 4 in the paper.
        padding: `"valid"` as in the paper, where the result is smaller than the picture by
            `margin` on each side (572x572 in, 388x388 out at depth 4), or `"same"`, where
            height and width come back unchanged.
        batch_norm: normalise after every 3x3 convolution (Ioffe & Szegedy 2015), which the
            paper does not do.

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
        self.settings = {**sizes, "depth": depth, "padding": padding, "batch_norm": batch_norm}
        self.depth, self.padding = depth, padding
        self.downscale = 1  # of the pictures it was trained on, for `predict`

        channels = [width * 2**level for level in range(depth + 1)]
        self.contracting = nn.ModuleList(
            double_conv(i, o, padding, batch_norm)
            for i, o in zip([in_channels, *channels[:-1]], channels, strict=True)
        )
        self.expansive = nn.ModuleList()
        margin = 4  # of a skip, in its own pixels: two convolutions below, twice as fine
        for c in reversed(channels[1:]):
            cut = margin if padding == "valid" else 0
            self.expansive.append(UpConv(c, padding, batch_norm, margin=cut))
            margin = 2 * (margin + 4)
        self.conv_1x1 = nn.Conv2d(width, num_classes, 1)
        # The top skip's margin, and a double convolution before and after it.
        self.margin = self.expansive[-1].margin + 4 if padding == "valid" else 0
        self.apply(init_weights)
        self.to(memory_format=torch.channels_last)  # the layout that convolutions are fast in

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result for a picture of `height` x `width` pixels.

        Raises ValueError if the picture is empty, or too small for `valid` padding.
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
        """Class scores of every pixel.

        Args:
            images: (N, in_channels, H, W), bytes as they come from a file, or floats that
                went through `normalize`.
            whole: with `valid` padding, extend the picture by reflection first, as the paper
                does, so that every pixel of it gets its scores. No effect with `same`.

        Returns:
            logits (N, num_classes, *output_size(H, W)), or (N, num_classes, H, W) if `whole`.
        """
        size = images.shape[-2:]
        x = normalize(images) if images.dtype == torch.uint8 else images
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
        x = x.contiguous(memory_format=torch.channels_last)
        by_hand = type(self) is UNet and lean.applies(self, x)
        layers = partial(lean.forward, self) if by_hand else self.layers
        return layers(x)[..., :height, :width]

    def layers(self, x: Tensor) -> Tensor:
        """The network itself: normalised floats of a size that it takes -> logits."""
        skips = []
        for level, convs in enumerate(self.contracting):
            if level:
                skips.append(x)
                x = F.max_pool2d(x, 2)  # (N, C, H, W) -> (N, C, H/2, W/2)
            x = convs(x)  # -> (N, width * 2**level, H, W)
        for up_conv in self.expansive:
            x = up_conv(x, skips.pop())  # (N, C, H, W) -> (N, C/2, 2H, 2W)
        return self.conv_1x1(x)  # -> (N, num_classes, H, W)


def init_weights(module: nn.Module) -> None:
    """The paper's initialisation (section 3), for a convolution; others are left alone."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        # A pixel of a 2x2 up-convolution of stride 2 sees one pixel of its input.
        inputs = module.weight[0].numel() if isinstance(module, nn.Conv2d) else module.in_channels
        nn.init.normal_(module.weight, std=(2 / inputs) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def load_model(path: str | Path, device: str | torch.device = "cpu") -> UNet:
    """The network of a checkpoint on `device`, in evaluation mode.

    Raises as `load_checkpoint`, and ValueError if weights and settings do not fit each other.
    """
    checkpoint = load_checkpoint(path)
    try:
        model = UNet(**checkpoint["settings"])
        model.load_state_dict(checkpoint["model"])
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: its weights do not fit its settings {checkpoint['settings']} ({error}): "
            "restore it from a copy, or take another"
        ) from error
    if not all(value.isfinite().all() for value in model.state_dict().values()):
        raise ValueError(f"{path}: its weights are not all finite numbers: take an earlier one")
    for name in checkpoint["settings"].keys() & checkpoint["recipe"].keys():
        ours, theirs = checkpoint["settings"][name], checkpoint["recipe"][name]
        if ours != theirs:  # of padding, the weights themselves would not tell
            raise ValueError(
                f"{path}: {name} is {ours!r} by its settings and {theirs!r} by its recipe: "
                "restore it from a copy, or take another"
            )
    model.downscale = checkpoint["recipe"]["downscale"]
    return model.to(device).eval()


@torch.inference_mode()
def predict(model: UNet, image: str | Path | Image.Image | Tensor) -> Tensor:
    """The class of every pixel of a picture of any size.

    Args:
        model: as `load_model` returns it. A model trained on pictures downscaled by
            `model.downscale` sees this one downscaled too; its logits are upsampled.
        image: a file or a PIL image, made RGB, its pixels as they are stored; or a uint8 tensor
            (3, H, W).

    Returns:
        (H, W) uint8 train ids, on the CPU; (3, H, W) gave H and W.

    Raises:
        FileNotFoundError, or ValueError for a file that is no picture, one that 8-bit RGB cannot
        say (see `read_picture`) or a tensor of another form.
    """
    if isinstance(image, str | Path):
        image = read_picture(image)
    if isinstance(image, Image.Image):
        if why := unfit(image):
            raise ValueError(f"the picture {why}")
        image = pil_to_tensor(image.convert("RGB"))
    is_tensor = isinstance(image, Tensor)
    if not is_tensor or image.dtype != torch.uint8 or image.shape[:-2] != (3,) or not image.numel():
        found = f"{image.dtype} {tuple(image.shape)}" if is_tensor else type(image).__name__
        raise ValueError(
            "predict takes one RGB picture, uint8 (3, H, W) with values 0..255, or a file or a "
            f"PIL image, not {found}"
        )
    size = image.shape[-2:]
    if model.downscale > 1:
        image = downscale(image, model.downscale)
    device = next(model.parameters()).device
    keep_freed_memory()
    net = fold_batch_norm(model)
    logits = net(image.unsqueeze(0).to(device), whole=True)  # (1, num_classes, h, w)
    if logits.shape[-2:] != size:
        logits = F.interpolate(logits, size, mode="bilinear")
    return logits[0].argmax(0).to("cpu", torch.uint8)
