"""Augmentation, so that a network generalises to other cameras and other light.

All randomness comes from torch's default generator, as in torchvision's own transforms.
"""

import io
import math

import PIL.Image
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import Image, Mask, wrap

from dataset import resize
from utils import IGNORE_INDEX

GREY = 127  # nearly 0 once normalised, with which the convolutions pad


def augment(
    image: Image,
    mask: Mask,
    crop: tuple[int, int],
    scale: tuple[float, float],
    keep_scale: float,
    flip: float,
    jitter: float,
    degrade: float,
) -> tuple[Image, Mask]:
    """A random crop of an image and its mask, at another size, with other colours, and degraded.

    Args:
        image: (3, H, W) uint8.
        mask: (H, W) uint8.
        crop: height and width of the result; where the scaled frame is smaller, it is padded, the
            image with grey and the mask with `IGNORE_INDEX`.
        scale: the frame is resized by a factor between these, log-uniformly.
        keep_scale: probability that it is not resized: resizing blurs, and the images that the
            network is used on are sharp.
        flip: probability of a horizontal flip.
        jitter: how much light and colour change; see `jitter_colors`.
        degrade: probability of blur, sharpening, noise or JPEG; see `degrade_image`.
    """
    factor = 1 if random_bool(keep_scale) else math.exp(random_uniform(*map(math.log, scale)))
    # Cut out of the frame what will be the crop, and resize only that.
    height, width = (max(round(n / factor), 1) for n in crop)
    position = random_uniform(0, 1), random_uniform(0, 1)
    image = crop_or_pad(image, height, width, position, GREY)
    mask = crop_or_pad(mask, height, width, position, IGNORE_INDEX)
    if (height, width) != tuple(crop):
        image, mask = resize(image, crop), resize(mask, crop)
    if random_bool(flip):
        image, mask = F.horizontal_flip(image), F.horizontal_flip(mask)
    if jitter:
        image = jitter_colors(image, jitter)
    if random_bool(degrade):
        image = degrade_image(image)
    return image, mask


def random_uniform(low: float, high: float) -> float:
    """A number between the two, uniformly."""
    return torch.empty(()).uniform_(low, high).item()


def random_bool(probability: float) -> bool:
    """True with this probability."""
    return random_uniform(0, 1) < probability


def crop_or_pad(
    image: Tensor, height: int, width: int, position: tuple[float, float], fill: int
) -> Tensor:
    """(..., H, W) -> (..., height, width), `position` (0..1) of the way down and across.

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
    """Change gamma, brightness, contrast and saturation by up to a share, hue by a sixth of it.

    All but gamma are linear in a pixel's colours, and become one matrix, since torchvision's
    adjust_hue takes fifty times as long. Hue is a rotation about the grey axis.
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


def degrade_image(image: Image) -> Image:
    """Gaussian blur of up to 2 pixels, sharpening, noise of up to 16 grey levels, or JPEG.

    JPEG's quality is 15 to 80.
    """
    kind, strength = int(random_uniform(0, 4)), random_uniform(0, 1)
    if kind == 0:
        return F.gaussian_blur(image, [11, 11], [0.3 + 1.7 * strength])
    if kind == 1:
        return F.adjust_sharpness(image, 1 + 3 * strength)
    if kind == 2:
        noise = torch.randn(image.shape).mul_(16 * strength)
        return to_bytes(image, noise.add_(image.as_subclass(Tensor)))
    return jpeg(image, 15 + int(65 * strength))


def jpeg(image: Image, quality: int) -> Image:
    """An image after JPEG compression, by Pillow."""
    data = io.BytesIO()
    F.to_pil_image(image).save(data, "jpeg", quality=quality)
    with PIL.Image.open(data) as decoded:
        return wrap(F.pil_to_tensor(decoded), like=image)


def to_bytes(image: Image, values: Tensor) -> Image:
    """Floats 0..255 as an image of bytes, of the kind that `image` is."""
    return wrap(values.round_().clamp_(0, 255).byte(), like=image)
