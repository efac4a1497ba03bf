"""The command `train.py`, by its `main`; test_crash.py runs it as a process."""

import json
import sys
from pathlib import Path

import pytest

import train

ROOT = Path(__file__).resolve().parent.parent
STREETS = str(ROOT / "recipes" / "streets.yaml")
TINY = ["--downscale=1", "--width=4", "--depth=2", "--epochs=2", "--workers=0", "--crop=null"]


@pytest.fixture
def main(monkeypatch):
    """The command line in this process: returns its exit status or message."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, args)])
        try:
            return train.main.__wrapped__()  # without torchrun's report of errors
        except SystemExit as end:
            return end.code

    return call


@pytest.mark.slow
def test_a_run_prints_its_images_and_epochs_and_the_same_command_goes_on(
    main, streets, tmp_path, capsys
):
    args = ["--recipe", STREETS, "--data_root", streets, "--run", tmp_path, *TINY]
    assert main(*args) is None
    first = capsys.readouterr().out
    assert "12 images" in first
    assert "5 to validate" in first
    epochs = [line for line in first.splitlines() if line.startswith("epoch")]
    history = json.loads((tmp_path / "history.json").read_text())
    assert len(epochs) == len(history) == 2
    for line, record in zip(epochs, history, strict=True):
        assert f"mIoU {record['mIoU']:.2%}" in line
    before = (tmp_path / "last.pt").read_bytes()
    assert main(*args) is None  # the run is finished
    said = capsys.readouterr().out
    assert "all 2 epochs were trained before" in said and "mIoU" not in said
    assert (tmp_path / "last.pt").read_bytes() == before
    assert main(*args, "--schedule=halve", "--epochs=2", "--run", tmp_path / "halved") is None
    capsys.readouterr()
    assert main(*args, "--schedule=halve", "--epochs=3", "--run", tmp_path / "halved") is None
    said = capsys.readouterr().out
    assert "resumed after epoch 2 of 3" in said and said.count("mIoU") == 1


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "runs/default"),
        (["--recipe", STREETS], "runs/streets"),
        (["--recipe", STREETS, "--run", "elsewhere"], "elsewhere"),
    ],
)
def test_a_run_goes_to_the_directory_of_its_recipe(main, monkeypatch, args, expected):
    found = []
    monkeypatch.setattr(train, "train", lambda recipe, run: found.append(run))
    assert main(*args) is None
    assert found == [Path(expected)]


def test_ctrl_c_says_that_the_same_command_goes_on(main, monkeypatch, tmp_path):
    def interrupted(recipe, run):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", interrupted)
    message = main("--run", tmp_path)
    assert "same command" in message
    assert str(tmp_path / "last.pt") in message


@pytest.mark.parametrize(
    ("argument", "fragment"),
    [
        ("--learning_rate=0.1", "learning_rate"),
        ("--epohcs=3", "did you mean --epochs?"),
        ("--epochs=many", "epochs"),
        ("--lr=.nan", "lr"),
        ("--crop=[0,10]", "crop"),
        ("--scale=[0.5,2]", "scale needs a crop"),
        ("--data_root=/nowhere/at/all", "/nowhere/at/all"),
        ("--recipe=recipes/none.yaml", "recipes/none.yaml"),
    ],
)
def test_a_bad_argument_is_refused_by_name_before_a_run_is_there(
    main, argument, fragment, tmp_path, capsys
):
    told = main("--recipe", STREETS, argument, "--run", tmp_path / "run")
    told = f"{told} {capsys.readouterr().err}"
    assert "error" in told
    assert fragment in told
    assert "Traceback" not in told and told.strip().count("\n") == 0
    assert not (tmp_path / "run").exists()
