"""The data set in Cityscapes' format, its paired transforms, and the batches made of it."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import id2label
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from dataset import Cityscapes, downscale, paired_transforms, read_labels
from engine import Recipe, make_loader
from engine.augment import make_transforms
from engine.loaders import one_size_batches, set_epoch


def write_png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def first(tree: Path, kind: str = "leftImg8bit", split: str = "train") -> Path:
    return sorted((tree / kind / split).rglob("*.png"))[0]


# Reading


def test_an_item_is_an_image_and_a_mask_of_train_ids(streets):
    image, mask = Cityscapes(streets, "val")[0]
    assert isinstance(image, tv_tensors.Image)
    assert isinstance(mask, tv_tensors.Mask)
    assert (image.shape, image.dtype) == ((3, 64, 128), torch.uint8)
    assert (mask.shape, mask.dtype) == ((64, 128), torch.uint8)
    assert set(mask.unique().tolist()) <= {*range(19), 255}
    with Image.open(sorted((streets / "leftImg8bit" / "val").rglob("*.png"))[0]) as opened:
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.array(opened))
    with Image.open(first(streets, "gtFine", "val")) as opened:
        ids = np.array(opened).flatten().tolist()
    labels = [id2label[i] for i in ids]  # of the official scripts
    expected = [255 if label.ignoreInEval else label.trainId for label in labels]
    assert mask.flatten().tolist() == expected


def test_files_come_in_sorted_order_with_their_own_labels(streets):
    scenes = Cityscapes(streets, "train")
    assert scenes.images == sorted(scenes.images)
    assert len(scenes) == 12
    for image, target in zip(scenes.images, scenes.targets, strict=True):
        assert Path(image).name.replace("_leftImg8bit", "_gtFine_labelIds") == Path(target).name


def test_coarse_labels_and_train_extra_are_read_too(tree):
    fine, coarse = Cityscapes(tree, "train"), Cityscapes(tree, "train", mode="coarse")
    assert fine.images == coarse.images
    assert (coarse[0][1] == 255).float().mean() > (fine[0][1] == 255).float().mean()
    for kind in ("leftImg8bit", "gtCoarse"):
        (tree / kind / "train").rename(tree / kind / "train_extra")
    assert len(Cityscapes(tree, "train_extra", mode="coarse")) == 12
    with pytest.raises(ValueError, match="train_extra"):
        Cityscapes(tree, "train_extra")


def test_zips_as_downloaded_are_unpacked(streets, tmp_path):
    root = tmp_path / "zips"
    root.mkdir()
    for name, kind in (
        ("leftImg8bit_trainvaltest", "leftImg8bit"),
        ("gtFine_trainvaltest", "gtFine"),
    ):
        with zipfile.ZipFile(root / f"{name}.zip", "w") as archive:
            for path in sorted((streets / kind).rglob("*.png")):
                archive.write(path, path.relative_to(streets))
    ours, theirs = Cityscapes(root, "val"), Cityscapes(streets, "val")
    assert len(ours) == len(theirs) == 5
    assert torch.equal(ours[3][0], theirs[3][0])
    assert torch.equal(ours[3][1], theirs[3][1])


def test_the_root_may_name_a_variable_of_the_environment(streets, monkeypatch):
    monkeypatch.setenv("CITYSCAPES_DATASET", str(streets))
    assert len(Cityscapes("$CITYSCAPES_DATASET", "val")) == 5


# Paired transforms


def coordinates(height: int, width: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """An image in which each pixel's first channel equals its label: column, then row."""
    columns = torch.arange(width, dtype=torch.uint8).expand(height, width)
    rows = torch.arange(height, dtype=torch.uint8).unsqueeze(1).expand(height, width)
    image = tv_tensors.Image(torch.stack([columns, rows, columns]))
    return image, tv_tensors.Mask(columns.clone())


@pytest.mark.parametrize("seed", range(8))
def test_a_flip_hits_image_and_mask_alike_and_half_of_the_time(seed):
    torch.manual_seed(seed)
    transforms = paired_transforms(flip=0.5)
    flipped = 0
    for _ in range(60):
        image, mask = transforms(*coordinates(4, 9))
        assert torch.equal(image[0], mask)
        flipped += int(mask[0, 0] == 8)
    assert 15 < flipped < 45


