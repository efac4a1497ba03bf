"""The data set in Cityscapes' format, its transforms and augmentation, and its batches."""

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import id2label
from PIL import Image
from torch.nn.functional import interpolate
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from dataset import Cityscapes, downscale, paired_transforms, read_labels
from engine import Recipe, loaders, make_loader
from engine.augment import corrupt, jitter_colors, make_transforms
from tests.samples import first, pack
from tests.training import noise
from utils import IGNORE_INDEX


def test_an_item_is_an_image_and_a_mask_of_train_ids(streets):
    scenes = Cityscapes(streets, "val")
    assert scenes.images == sorted(scenes.images) and len(scenes) == 5
    for image, target in zip(scenes.images, scenes.targets, strict=True):
        assert image.replace("leftImg8bit", "gtFine") == target.replace("_labelIds", "")
    image, mask = scenes[0]
    assert isinstance(image, tv_tensors.Image)
    assert isinstance(mask, tv_tensors.Mask)
    assert (image.shape, image.dtype) == ((3, 64, 128), torch.uint8)
    assert (mask.shape, mask.dtype) == ((64, 128), torch.uint8)
    assert set(mask.unique().tolist()) <= {*range(19), 255}
    with Image.open(first(streets, split="val")) as opened:
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.array(opened))
    with Image.open(first(streets, "gtFine", "val")) as opened:
        ids = np.array(opened).flatten().tolist()
    labels = [id2label[i] for i in ids]  # of the official scripts
    expected = [255 if label.ignoreInEval else label.trainId for label in labels]
    assert mask.flatten().tolist() == expected
    assert torch.equal(read_labels(first(streets, "gtFine", "val")), mask)


def test_coarse_labels_and_train_extra_are_read_too(tree):
    fine, coarse = Cityscapes(tree, "train"), Cityscapes(tree, "train", mode="coarse")
    assert fine.images == coarse.images
    assert (coarse[0][1] == 255).float().mean() > (fine[0][1] == 255).float().mean()
    for kind in ("leftImg8bit", "gtCoarse"):
        (tree / kind / "train").rename(tree / kind / "train_extra")
    assert len(Cityscapes(tree, "train_extra", mode="coarse")) == 12
    with pytest.raises(ValueError, match="train_extra"):
        Cityscapes(tree, "train_extra")


def test_zips_are_unpacked_where_a_variable_of_the_environment_says(streets, tmp_path, monkeypatch):
    pack(streets, tmp_path)
    monkeypatch.setenv("CITYSCAPES_DATASET", str(tmp_path))
    ours, theirs = Cityscapes("$CITYSCAPES_DATASET", "val"), Cityscapes(streets, "val")
    assert len(ours) == len(theirs) == 5
    assert torch.equal(ours[3][0], theirs[3][0])
    assert torch.equal(ours[3][1], theirs[3][1])


@pytest.mark.parametrize("seed", range(8))
def test_a_flip_hits_image_and_mask_alike_and_half_of_the_time(seed):
    torch.manual_seed(seed)
    transforms, flipped = paired_transforms(flip=0.5), 0
    columns = torch.arange(9, dtype=torch.uint8).repeat(3, 4, 1)
    for _ in range(60):
        image, mask = transforms(tv_tensors.Image(columns), tv_tensors.Mask(columns[0]))
        assert torch.equal(image[0], mask)
        flipped += int(mask[0, 0] == 8)
    assert 15 < flipped < 45


