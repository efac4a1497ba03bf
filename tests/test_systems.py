"""Odd systems: other starts of processes, users without a home, locales, disks, file systems."""

import errno
import json
import multiprocessing
import os
import re
import stat
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

import evaluate
from dataset import Cityscapes
from engine import Recipe, augment, fit, loaders, make_loader, make_loaders, make_model
from runtime import files
from tests.processes import ROOT, STREETS, TINY, copy_of, namespace, options, python


@pytest.mark.slow
def test_everything_can_be_imported_where_there_is_no_fcntl():
    imports = "evaluate, predict, train, prepare.own, prepare.camvid, prepare.cityscapes"
    python("-c", f"import sys; sys.modules['fcntl'] = None; import {imports}, prepare.streets")


@pytest.mark.slow
def test_training_and_evaluating_need_not_import_what_draws_streets():
    python("-c", "import sys, train, evaluate; assert 'streets.scene' not in sys.modules")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_are_not_forked_read_the_same_batches(streets, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    transforms = augment.make_transforms(Recipe(crop=(32, 48), jitter=0.2))
    scenes = Cityscapes(streets, "train", transforms=transforms, seed=3, cache=".cache")
    loader, alone = (make_loader(scenes, 5, train=True, workers=workers) for workers in (1, 0))
    loader.multiprocessing_context = method
    for epoch in (1, 2):  # the same worker is told of the second
        for each in (loader, alone):
            loaders.set_epoch(each, epoch)
        for ours, expected in zip(loader, alone, strict=True):
            assert all(map(torch.equal, ours, expected))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows guesses where it would be")
def test_a_home_that_is_not_known_is_named():
    with pytest.raises(FileNotFoundError, match="data root is ~nobody-of-that-name/data.*name"):
        files.expand("~nobody-of-that-name/data", "data root")


def test_metrics_on_what_a_network_learned_are_noted_wherever_it_lies(tmp_path, monkeypatch):
    root, twin, link = tmp_path / "here" / "data", tmp_path / "there" / "data", tmp_path / "link"
    for folder in (root, twin):
        folder.mkdir(parents=True)
    link.symlink_to(root)
    monkeypatch.setenv("PLACE_OF_DATA", str(root))

    def noted(learned, split="train", evaluated="train", at=root) -> bool:
        recipe = {"data_root": str(learned), "train_split": split}
        return f"trained on {evaluated}" in evaluate.note({"recipe": recipe}, evaluated, at)

    for learned in (root, link, "$PLACE_OF_DATA", "/elsewhere/data", "elsewhere/data"):
        assert noted(learned) and noted(learned, at=link), learned
    assert not noted(twin) and not noted("$UNKNOWN/other") and not noted("/elsewhere/other")
    assert noted(root, "train", "trainval") and noted(root, "trainval", "val")
    assert not noted(root, "train", "val") and not noted(root, "train_extra", "train")


def test_evaluations_of_two_runs_go_to_two_directories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = {"runs/label/1": "label-1", "runs/camvid": "camvid", "checkpoints": "checkpoints"}
    assert {run: evaluate.name_of_run(Path(run, "best.pt")) for run in expected} == expected


def test_an_evaluation_makes_its_directory_before_it_works(streets, tmp_path, monkeypatch, command):
    monkeypatch.setenv("USERPROFILE" if sys.platform == "win32" else "HOME", str(tmp_path))
    monkeypatch.setattr(evaluate, "measure", lambda *_, **__: sys.exit("at work"))
    (tmp_path / "file").touch()
    for out, said in (("~/out", "at work"), (tmp_path / "file", "file")):
        with pytest.raises(SystemExit, match=f"{said}'?$"):
            command(evaluate.main, "checkpoints/streets.pt", streets, f"--out={out}")
    assert (tmp_path / "out").is_dir()


JOURNEY = """
for name, *args in json.loads(sys.argv[1]):  # one process, since the imports take the longest
    sys.argv = [name, *args]
    run = runpy.run_path if name.endswith(".py") else runpy.run_module
    run(name, run_name="__main__")
"""


def journey(root: Path, out: Path, *first: str, check: str = "", recipe: Path = STREETS, **how):
    """After a check and other commands train, evaluate and predict; returns what was said."""
    best, image = f"{out}/run/best.pt", min((root / "leftImg8bit" / "val").rglob("*.png"))
    fields = [f"--recipe={recipe}", *options(data_root=root)]
    commands = [
        *([command, *fields] for command in first),
        ["train.py", *fields, f"--run={out}/run"],
        ["evaluate.py", best, f"--out={out}/figures", "--workers=0"],
        ["predict.py", best, str(image), f"--out={out}/labels"],
    ]
    code = f"import json, os, runpy, sys\n{check}\n{JOURNEY}"
    done = python("-c", code, json.dumps(commands, ensure_ascii=False), **how)
    made = {path.suffix for folder in ("figures", "labels") for path in (out / folder).iterdir()}
    assert made == {".png", ".json", ".jpg"}
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("place", ["data", "checkout"])
def test_a_read_only_place_is_enough_to_train_evaluate_and_predict(tree, tmp_path, place):
    folder = tree if place == "data" else ROOT
    script = f"""
        mount --bind {folder} {folder}
        mount -o remount,bind,ro {folder} {folder}
        ! touch {folder}/x 2> /dev/null
        cd {ROOT}"""
    said = journey(tree, tmp_path / "out", through=namespace(script))
    assert ("cannot be filled further (Read-only file system)" in said) == (place == "data")


@pytest.mark.slow
def test_a_user_without_name_and_home_can_train_evaluate_and_predict(tree, tmp_path):
    check = "import pwd; assert os.getuid() not in {user.pw_uid for user in pwd.getpwall()}"
    unknown = [*namespace(""), "unshare", "--user", "--map-user=54321"]
    if subprocess.call([*unknown, "true"]):
        pytest.skip("another user's number is not allowed here")
    journey(tree, tmp_path / "out", check=check, through=unknown, HOME="/nowhere")


@pytest.mark.slow
def test_other_letters_do_no_harm_in_a_locale_of_ascii_and_logs_hold_no_bars(streets, tmp_path):
    place = tmp_path / "Straße 街"
    place.mkdir()
    root, recipe = copy_of(streets, place / "tree"), place / "recipe.yaml"
    (root / "streets.json").unlink()  # or what is renamed would be drawn anew
    for city in root.glob("*/train/ahornau"):
        city.rename(city.with_name("Köln"))
    recipe.write_text("# für die Straße 街\n" + STREETS.read_text(), encoding="utf-8")
    check = "assert sys.getfilesystemencoding() == 'ascii'"
    how = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": 0, "PYTHONCOERCECLOCALE": 0}
    how |= {"PYTHONIOENCODING": "ascii:strict", "check": check, "recipe": recipe}
    log = journey(root, place / "out", "engine.fill_cache", **how)
    assert "\r" not in log
    assert not re.search(r"\d+%\||img/s|image/s", log)
    recipe = Recipe.from_file(recipe, **TINY, data_root=str(root))  # and in this locale it goes on
    assert len(list(fit(make_model(recipe), *make_loaders(recipe), recipe, place / "out/run"))) == 1


@pytest.fixture
def fails(monkeypatch):
    """Lets flock, replace, fsync of files or of directories fail, as on network shares."""
    fcntl = pytest.importorskip("fcntl")  # not on Windows

    def fails(call: str, code: int) -> None:
        name, module = call.split()[0], fcntl if call == "flock" else os
        real, directories = getattr(module, name), "directory" in call

        def refuse(file, *args):
            if name == "fsync" and stat.S_ISDIR(os.fstat(file).st_mode) != directories:
                return real(file, *args)
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(module, name, refuse)

    return fails


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_run_on_a_file_system_without_locks_starts_and_says_so(fails, tmp_path, code):
    fails("flock", code)
    said = f"{tmp_path}/run/lock: this file system has no locks.*a second run"
    with pytest.warns(UserWarning, match=said), files.lock(tmp_path / "run"):
        pass


def test_the_lock_does_nothing_where_there_is_no_fcntl(monkeypatch, tmp_path, recwarn):
    monkeypatch.setattr(files, "fcntl", None)
    with files.lock(tmp_path), files.lock(tmp_path):
        assert not recwarn


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        ("fsync of a directory", errno.EINVAL, None),
        ("fsync of a directory", errno.EIO, "Input/output error.*free some space"),
        ("fsync of a file", errno.EINVAL, "Invalid argument.*unharmed"),
        ("replace", errno.EACCES, "Permission denied.*unharmed.*close the program that has it"),
    ],
)
def test_a_directory_that_cannot_be_flushed_keeps_no_file_back(fails, tmp_path, call, code, said):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    fails(call, code)
    refused = pytest.raises(OSError, match=f"{path}.*{said}")
    with refused if said else nullcontext():
        files.atomic_write(path, b"new")
    assert path.read_bytes() == (b"new" if call == "fsync of a directory" else b"old")
    assert os.listdir(tmp_path) == ["file"]
