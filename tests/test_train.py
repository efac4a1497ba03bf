"""The command `train.py`, by its `main`; test_crash.py runs it as a process."""

import json
import sys
from pathlib import Path

import pytest

import train
from tests.processes import STREETS, options

main = train.main.__wrapped__  # without torchrun's report of errors


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
