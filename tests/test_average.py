"""The mean of several trainings' weights."""

import pytest
import torch

from engine.average import average
from inference import load_model
from runtime.checkpoint import load_checkpoint
from tests.processes import python
from tests.training import run, tiny


@pytest.fixture(scope="module")
def trained(streets, tmp_path_factory):
    """The directory of four short trainings, of which the last two start from the first."""
    folder = tmp_path_factory.mktemp("average")
    one = {"epochs": 1, "crop": (64, 64)}
    run(tiny(streets, **one), folder / "start")
    init = str(folder / "start" / "best.pt")
    run(tiny(streets, seed=1, **one), folder / "elsewhere")
    for seed in 0, 1:
        run(tiny(streets, seed=seed, init=init, **one), folder / str(seed))
    return folder


def test_the_mean_is_of_weights_and_statistics_with_the_part_of_the_start_that_is_kept(trained):
    start, first, second = (
        load_checkpoint(trained / name)["model"]
        for name in ("start/best.pt", "0/last.pt", "1/last.pt")
    )
    paths = [str(trained / name / "last.pt") for name in "01"]
    for keep in 0.0, 0.25:
        for name, value in average(paths, keep).items():
            if value.is_floating_point():
                expected = (1 - keep) * (first[name] + second[name]) / 2 + keep * start[name]
                torch.testing.assert_close(value, expected)


def test_trainings_that_have_no_useful_mean_are_refused(trained):
    own, other, start = (str(trained / f"{name}/last.pt") for name in ("0", "elsewhere", "start"))
    with pytest.raises(ValueError, match="began with other weights"):
        average([own, other])
    with pytest.raises(ValueError, match="random weights"):
        average([start, other])


@pytest.mark.slow
def test_the_command_writes_a_checkpoint_that_predicts_and_is_evaluated(trained, tmp_path):
    out = tmp_path / "mean.pt"
    paths = [trained / name / "last.pt" for name in "01"]
    said = python("-m", "engine.average", out, *paths, "--keep", 0.1, "--half").stdout
    found = load_checkpoint(out)
    assert f"mIoU {found['metrics']['mIoU']:.2%}" in said.splitlines()[-1]
    assert found["model"]["conv_1x1.weight"].dtype == torch.float16
    assert "training" not in found and len(found["average"]["of"]) == 2
    assert load_model(out).known
    assert "mIoU" in python("evaluate.py", out, "--out", tmp_path / "val").stdout
    assert "below 1" in python("-m", "engine.average", out, *paths, "--keep", 2, status=1).stderr
