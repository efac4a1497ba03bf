"""What holds for any input, tried on inputs that hypothesis thinks up."""

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors

import prepare.camvid
from dataset import Cityscapes
from engine import Recipe
from engine.augment import make_transforms
from inference import load_model
from model import UNet
from runtime.checkpoint import load_checkpoint, save_checkpoint
from streets import draw_tree
from utils import CITYSCAPES

pytestmark = pytest.mark.slow

# No deadline: a shared machine may stop a test for minutes.
settings.register_profile(
    "project", deadline=None, max_examples=25, suppress_health_check=list(HealthCheck)
)
settings.load_profile("project")

seeds = st.integers(0, 2**31 - 1)
sides = st.integers(1, 70)


# Pairs


def coordinates(height: int, width: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """An image whose first channel is its labels: the column's number."""
    columns = torch.arange(width, dtype=torch.uint8).expand(height, width)
    return tv_tensors.Image(torch.stack([columns] * 3)), tv_tensors.Mask(columns.clone())


@given(seeds, sides, sides, st.integers(2, 70), st.integers(2, 70), st.floats(0, 1))
def test_image_and_mask_stay_paired_through_crop_and_flip(seed, height, width, rows, columns, flip):
    torch.manual_seed(seed)
    transforms = make_transforms(Recipe(crop=(rows, columns), flip=flip, batch_norm=False))
    image, mask = transforms(*coordinates(height, width))
    assert (image.shape, mask.shape) == ((3, rows, columns), (rows, columns))
    assert (image.dtype, mask.dtype) == (torch.uint8, torch.uint8)
    inside = mask != 255
    assert inside.sum() == min(rows, height) * min(columns, width)
    assert torch.equal(image[0][inside], mask[inside]) and (image[0][~inside] == 127).all()


@given(seeds, sides, sides, st.integers(1, 64), st.booleans())
def test_downscaling_divides_height_and_width_and_invents_no_label(
    seed, height, width, factor, labels_too
):
    rng = np.random.default_rng(seed)
    ids = rng.choice(np.array([7, 11, 23, 0], np.uint8), (height, width))
    colours = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        write_pair(Path(folder), "train", "aachen", colours, ids)
        scenes = Cityscapes(folder, "train", downscale=factor, downscale_labels=labels_too)
        image, mask = scenes[0]
    small = (max(height // factor, 1), max(width // factor, 1))
    assert image.shape == (3, *small)
    assert mask.shape == (small if labels_too else (height, width))
    assert set(mask.unique().tolist()) <= {int(CITYSCAPES.train_ids[i]) for i in np.unique(ids)}


# Round trips


def values(each: dataclasses.Field) -> st.SearchStrategy:
    """Values of a recipe's field, by its type and its bounds."""
    low, high = each.metadata.get("bounds", (None, None))
    high = None if high == math.inf else high
    text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1)
    kinds = {
        str: text,
        int: st.integers(low, high),
        float: st.floats(low, high, allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        type(None): st.none(),
    }

    def of(kind: type) -> st.SearchStrategy:
        parts = get_args(kind)
        if get_origin(kind) is Literal:
            return st.sampled_from(parts)
        if get_origin(kind) is tuple:
            parts = [of(part) for part in parts if part is not ...]
            return st.tuples(*parts).map(sorted).map(tuple)
        return st.one_of(*map(of, parts)) if parts else kinds[kind]

    return of(get_type_hints(Recipe)[each.name])


FIELDS = {each.name: values(each) for each in dataclasses.fields(Recipe)}


@st.composite
def recipes(draw) -> Recipe:
    """Any recipe that the checks let pass."""
    names = draw(st.sets(st.sampled_from(sorted(FIELDS)), max_size=6))
    try:
        return Recipe(**{name: draw(FIELDS[name]) for name in sorted(names)})
    except ValueError:
        reject()


@settings(max_examples=10)
@given(recipes())
def test_a_recipe_comes_back_from_yaml(recipe):
    fields = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(recipe).items()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        for unicode in (True, False):
            path.write_text(yaml.safe_dump(fields, allow_unicode=unicode), encoding="utf-8")
            assert Recipe.from_file(path) == recipe


@settings(max_examples=10)
@given(recipes(), seeds, st.sampled_from(["same", "valid"]), st.integers(1, 3), st.booleans())
def test_a_checkpoint_comes_back_from_disk(recipe, seed, padding, depth, batch_norm):
    torch.manual_seed(seed)
    network = {"width": 1, "depth": depth, "padding": padding, "batch_norm": batch_norm}
    model = UNet(**network)
    model.classes = CITYSCAPES
    try:
        recipe = dataclasses.replace(recipe, **network)
    except ValueError:  # as crops that a `valid` network cannot take
        reject()
    history = [{"epoch": 1, "mIoU": seed / 2**31, "iou": {"road": None}}]
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "a.pt", model, recipe, history)
        found, loaded = load_checkpoint(f"{folder}/a.pt"), load_model(f"{folder}/a.pt")
    assert Recipe(**found["recipe"]) == recipe
    assert (found["settings"], found["history"]) == (model.settings, history)
    assert loaded.settings == model.settings
    assert (loaded.classes, loaded.downscale) == (CITYSCAPES, recipe.downscale)
    for name, value in model.state_dict().items():
        assert torch.equal(value, found["model"][name]), name
        assert torch.equal(value, loaded.state_dict()[name]), name


# Prepared trees


def write_pair(root: Path, split: str, city: str, colours: np.ndarray, ids: np.ndarray) -> None:
    for kind, suffix, pixels in (
        ("leftImg8bit", "leftImg8bit", colours),
        ("gtFine", "gtFine_labelIds", ids),
    ):
        folder = root / kind / split / city
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{city}_000000_000000_{suffix}.png")


@settings(max_examples=15)
@given(seeds, sides, sides, st.integers(1, 4))
def test_what_camvid_gives_reads_back_exactly(seed, height, width, frames):
    rng = np.random.default_rng(seed)
    written = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "CamVid"
        for frame in range(frames):
            colours = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            ids = rng.integers(0, 12, (height, width), dtype=np.uint8)
            for kind, pixels in (("train", colours), ("trainannot", ids)):
                (source / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(source / kind / f"0001TP_{frame:06d}.png")
            written.append((colours, ids))
        prepare.camvid.convert(source, Path(folder) / "out")
        scenes = Cityscapes(Path(folder) / "out", "train")
        assert len(scenes) == frames
        for (image, mask), (colours, ids) in zip(scenes, written, strict=True):
            assert np.array_equal(image.permute(1, 2, 0).numpy(), colours)
            expected = [CITYSCAPES.train_ids[prepare.camvid.IDS[i]] for i in ids.flatten().tolist()]
            assert mask.flatten().tolist() == [int(i) for i in expected]


@settings(max_examples=3)
@given(st.integers(0, 10**6), st.integers(32, 60), st.integers(16, 30))
def test_what_streets_draws_reads_back_exactly(seed, half_width, half_height):
    size = (2 * half_width, 2 * half_height)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "drawn"
        draw_tree(root, train=1, val=1, size=size, seed=seed, workers=1, quiet=True)
        for split, mode in (("train", "fine"), ("val", "fine"), ("train", "coarse")):
            ((image, mask),) = scenes = Cityscapes(root, split, mode)
            assert image.shape == (3, *reversed(size))
            with Image.open(scenes.images[0]) as drawn, Image.open(scenes.targets[0]) as ids:
                assert np.array_equal(image.permute(1, 2, 0).numpy(), np.array(drawn))
                assert torch.equal(
                    mask, CITYSCAPES.train_ids[torch.from_numpy(np.array(ids)).int()]
                )
