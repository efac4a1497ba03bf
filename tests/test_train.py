import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from model import load_model
from recipe import Recipe

RECIPES = sorted(Path("recipes").glob("*.yaml"))
TINY = ["--downscale=1", "--width=4", "--depth=2", "--epochs=2", "--workers=0", "--crop=null"]


def train(*args) -> subprocess.CompletedProcess:
    command = [sys.executable, "train.py", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_names_every_field_and_is_valid(path):
    fields = yaml.safe_load(path.read_text())
    assert list(fields) == list(Recipe.__dataclass_fields__)
    Recipe.from_fields(fields)


def test_the_recipe_for_cityscapes_is_the_reference_recipe():
    recipe = Recipe.from_fields(yaml.safe_load(Path("recipes/cityscapes.yaml").read_text()))
    assert (recipe.downscale, recipe.flip, recipe.crop, recipe.jitter) == (2, 0.5, None, 0)
    assert (recipe.loss, recipe.weight_decay, recipe.batch_size) == ("cross_entropy", 0, 8)
    assert (recipe.schedule, recipe.halve_every, recipe.epochs) == ("halve", 10, 20)
    assert (recipe.width, recipe.depth, recipe.padding, recipe.batch_norm) == (64, 4, "same", True)


def test_help_explains_every_field():
    text = train("--help").stdout
    for name in Recipe.__dataclass_fields__:
        assert f"--{name}" in text
    assert "images a step" in text


def test_the_command_trains_and_the_result_can_be_loaded(streets, tmp_path):
    out = train(
        "--recipe", "recipes/streets.yaml", "--data_root", streets, "--run", tmp_path, *TINY
    )
    assert out.returncode == 0, out.stderr
    history = json.loads((tmp_path / "history.json").read_text())
    assert len(history) == 2
    assert f"mIoU {history[1]['mIoU']:.1%}" in out.stdout
    assert "12 images to train on, 5 to judge by" in out.stdout
    assert load_model(tmp_path / "best.pt").settings["width"] == 4


def test_ctrl_c_stops_with_a_word_and_the_same_command_goes_on(streets, tmp_path):
    args = ["--recipe", "recipes/streets.yaml", "--data_root", str(streets), "--run", str(tmp_path)]
    args += [*TINY, "--epochs=400"]
    process = subprocess.Popen(
        [sys.executable, "train.py", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "history.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the same command goes on" in errors
    done = len(json.loads((tmp_path / "history.json").read_text()))
    assert done >= 1
    again = train(*args[:-1], "--epochs=3")
    assert "epochs is 3 here and 400 there" in again.stderr


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--learning_rate=0.1", "learning_rate"),
        ("--epochs=many", "epochs"),
        ("--epochs=2.5", "epochs"),
        ("--batch_size=0", "batch_size must be between 1 and inf, not 0"),
        ("--lr=.nan", "lr must be between"),
        ("--lr=-1", "lr must be between"),
        ("--flip=1.5", "flip must be between 0 and 1"),
        ("--padding=full", "padding"),
        ("--crop=[0,10]", "crop must be"),
        ("--crop_area=[0.9,0.1]", "crop_area must rise"),
        ("--data_root=/nowhere/at/all", "there is no data set at /nowhere/at/all"),
        ("--recipe=recipes/none.yaml", "none.yaml"),
    ],
)
def test_a_bad_argument_is_refused_by_name_without_a_traceback(argument, message, tmp_path):
    result = train("--recipe=recipes/streets.yaml", argument, "--run", tmp_path / "run")
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("leraning_rate: 0.1\n", "leraning_rate"),
        ("epochs: [1, 2]\n", "epochs"),
        ("!!python/object/apply:os.mkdir [sprung]\n", "error"),
        ("a: [unclosed\n", "error"),
    ],
)
def test_a_bad_recipe_file_is_refused_and_runs_no_code(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    result = train("--recipe", path, "--run", tmp_path / "run")
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("sprung").exists()


def test_fields_of_a_notebook_are_checked_as_those_of_the_command_line():
    fields = yaml.safe_load(Path("recipes/streets.yaml").read_text())
    assert Recipe.from_fields({**fields, "display": print}).width == 16
    with pytest.raises(ValueError, match="epochs"):
        Recipe.from_fields({**fields, "epochs": "many"})
    with pytest.raises(ValueError, match="lr is missing"):
        Recipe.from_fields({name: value for name, value in fields.items() if name != "lr"})