@pytest.mark.parametrize("size", [(64, 128), (65, 127), (2, 3), (1, 1)])
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_downscaling_is_that_of_pytorch_and_of_pillow(size, factor):
    image = tv_tensors.Image(noise(3, *size))
    mask = tv_tensors.Mask(torch.randint(0, 19, size, dtype=torch.uint8))
    small, labels = downscale(image, factor), downscale(mask, factor)
    expected = tuple(max(n // factor, 1) for n in size)
    assert (small.shape[1:], labels.shape) == (expected, expected)
    theirs = interpolate(image[None].float(), expected, mode="bilinear", antialias=True)
    assert (small.float() - theirs[0]).abs().max() <= 1
    pillow = to_pil_image(image).resize(expected[::-1], Image.Resampling.BILINEAR)
    assert (small.int() - pil_to_tensor(pillow).int()).abs().max() <= 1
    turned = mask.flip(0, 1)[None, None].float()  # of several nearest, PyTorch takes the last
    nearest = interpolate(turned, expected, mode="nearest-exact")
    assert torch.equal(labels.float(), nearest[0, 0].flip(0, 1))


def batches(streets, workers: int, epoch: int) -> torch.Tensor:
    transforms = make_transforms(Recipe(crop=(32, 48), scale=(0.5, 2), jitter=0.2, corrupt=0.5))
    scenes = Cityscapes(streets, "train", transforms=transforms, seed=3)
    loader = make_loader(scenes, 5, train=True, workers=workers)
    loaders.set_epoch(loader, epoch)
    pairs = list(loader)
    assert [len(images) for images, _ in pairs] == [5, 5, 2]
    assert {images.dtype for images, _ in pairs} == {torch.uint8}
    return torch.cat([images for images, _ in pairs])


def test_order_and_augmentation_depend_on_the_epoch_and_not_on_workers_and_threads(streets):
    threads = torch.get_num_threads()
    one = batches(streets, 0, epoch=1)
    try:
        torch.set_num_threads(4)
        torch.rand(7)  # what else is drawn meanwhile must not matter
        for workers in (0, 2, 3):
            assert torch.equal(one, batches(streets, workers, epoch=1))
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(one, batches(streets, 0, epoch=2))


@pytest.mark.parametrize("seed", [None, 3])
def test_a_step_that_loses_the_types_is_refused_since_flips_would_miss_the_mask(streets, seed):
    def roll(image, mask):
        return image.roll(3, -1), mask.roll(3, -1)  # plain tensors

    with pytest.raises(TypeError, match=r"wrap\(result, like=image\)"):
        Cityscapes(streets, transforms=roll, seed=seed)[0]


def pair(height=90, width=120):
    """A image whose red channel is its mask times ten."""
    mask = torch.randint(0, 19, (height // 10, width // 10), dtype=torch.uint8)
    mask = mask.repeat_interleave(10, 0).repeat_interleave(10, 1)
    return tv_tensors.Image(torch.stack([mask * 10, mask, mask])), tv_tensors.Mask(mask)


def augment(image, mask, crop, **fields):
    return make_transforms(Recipe(crop=crop, batch_norm=False, **fields))(image, mask)


@pytest.mark.parametrize("size", [(90, 120), (30, 40), (20, 400), (7, 5)])
@pytest.mark.parametrize("crop", [(48, 64), (90, 120), (200, 100)])
def test_any_frame_gives_a_crop_of_the_size_asked_for(size, crop):
    for seed in range(20):
        torch.manual_seed(seed)
        image, mask = augment(*pair(*size), crop, scale=(0.2, 3), jitter=0.3, corrupt=0.6)
        assert type(image) is tv_tensors.Image and type(mask) is tv_tensors.Mask
        assert image.shape == (3, *crop) and mask.shape == crop
        assert image.dtype == mask.dtype == torch.uint8


@pytest.mark.parametrize("along", [0, 1])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7, 3.0])
def test_image_and_mask_stay_together(along, scale):
    position = torch.arange(95).view([-1, 1] if along == 0 else [1, -1]).expand(95, 95)
    image = tv_tensors.Image((2 * position).to(torch.uint8).expand(3, 95, 95).clone())
    mask = tv_tensors.Mask((position // 5).to(torch.uint8).clone())
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
        image, mask = augment(*pair(30, 40), (60, 80), flip=float(seed % 2))
        inside = mask != IGNORE_INDEX
        assert inside.sum() == 30 * 40
        assert torch.equal(image[0][inside], 10 * mask[inside])  # the pixels as they were
        assert (image[:, ~inside] == 127).all()
        places.add(tuple(inside.nonzero()[0].tolist()))
    assert len(places) > 20


def test_corruption_and_colour_jitter_keep_form_and_mask_and_change_the_bytes():
    image = tv_tensors.Image(torch.randint(60, 180, (3, 40, 50), dtype=torch.uint8))
    for change in (corrupt, lambda image: jitter_colors(image, 0.3)):
        got = [change(image) for _ in range(20)]
        assert all(x.shape == image.shape and x.dtype == torch.uint8 for x in got)
        assert sum(not torch.equal(x, image) for x in got) > 17
    assert (jitter_colors(image, 1e-6).int() - image.int()).abs().max() <= 1
    image, mask = pair()
    got, labels = augment(image, mask, (90, 120), flip=0, jitter=0.5, corrupt=1)
    assert torch.equal(labels, mask) and not torch.equal(got, image)
