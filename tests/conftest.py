"""Small real data for the tests: a Streets tree, and CamVid where it is at hand."""

import os
import runpy
import sys
from pathlib import Path

# Tiny networks gain nothing from threads, and lose much where the cores are busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from prepare.camvid import convert
from streets import draw_tree
from tests.processes import ROOT, copy_of

torch.manual_seed(0)  # of layers that modules make as they are imported


@pytest.fixture(scope="module", autouse=True)
def gpu_for_its_tests_only(request):
    """All tests are of the CPU, also where there is a GPU, but those of test_cuda.py.

    Processes that they start take Apple's GPU nevertheless.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__ != "test_cuda":
            patch.setenv("CUDA_VISIBLE_DEVICES", "")  # for the processes that a test starts
            for kind in (torch.cuda, torch.backends.mps):
                patch.setattr(kind, "is_available", lambda: False)
        yield


@pytest.fixture(autouse=True)
def seed():
    """Each test draws the same random numbers, whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def command(monkeypatch):
    """Runs a `main`, or a module by its name, with a command line in this process."""

    def command(main, *args):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, args)])
        if isinstance(main, str):
            monkeypatch.delitem(sys.modules, main, raising=False)
            return runpy.run_module(main, run_name="__main__")
        return main()

    return command


@pytest.fixture(scope="session")
def streets(tmp_path_factory) -> Path:
    """Twelve scenes to train on and five to validate on, 128x64, as the project draws them."""
    root = tmp_path_factory.mktemp("data") / "streets"
    draw_tree(root, train=12, val=5, size=(128, 64), workers=1, quiet=True)
    return root


@pytest.fixture
def tree(streets, tmp_path) -> Path:
    """A copy of Streets that a test may spoil."""
    return copy_of(streets, tmp_path / "streets")


@pytest.fixture(scope="session")
def camvid(tmp_path_factory) -> Path:
    """CamVid in Cityscapes' format, made from $CAMVID or the copy beside the repository."""
    source = Path(os.environ.get("CAMVID", ROOT.parent / "shared" / "camvid" / "CamVid"))
    if not source.is_dir():
        pytest.skip("CamVid is not here: set CAMVID to the directory that the README clones")
    root = tmp_path_factory.mktemp("data") / "camvid"
    convert(source, root)
    return root