@pytest.mark.parametrize("size", [(64, 128), (65, 127), (2, 3), (1, 1)])
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_downscaling_is_that_of_pytorch_and_of_pillow(size, factor):
    image = tv_tensors.Image(torch.randint(0, 256, (3, *size), dtype=torch.uint8))
    mask = tv_tensors.Mask(torch.randint(0, 19, size, dtype=torch.uint8))
    small, labels = downscale(image, factor), downscale(mask, factor)
    expected = tuple(max(n // factor, 1) for n in size)
    assert (small.shape[1:], labels.shape) == (expected, expected)
    theirs = torch.nn.functional.interpolate(
        image.unsqueeze(0).float(), expected, mode="bilinear", antialias=True
    )
    assert (small.float() - theirs[0]).abs().max() <= 1
    pillow = to_pil_image(image).resize(expected[::-1], Image.Resampling.BILINEAR)
    assert (small.int() - pil_to_tensor(pillow).int()).abs().max() <= 1
    turned = mask.flip(0, 1)[None, None].float()  # of several nearest, PyTorch takes the last
    nearest = torch.nn.functional.interpolate(turned, expected, mode="nearest-exact")
    assert torch.equal(labels.float(), nearest[0, 0].flip(0, 1))


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8])
def test_a_downscaled_mask_lies_on_its_image(factor):
    column = torch.arange(120, dtype=torch.uint8).expand(120, 120)
    image, mask = tv_tensors.Image(2 * column.expand(3, -1, -1)), tv_tensors.Mask(column)
    small, labels = downscale(image, factor)[0], downscale(mask, factor)
    inner = slice(2, -2)  # without what antialiasing mirrors at the border
    assert (small.float() / 2 - labels.float())[:, inner].abs().max() <= 0.75  # source pixels
    assert torch.equal(downscale(tv_tensors.Mask(column.T), factor), labels.T)


def test_labels_can_stay_at_full_resolution(streets):
    image, mask = Cityscapes(streets, "val", downscale=2, downscale_labels=False)[0]
    assert (image.shape, mask.shape) == ((3, 32, 64), (64, 128))


# Batches


def batches(streets, workers: int, epoch: int) -> torch.Tensor:
    recipe = Recipe(crop=(32, 48), scale=(0.5, 2), jitter=0.2, corrupt=0.5)
    transforms = make_transforms(recipe)
    scenes = Cityscapes(streets, "train", transforms=transforms, seed=3)
    loader = make_loader(scenes, 5, train=True, workers=workers)
    set_epoch(loader, epoch)
    pairs = list(loader)
    assert [len(images) for images, _ in pairs] == [5, 5, 2]
    assert {images.dtype for images, _ in pairs} == {torch.uint8}
    return torch.cat([images for images, _ in pairs])


def test_order_and_augmentation_do_not_depend_on_the_number_of_workers(streets):
    one = batches(streets, 0, epoch=1)
    torch.rand(7)  # what else is drawn meanwhile must not matter
    assert torch.equal(one, batches(streets, 2, epoch=1))
    assert torch.equal(one, batches(streets, 3, epoch=1))


def test_order_and_augmentation_do_not_depend_on_the_number_of_threads(streets):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = batches(streets, 0, epoch=1)
        torch.set_num_threads(4)
        assert torch.equal(one, batches(streets, 0, epoch=1))
    finally:
        torch.set_num_threads(threads)


def test_each_epoch_draws_anew(streets):
    assert not torch.equal(batches(streets, 0, epoch=1), batches(streets, 0, epoch=2))


def test_images_of_several_sizes_make_no_batch_in_training_and_batches_of_one_else(tree):
    write_png(first(tree), np.zeros((60, 128, 3), np.uint8))
    write_png(first(tree, "gtFine"), np.zeros((60, 128), np.uint8))
    scenes = Cityscapes(tree, "train")
    with pytest.raises(RuntimeError, match="equal size"):  # `make_loaders` names the files
        next(iter(make_loader(scenes, 12, train=True, workers=0)))
    batches = [*one_size_batches(make_loader(scenes, 12, train=False, workers=0))]
    assert [images.shape[-2:] for images, _ in batches] == [(60, 128)] + 11 * [(64, 128)]
    for (images, labels), (image, mask) in zip(batches, scenes, strict=True):
        assert torch.equal(images, image[None]) and torch.equal(labels, mask[None])


def test_labels_are_read_alone_too(streets):
    assert read_labels(first(streets, "gtFine")).shape == (64, 128)
