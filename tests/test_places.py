"""Odd places: other starts of processes, read-only disks, users without a home, locales."""

import json
import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dataset import Cityscapes
from engine import Recipe, fit, make_loader, make_loaders, make_model
from engine.augment import make_transforms
from engine.loaders import set_epoch
from runtime.files import expand
from tests.processes import ROOT, STREETS, TINY, copy_of, namespace, options, python

# Windows and macOS, as far as Linux can stand for them


@pytest.mark.slow
def test_everything_can_be_imported_where_there_is_no_fcntl():
    code = """
import sys
sys.modules["fcntl"] = None
import evaluate, predict, train, prepare.own, prepare.camvid, prepare.cityscapes, prepare.streets
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


def batches(loader, epoch: int) -> list[torch.Tensor]:
    set_epoch(loader, epoch)
    return [part for pair in loader for part in pair]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_are_not_forked_read_the_same_batches(streets, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    transforms = make_transforms(Recipe(crop=(32, 48), jitter=0.2))
    scenes = Cityscapes(streets, "train", transforms=transforms, seed=3, cache=".cache")
    loader, alone = (make_loader(scenes, 5, train=True, workers=workers) for workers in (1, 0))
    loader.multiprocessing_context = method
    for epoch in (1, 2):  # the same worker is told of the second
        pairs = zip(batches(loader, epoch), batches(alone, epoch), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


# Read-only disks, users without a name or a home, locales


@pytest.mark.skipif(sys.platform == "win32", reason="Windows guesses where it would be")
def test_a_home_that_is_not_known_is_named():
    with pytest.raises(FileNotFoundError, match="data root is ~nobody-of-that-name/data.*name"):
        expand("~nobody-of-that-name/data", "data root")


JOURNEY = """
import json, runpy, sys

for name, *args in json.loads(sys.argv[1]):  # one process, since the imports take the longest
    sys.argv = [name, *args]
    run = runpy.run_path if name.endswith(".py") else runpy.run_module
    run(name, run_name="__main__")
"""


def journey(root: Path, out: Path, *first: list, recipe: Path = STREETS) -> list[str]:
    """Python's arguments: train, evaluate with figures, and predict, after other commands."""
    best, image = f"{out}/run/best.pt", next((root / "leftImg8bit" / "val").rglob("*.png"))
    fields = [f"--recipe={recipe}", *options(data_root=root)]
    commands = [
        *([*command, *fields] for command in first),
        ["train.py", *fields, f"--run={out}/run"],
        ["evaluate.py", best, f"--out={out}/figures", "--workers=0"],
        ["predict.py", best, str(image), f"--out={out}/labels"],
    ]
    return ["-c", JOURNEY, json.dumps(commands, ensure_ascii=False)]


def results(out: Path) -> set[str]:
    return {path.suffix for folder in ("figures", "labels") for path in (out / folder).iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("place", ["data", "checkout"])
def test_a_read_only_place_is_enough_to_train_evaluate_and_predict(streets, tmp_path, place):
    root = copy_of(streets, tmp_path / "tree")
    folder = root if place == "data" else ROOT
    script = f"""
        mount --bind {folder} {folder}
        mount -o remount,bind,ro {folder} {folder}
        ! touch {folder}/x 2> /dev/null
        cd {ROOT}"""
    done = python(*journey(root, tmp_path / "out"), through=namespace(script))
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "out") == {".png", ".json", ".jpg"}
    warned = "cannot be filled further (Read-only file system)" in done.stderr
    assert warned == (place == "data")


@pytest.mark.slow
def test_a_user_without_name_and_home_can_train_evaluate_and_predict(streets, tmp_path):
    root = copy_of(streets, tmp_path / "tree")
    code, *args = journey(root, tmp_path / "out")[1:]
    check = "import os, pwd\nassert os.getuid() not in {user.pw_uid for user in pwd.getpwall()}\n"
    unknown = [*namespace(""), "unshare", "--user", "--map-user=54321"]
    if subprocess.call([*unknown, "true"]):
        pytest.skip("another user's number is not allowed here")
    done = python("-c", check + code, *args, through=unknown, HOME="/nowhere")
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "out") == {".png", ".json", ".jpg"}


@pytest.mark.slow
def test_in_a_locale_of_ascii_other_letters_do_no_harm_and_a_log_holds_no_progress_bars(
    streets, tmp_path
):
    place = tmp_path / "Straße 街"
    place.mkdir()
    root, recipe = copy_of(streets, place / "tree"), place / "recipe.yaml"
    (root / "streets.json").unlink()  # or what is renamed would be drawn anew
    for city in root.glob("*/train/ahornau"):
        city.rename(city.with_name("Köln"))
    recipe.write_text("# für die Straße 街\n" + STREETS.read_text(), encoding="utf-8")
    code, *args = journey(root, place / "out", ["engine.fill_cache"], recipe=recipe)[1:]
    check = "import sys\nassert sys.getfilesystemencoding() == 'ascii'\n"
    ascii_only = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": 0, "PYTHONCOERCECLOCALE": 0}
    done = python("-c", check + code, *args, **ascii_only, PYTHONIOENCODING="ascii:strict")
    log = done.stdout + done.stderr
    assert done.returncode == 0, log
    assert results(place / "out") == {".png", ".json", ".jpg"}
    assert "\r" not in log
    assert not re.search(r"\d+%\||img/s|image/s", log)
    recipe = Recipe.from_file(recipe, **TINY, data_root=str(root))  # and in this locale it goes on
    assert len(list(fit(make_model(recipe), *make_loaders(recipe), recipe, place / "out/run"))) == 1


def test_what_the_output_cannot_hold_is_printed_escaped():
    code = "from runtime.console import escape_output\nescape_output()\nprint('Straße 街')"
    done = python("-c", code, PYTHONIOENCODING="ascii:strict")
    assert done.stdout.strip() == r"Stra\xdfe \u8857", done.stderr
