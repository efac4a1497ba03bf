"""Augmentation: sizes, image and mask together, what is left alone, what the generator decides."""

from functools import cache

import pytest
import torch
from torchvision.tv_tensors import Image, Mask

from engine import Recipe
from engine.augment import corrupt, jitter_colors, make_transforms
from utils import IGNORE_INDEX


def pair(height=90, width=120):
    """A image whose red channel is its mask times ten."""
    mask = torch.randint(0, 19, (height // 10, width // 10), dtype=torch.uint8)
    mask = mask.repeat_interleave(10, 0).repeat_interleave(10, 1)
    return Image(torch.stack([mask * 10, mask, mask])), Mask(mask)


ALL = {"scale": (0.2, 3), "jitter": 0.3, "corrupt": 0.6}


@cache
def transforms(crop, **fields):
    return make_transforms(Recipe(crop=crop, batch_norm=False, **fields))


def augment(image, mask, crop, **fields):
    return transforms(crop, **fields)(image, mask)


@pytest.mark.parametrize("size", [(90, 120), (30, 40), (20, 400), (7, 5)])
@pytest.mark.parametrize("crop", [(48, 64), (90, 120), (200, 100)])
def test_any_frame_gives_a_crop_of_the_size_asked_for(size, crop):
    for seed in range(20):
        torch.manual_seed(seed)
        image, mask = augment(*pair(*size), crop, **ALL)
        assert type(image) is Image and type(mask) is Mask
        assert image.shape == (3, *crop) and mask.shape == crop
        assert image.dtype == mask.dtype == torch.uint8


@pytest.mark.parametrize("along", [0, 1])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7, 3.0])
def test_image_and_mask_stay_together(along, scale):
    position = torch.arange(95).view([-1, 1] if along == 0 else [1, -1]).expand(95, 95)
    image = Image((2 * position).to(torch.uint8).expand(3, 95, 95).clone())
    mask = Mask((position // 5).to(torch.uint8).clone())
    off = []
    for seed in range(30):
        torch.manual_seed(seed)
        got, labels = augment(image, mask, (40, 40), scale=(scale, scale))
        values, labels = got[0].as_subclass(torch.Tensor) / 10, labels.as_subclass(torch.Tensor)
        off.append((values - labels - 0.4)[labels != IGNORE_INDEX])
    off = torch.cat(off)
    assert off.abs().max() < 0.85
    assert off.mean().abs() * 5 * scale < 0.3  # pixels of the crop


def test_what_lies_outside_the_frame_is_ignored_wherever_the_frame_is():
    places = set()
    for seed in range(30):
        torch.manual_seed(seed)
        image, mask = augment(*pair(30, 40), (60, 80), flip=0)
        inside = (mask != IGNORE_INDEX).nonzero()
        assert len(inside) == 30 * 40
        places.add(tuple(inside[0].tolist()))
        assert (image[:, mask == IGNORE_INDEX] == 127).all()
    assert len(places) > 20


def test_without_a_scale_pixels_are_those_of_the_frame():
    columns = torch.arange(50, dtype=torch.uint8).expand(3, 30, 50)
    for seed in range(20):
        torch.manual_seed(seed)
        frame = Image(columns.clone()), Mask(columns[0].clone())
        image, mask = augment(*frame, (20, 70), flip=float(seed % 2))
        inside = mask != IGNORE_INDEX
        assert inside.sum() == 20 * 50
        assert torch.equal(image[0][inside], mask[inside])


def test_corruption_and_colour_jitter_keep_the_form_and_change_the_bytes():
    image = Image(torch.randint(60, 180, (3, 40, 50), dtype=torch.uint8))
    torch.manual_seed(0)
    for change in (corrupt, lambda image: jitter_colors(image, 0.3)):
        got = [change(image) for _ in range(20)]
        assert all(x.shape == image.shape and x.dtype == torch.uint8 for x in got)
        assert sum(not torch.equal(x, image) for x in got) > 17
    calm = jitter_colors(image, 1e-6).int() - image.int()
    assert calm.abs().max() <= 1


def test_colours_and_corruption_leave_the_mask_alone():
    image, mask = pair()
    got, labels = augment(image, mask, (90, 120), flip=0, jitter=0.5, corrupt=1)
    assert torch.equal(labels, mask) and not torch.equal(got, image)
