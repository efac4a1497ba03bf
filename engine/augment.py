"""Augmentation, so that a network generalises to other cameras and other light.

A step is a transform of torchvision.transforms.v2, or a function of an image and its mask. All
randomness comes from torch's default generator, as in torchvision's own transforms.
"""

import math
from functools import partial

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import Image, Mask, wrap

from dataset import paired_transforms, resize
from engine.recipe import Recipe
from utils import IGNORE_INDEX

GREY = 127  # nearly 0 once normalised, with which the convolutions pad


def make_transforms(recipe: Recipe) -> v2.Compose:
    """What happens to an image and its mask in training: a new step is a line here."""
    steps = []
    if recipe.crop:
        crop, scale = recipe.crop, recipe.scale or (1, 1)
        steps.append(partial(scaled_crop, crop=crop, scale=scale, keep_scale=recipe.keep_scale))
    steps.append(paired_transforms(recipe.flip))
    if recipe.jitter:
        steps.append(v2.Lambda(partial(jitter_colors, jitter=recipe.jitter), Image))
    if recipe.corrupt:
        steps.append(v2.RandomApply([v2.Lambda(corrupt, Image)], recipe.corrupt))
    return v2.Compose(steps)


def random_uniform(low: float, high: float) -> float:
    """A number between the two, uniformly."""
    return torch.empty(()).uniform_(low, high).item()


def scaled_crop(
    image: Image, mask: Mask, crop: tuple[int, int], scale: tuple[float, float], keep_scale: float
) -> tuple[Image, Mask]:
    """A random crop of an image and its mask at a random size.

    v2.ScaleJitter and v2.RandomCrop are as fast, but put a resized mask up to half a pixel beside
    its image (see `dataset.resize`).

    Args:
        image, mask: (3, H, W) and (H, W), uint8.
        crop: height and width of the result; where the scaled frame is smaller, it is padded, the
            image with grey and the mask with `IGNORE_INDEX`.
        scale: the frame is resized by a factor between these, log-uniformly.
        keep_scale: probability that it is not resized: resizing blurs, and the images that the
            network is used on are sharp.
    """
    keep = random_uniform(0, 1) < keep_scale
    factor = 1 if keep else math.exp(random_uniform(*map(math.log, scale)))
    # Cut out of the frame what will be the crop, and resize only that.
    height, width = (max(round(n / factor), 1) for n in crop)
    position = random_uniform(0, 1), random_uniform(0, 1)
    image = crop_or_pad(image, height, width, position, GREY)
    mask = crop_or_pad(mask, height, width, position, IGNORE_INDEX)
    return resize(image, crop), resize(mask, crop)


def crop_or_pad(
    image: Tensor, height: int, width: int, position: tuple[float, float], fill: int
) -> Tensor:
    """(..., H, W) -> (..., height, width), cut out `position` (0..1) of the way down and across.

    Beyond the image's edges there is `fill`.
    """
    missing = max(height - image.shape[-2], 0), max(width - image.shape[-1], 0)
    if any(missing):
        top, left = (int(p * (n + 1)) for p, n in zip(position, missing, strict=True))
        image = F.pad(image, [left, top, missing[1] - left, missing[0] - top], fill)
    spare = image.shape[-2] - height, image.shape[-1] - width
    top, left = (int(p * (n + 1)) for p, n in zip(position, spare, strict=True))
    return F.crop(image, top, left, height, width)


def jitter_colors(image: Image, jitter: float) -> Image:
    """Change gamma, brightness, contrast and saturation by up to `jitter`, hue by a sixth of it.

    All but gamma are linear in a pixel's colours, and become one matrix: v2.ColorJitter, without
    gamma, takes five times as long. Hue is a rotation about the grey axis.
    """
    gamma = math.exp(random_uniform(-jitter, jitter))
    brightness, contrast, saturation = (random_uniform(1 - jitter, 1 + jitter) for _ in range(3))
    angle = 2 * math.pi * random_uniform(-jitter / 6, jitter / 6)
    luma = torch.tensor([0.299, 0.587, 0.114])
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
    rotation = torch.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    matrix = rotation @ torch.eye(3).lerp(luma.expand(3, 3), 1 - saturation)

    colors = image.as_subclass(Tensor).flatten(1).float().div_(255).pow_(gamma)  # (3, pixels)
    grey = luma @ colors.mean(1)
    colors = torch.addmm((1 - contrast) * grey, matrix, colors, alpha=contrast)
    return to_bytes(image, colors.mul_(255 * brightness).view(image.shape))


def corrupt(image: Image) -> Image:
    """Blur of up to 2 pixels, sharpening, noise of up to 16 grey levels, or JPEG of 15 to 80."""
    kind, strength = int(random_uniform(0, 4)), random_uniform(0, 1)
    if kind == 0:
        return F.gaussian_blur(image, [11, 11], [0.3 + 1.7 * strength])
    if kind == 1:
        return F.adjust_sharpness(image, 1 + 3 * strength)
    if kind == 2:
        noise = torch.randn(image.shape).mul_(16 * strength)
        return to_bytes(image, noise.add_(image.as_subclass(Tensor)))
    return F.jpeg(image, 15 + int(65 * strength))


def to_bytes(image: Image, values: Tensor) -> Image:
    """Floats 0..255 as an image of bytes, of the kind that `image` is."""
    return wrap(values.round_().clamp_(0, 255).byte(), like=image)
