"""Recipes from files and command lines, what is refused, and the command `train.py`, by its `main`.

test_crash.py runs it as a process.
"""

import dataclasses
import json
import math
import re
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
import yaml

import train
from engine import Recipe, given, make_model
from engine.recipe import parse_recipe, recipe_parser
from tests.processes import ROOT, STREETS, options
from utils import CITYSCAPES, Classes

BOUNDED = [each for each in fields(Recipe) if "bounds" in each.metadata]
KINDS = get_type_hints(Recipe)
main = train.main.__wrapped__  # without torchrun's report of errors


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/*.yaml")), ids=lambda path: path.stem)
def test_a_delivered_recipe_is_its_file_over_the_defaults(path):
    content = yaml.safe_load(path.read_text())
    assert Recipe.from_file(path) == Recipe(**content) and len(content) > 5
    assert (Recipe(**content) == Recipe()) == (path.stem == "cityscapes")


def has(each: dataclasses.Field, *kinds: str) -> bool:
    """Whether one of these words stands in a field's type."""
    return bool(set(kinds) & set(re.findall(r"\w+", str(KINDS[each.name]))))


@pytest.mark.parametrize("each", BOUNDED, ids=lambda each: each.name)
def test_bounds_are_allowed_and_what_lies_just_outside_is_refused_by_name(each, monkeypatch):
    monkeypatch.setattr("engine.recipe.NEEDS", {})  # any bound of each field by itself
    low, high = bounds = each.metadata["bounds"]
    for bound in filter(math.isfinite, bounds):
        value = (bound, bound) if has(each, "tuple") else bound
        recipe = Recipe(**{"batch_norm": False, each.name: value})  # a crop may then be tiny
        assert getattr(recipe, each.name) == value
    outside = [math.nextafter(low, -math.inf), math.nextafter(high, math.inf), math.nan]
    for number in [low - 1, high + 1] if has(each, "int") else outside:
        if number != math.inf:
            for value in ((number, low), (low, number)) if has(each, "tuple") else (number,):
                with pytest.raises(ValueError, match=rf"\b{each.name}\b"):
                    Recipe(**{each.name: value})


OF_ANOTHER_KIND = {
    **{"epochs": ["many", 2.5, True], "lr": ["fast"], "batch_norm": ["perhaps"]},
    **{"padding": [7], "loss": [""], "precision": [""]},
    **{"crop": [[0, 10], [10], 10], "scale": [[0.9, 0.5]], "data_root": [["a", "b"]]},
}


@pytest.mark.parametrize("name", OF_ANOTHER_KIND)
def test_a_value_of_another_kind_is_refused_by_name(name):
    for value in OF_ANOTHER_KIND[name]:
        with pytest.raises(ValueError, match=rf"\b{name}\b"):
            Recipe(**{name: value})


def test_null_is_only_for_fields_that_may_be_null_and_every_number_has_bounds():
    assert BOUNDED == [each for each in fields(Recipe) if has(each, "int", "float")]
    for each in fields(Recipe):
        if type(None) in get_args(KINDS[each.name]):
            assert getattr(Recipe(**{each.name: None}), each.name) is None
        else:
            with pytest.raises(ValueError, match=rf"\b{each.name}\b"):
                Recipe(**{each.name: None})


@pytest.mark.parametrize(
    ("name", "value", "others"),
    [
        ("scale", (0.5, 2), {}),
        ("keep_scale", 1, {"crop": (64, 64), "scale": (0.5, 2)}),
        ("keep_scale", 0.5, {"crop": (64, 64)}),
        ("keep_scale", 0.5, {"crop": (64, 64), "scale": (1, 1)}),
        ("halve_every", 5, {"schedule": "cosine"}),
        ("accumulate", 2, {"loss": "cross_entropy+dice"}),
        ("accumulate", 4, {"batch_size": 3}),
        ("crop", (16, 16), {}),
    ],
)
def test_a_field_without_effect_is_refused_unless_it_has_its_default(name, value, others):
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        Recipe(**others, **{name: value})
    default = Recipe.__dataclass_fields__[name].default
    assert getattr(Recipe(**others, **{name: default}), name) == default


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text("epochs: 3\ncrop: [32, 64]\ncache: here\nlr: 1e-2\n")
    return path


def test_a_file_fills_in_the_defaults_and_changes_beat_it(file):
    assert Recipe.from_file(file) == Recipe(epochs=3, crop=(32, 64), cache="here", lr=0.01)
    changed = Recipe.from_file(file, epochs=4, cache=None, width=8)
    assert changed == Recipe(epochs=4, crop=(32, 64), cache=None, width=8, lr=0.01)
    kept = {"workers": 0, "batch_norm": False, "run": ""}
    assert given(epochs=None, **kept) == kept


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("leraning_rate: 0.1\n", ["leraning_rate", "--help"]),
        ("epoch: 3\n", ["no epoch: epochs?"]),
        ("degrade: 0.3\n", ["no degrade: corrupt?"]),
        ("1: 3\n", ["1"]),
        ("epochs: 3\nlr: 0.1\nepochs: 4\n", ["epochs twice", "keep one"]),
        ("a: [unclosed\n", ["recipes/"]),
        ("- epochs\n", ["recipes/"]),
        ("", ["recipes/"]),
        ("!!python/object/apply:os.mkdir [sprung]\n", ["recipes/"]),
        ("\udcff\udcfe\0", ["recipes/"]),  # bytes of no text
        (None, []),
    ],
)
def test_a_bad_file_is_refused_by_its_name_and_runs_no_code(text, fragments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.yaml"
    if text is not None:
        path.write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError) as caught:
        Recipe.from_file(path)
    for fragment in [str(path), *fragments]:
        assert fragment in str(caught.value)
    assert not Path("sprung").exists()


def test_a_field_of_the_command_line_beats_the_files_and_null_is_none(file, command, capsys):
    command_line = partial(command, lambda: parse_recipe(recipe_parser("test"))[0])
    for args, changes in (
        (["--epochs=5", "--width", "8"], {"epochs": 5, "width": 8}),
        (["--epochs=20", "--cache=.cache"], {"epochs": 20, "cache": ".cache"}),  # the defaults
        ([], {}),
    ):
        assert command_line("--recipe", file, *args) == Recipe.from_file(file, **changes)
    assert command_line("--epochs=5") == Recipe(epochs=5)
    recipe = command_line("--cache", "null", "--crop=null", "--workers", "null")
    assert (recipe.cache, recipe.crop, recipe.workers) == (None, None, None)
    assert Recipe(cache="None").cache is None
    assert command_line("--crop=[32,64]").crop == (32, 64)
    with pytest.raises(SystemExit):
        command_line("--hold_out=[0016e5]")  # a number to YAML
    shown = re.search(r"--hold_out '(.*)'", capsys.readouterr().err)[1]
    assert command_line("--hold_out", shown).hold_out == ("aachen", "0016e5")


def test_every_field_is_explained_in_the_help(command, capsys):
    with pytest.raises(SystemExit):
        command(main, "--help")
    text = capsys.readouterr().out
    for each in fields(Recipe):
        _, _, after = text.partition(f"\n  --{each.name} ")
        option, _, _ = after.partition("(type:")
        explanation = re.sub(r"^\S+", "", option)  # without the name of its value
        assert re.search(r"[a-z]{4}", explanation), each.name


def test_the_network_is_that_of_the_recipe_and_its_seed():
    recipe = Recipe(width=4, depth=2, padding="valid", batch_norm=False, downscale=3, seed=7)
    own = Classes(("a", "b"), (1, 2), ((9, 9, 9), (0, 0, 9)))
    model = make_model(recipe, own)
    assert (model.classes, model.downscale) == (own, 3)
    assert model.settings == {"in_channels": 3, "num_classes": 2, **recipe.network()}
    torch.rand(3)
    again, other = make_model(recipe, own), make_model(dataclasses.replace(recipe, seed=8), own)
    assert torch.equal(again.conv_1x1.weight, model.conv_1x1.weight)
    assert not torch.equal(other.conv_1x1.weight, model.conv_1x1.weight)
    assert make_model(Recipe(width=2)).classes == CITYSCAPES


@pytest.mark.slow
def test_a_run_prints_its_epochs_and_the_same_command_goes_on(command, streets, tmp_path, capsys):
    def run(epochs: int) -> str:
        fields = {"data_root": streets, "run": tmp_path, "schedule": "halve", "epochs": epochs}
        command(main, "--recipe", STREETS, *options(**fields))
        return capsys.readouterr().out

    first = run(2)
    assert "12 images" in first
    assert "5 to validate" in first
    epochs = [line for line in first.splitlines() if line.startswith("epoch")]
    history = json.loads((tmp_path / "history.json").read_text())
    assert len(epochs) == len(history) == 2
    for line, record in zip(epochs, history, strict=True):
        assert f"mIoU {record['mIoU']:.2%}" in line
    before = (tmp_path / "last.pt").read_bytes()
    said = run(2)  # the run is finished
    assert "all 2 epochs were trained before" in said and "mIoU" not in said
    assert (tmp_path / "last.pt").read_bytes() == before
    said = run(3)
    assert "resumed after epoch 2 of 3" in said and said.count("mIoU") == 1


def test_a_run_goes_to_the_directory_of_its_recipe(command, monkeypatch, tmp_path):
    found = []
    monkeypatch.setenv("USERPROFILE" if sys.platform == "win32" else "HOME", str(tmp_path))
    monkeypatch.setattr(train, "train", lambda recipe, run: found.append(run))
    for args in ([], ["--recipe", STREETS], ["--recipe", STREETS, "--run", "there"], ["--run=~/x"]):
        command(main, *args)
    assert found == [*map(Path, ("runs/default", "runs/streets", "there")), tmp_path / "x"]


@pytest.mark.parametrize(
    ("argument", "fragment"),
    [
        ("--learning_rate=0.1", "learning_rate"),
        ("--epohcs=3", "did you mean --epochs?"),
        ("--epochs=many", "epochs"),
        ("--crop=256", "write a list, as in --crop [256,512]"),
        ("--data_root=/nowhere/at/all", "/nowhere/at/all"),
        ("--recipe=recipes/none.yaml", "recipes/none.yaml"),
    ],
)
def test_a_bad_argument_is_refused_by_name(command, argument, fragment, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        command(main, "--recipe", STREETS, argument, "--run", tmp_path / "run")
    told = f"{end.value.code} {capsys.readouterr().err}"
    assert "error" in told
    assert fragment in told
    assert "Traceback" not in told and told.strip().count("\n") == 0
    assert not (tmp_path / "run").exists()
