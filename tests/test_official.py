"""Figures and submissions against Cityscapes' own evaluator, run as a process on the files."""

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine import evaluate_split
from engine.submission import write_submission
from inference import load_model, predict
from model import UNet
from tests.processes import python
from tests.samples import NOISE, contents, cut, save
from tests.training import network
from utils import CITYSCAPES

# Without the instances: neither Streets nor CamVid has them, and its code for them needs an old
# NumPy. The pixels' figures are the same.
EVALUATOR = """
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
official.args.evalInstLevelScore = False
official.main()
"""


def few(root: Path, to: Path) -> Path:
    """A tree of at most ten of root's `val` pairs, evenly chosen."""
    for kind in ("leftImg8bit", "gtFine"):
        paths = sorted((root / kind / "val").rglob("*.png"))
        for path in paths[:: -(-len(paths) // 10)]:
            link = to / path.relative_to(root)
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)
    return to


def same(ours: dict[str, float | None], theirs: dict[str, float]) -> None:
    for name, value in ours.items():
        expected = pytest.approx(theirs[name], abs=1e-9, nan_ok=True)
        assert (float("nan") if value is None else value) == expected, name
    left = [value for name, value in theirs.items() if name not in ours]
    assert np.isnan(left).all()  # void classes, which are ignored


@pytest.mark.parametrize("name", ["streets", "camvid"])
@pytest.mark.slow
def test_evaluation_reports_what_the_official_evaluator_finds(name, request, tmp_path):
    root = few(request.getfixturevalue(name), tmp_path / "few")
    model = load_model(f"checkpoints/{name}.pt")
    out = write_submission(model, root, "val", tmp_path / "out")
    _, found = evaluate_split(model, root, "val", batch_size=1)  # as one by one
    places = {"DATASET": root, "RESULTS": out, "EXPORT_DIR": tmp_path}
    python("-c", EVALUATOR, **{f"CITYSCAPES_{name}": path for name, path in places.items()})
    official = json.loads((tmp_path / "resultPixelLevelSemanticLabeling.json").read_text())
    same(found["iou"], official["classScores"])
    same(found["category_iou"], official["categoryScores"])
    assert found["mIoU"] == pytest.approx(official["averageScoreClasses"], abs=1e-9)
    assert found["category_mIoU"] == pytest.approx(official["averageScoreCategories"], abs=1e-9)
    assert found["mIoU"] > 0.1  # enough right and wrong for the comparison to mean something
    assert sum(value is not None for value in found["iou"].values()) >= 11


@pytest.fixture
def model() -> UNet:
    model = network().eval()
    model.downscale = 2
    return model


@pytest.fixture
def without_labels(streets, tmp_path) -> Path:
    """Five scenes as a `test` split, and one of an odd size; no gtFine."""
    city = tmp_path / "data" / "leftImg8bit" / "test" / "berlin"
    save(city / "berlin_000001_000000_leftImg8bit.png", NOISE[:37, :53])
    for place, source in enumerate(sorted((streets / "leftImg8bit" / "val").rglob("*.png"))):
        os.link(source, city / f"berlin_000000_{place:06d}_leftImg8bit.png")
    return tmp_path / "data"


def test_a_submission_is_as_predicted_or_refused_and_no_older_one(model, without_labels, tmp_path):
    out = tmp_path / "out"
    write_submission(model, without_labels, "test", out, pack=True)
    sources = [*without_labels.rglob("*.png")]
    assert len(sources) == len([*out.iterdir()]) == 6
    for source in sources:
        labels = Image.open(out / source.name.replace("leftImg8bit", "pred"))
        assert labels.mode == "L"
        assert np.array_equal(labels, CITYSCAPES.label_ids[predict(model, source).int()])
    before = contents(tmp_path)
    others = UNet(num_classes=2, width=4, depth=1), UNet(num_classes=19, width=4, depth=1)
    others[1].classes = replace(CITYSCAPES, names=CITYSCAPES.names[::-1])
    for other in others:
        with pytest.raises(ValueError, match="classes"):
            write_submission(other, without_labels, "test", out)
    with pytest.raises(ValueError, match="fp16"):
        write_submission(model, without_labels, "test", out, precision="fp16")
    with pytest.raises(FileNotFoundError, match="leftImg8bit/val"):
        write_submission(model, without_labels, "val", out)
    city = without_labels / "leftImg8bit" / "test" / "berlin"
    twin = city.parent / "bonn" / "berlin_000000_000000_leftImg8bit.png"
    twin.parent.mkdir()
    os.link(city / twin.name, twin)
    with pytest.raises(ValueError, match="of its own"):
        write_submission(model, without_labels, "test", out)
    holiday = twin.rename(twin.with_name("holiday_leftImg8bit.png"))
    with pytest.raises(ValueError, match="holiday_leftImg8bit.png"):
        write_submission(model, without_labels, "test", out)
    holiday.unlink()
    twin.symlink_to("gone")
    with pytest.raises(FileNotFoundError, match=f"{twin.name} is a broken link"):
        write_submission(model, without_labels, "test", out)
    twin.unlink()
    assert contents(tmp_path) == before
    last = cut(max(without_labels.rglob("*.png")), 0.1)
    with pytest.raises(ValueError, match=str(last)):
        write_submission(model, without_labels, "test", out, pack=True)
    assert len(list(out.iterdir())) == 5
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.slow
def test_the_shell_writes_a_zip_of_the_test_split_for_the_server(without_labels, tmp_path):
    split = ["--submission", without_labels, "--split", "test"]
    options = "--out", tmp_path / "out", "--zip"
    done = python("predict.py", "checkpoints/streets.pt", *split, *options)
    assert done.stdout == f"predictions: {tmp_path / 'out.zip'}\n"
    with zipfile.ZipFile(tmp_path / "out.zip") as packed:
        files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        assert {name: packed.read(name) for name in packed.namelist()} == files
        assert packed.testzip() is None and len(files) == 6
    assert not list(tmp_path.glob("*.part"))
