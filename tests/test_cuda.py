"""Training and prediction on a GPU, against this machine's CPU; skipped where there is no GPU.

pytest tests/test_cuda.py
"""

import dataclasses
import os
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from test_distributed import history, launch, train
from torch import nn
from torch.amp import GradScaler
from torch.nn import functional as F
from torch.utils.data import DataLoader

from dataset import Cityscapes
from engine import Loss, Trainer, evaluate, make_loader, train_one_epoch
from inference import load_model, predict
from model import UNet
from runtime.checkpoint import load_checkpoint
from runtime.distributed import AllGPUs, wrap_model
from runtime.precision import DTYPES, Autocast, pick_precision
from tests.processes import ROOT, python
from tests.training import differences, run, tiny

CPU, GPU = torch.device("cpu"), torch.device("cuda")
GPUS = torch.cuda.device_count()
# Without batch norm, which under `nn.DataParallel` sees each GPU's part of a batch alone.
small = partial(tiny, downscale=1, width=8, batch_size=6, epochs=2, batch_norm=False)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


@pytest.fixture(autouse=True)
def ieee(monkeypatch):
    """float32 convolutions in float32: by default cuDNN rounds to TF32's 10 bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(params=["fp32", "fp16", "bf16"])
def precision(request) -> str:
    try:
        return pick_precision(request.param, GPU)
    except ValueError as error:
        pytest.skip(str(error))


def batch(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Blurred noise, and labels that can be learnt from it."""
    coarse = torch.rand(4, 3, 12, 16, generator=torch.Generator().manual_seed(0)) * 255
    images = F.interpolate(coarse, (96, 128), mode="bilinear").to(torch.uint8)
    return images.to(device), (images[:, 0] // 16).to(device)


def gradient(device: torch.device, precision: str) -> tuple[float, torch.Tensor]:
    """The loss of a step, and what a learning rate of 1 subtracts from the weights."""
    torch.manual_seed(0)
    model = UNet(width=16, depth=3).to(device)
    before = vector(model.parameters())
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    scaler = GradScaler(device.type, init_scale=2.0**10, enabled=precision == "fp16")
    net, loader = Autocast(model, precision), DataLoader(list(zip(*batch(CPU), strict=True)), 4)
    loss, _ = train_one_epoch(Trainer(net, Loss(), optimizer, schedule, scaler), loader)
    return loss, before - vector(model.parameters())


def vector(tensors) -> torch.Tensor:
    return torch.cat([value.detach().cpu().reshape(-1) for value in tensors])


def test_a_training_step_is_the_cpus_to_the_precisions_rounding(precision):
    loss, change = gradient(GPU, precision)
    expected_loss, expected = gradient(CPU, "fp32")
    # On a CPU another algorithm's fp32 was 0.001 away, fp16 0.07 and bf16 0.18.
    tolerance = {"fp32": 0.01, "fp16": 0.2, "bf16": 0.4}[precision]
    assert loss == pytest.approx(expected_loss, rel=tolerance / 100)
    assert (change - expected).norm() < tolerance * expected.norm()
    if precision != "fp32":
        assert not torch.allclose(change, expected, rtol=1e-4, atol=1e-7)  # it was rounded


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_run_learns_as_on_the_cpu(optimizer, precision, streets, tmp_path):
    recipe = small(streets, optimizer=optimizer, loss="cross_entropy+dice")
    ours = run(dataclasses.replace(recipe, precision=precision), tmp_path / "gpu", 2)
    on_cpu = dataclasses.replace(recipe, device="cpu", precision="fp32")
    expected = run(on_cpu, tmp_path / "cpu", 2)
    for name in ("train_loss", "val_loss"):
        assert [r[name] for r in ours] == pytest.approx([r[name] for r in expected], rel=0.05)
    assert [r["precision"] for r in ours] == [precision] * 2
    state = load_checkpoint(tmp_path / "gpu" / "last.pt")
    assert all(v.dtype == torch.float32 and v.isfinite().all() for v in state["model"].values())
    assert bool(state["training"]["scaler"]) == (precision == "fp16")


def test_data_parallel_computes_in_the_precision_on_all_gpus(precision):
    model = UNet(width=8, depth=2, batch_norm=False).to(GPU)
    images, _ = batch(GPU)
    assert isinstance(wrap_model(model, precision), nn.DataParallel) == (GPUS > 1)
    outputs, gradients = [], []
    for net in (Autocast(model, precision), AllGPUs(Autocast(model, precision))):
        model.zero_grad()
        outputs.append(net(images, full_image=True))
        outputs[-1].float().square().mean().backward()
        gradients.append(vector(p.grad for p in model.parameters()))
    assert outputs[1].dtype == DTYPES[precision]
    tolerance = {"fp32": 1e-4, "fp16": 0.01, "bf16": 0.05}[precision]
    for one, other in (outputs, gradients):
        assert (one - other).float().norm() < tolerance * other.float().norm()


# Twelve images: the last batch of an epoch leaves all processes but one without an image.
FIELDS = ["--epochs=2", f"--batch_size={max(11, GPUS)}"]


def start(*args, **variables: str) -> None:
    """Run Python where it sees one GPU."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    paths = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    python(*args, **{"CUDA_VISIBLE_DEVICES": first, "PYTHONPATH": paths, **variables})


@pytest.mark.parametrize(("arithmetic", "most"), [("fp32", 0.02), ("auto", 0.05)])
@pytest.mark.parametrize("processes", sorted({1, max(1, GPUS)}))
def test_processes_over_nccl_train_as_one_does(processes, arithmetic, most, streets, tmp_path):
    fields = [*FIELDS, f"--precision={arithmetic}"]
    start(*train(streets, tmp_path / "alone", *fields))
    launch(processes, *train(streets, tmp_path / "run", *fields))
    alone, found = history(tmp_path / "alone"), history(tmp_path / "run")
    assert len(found) == 2
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        assert [r[name] for r in found] == pytest.approx([r[name] for r in alone], rel=most)


RESUMED = """
import sys, torch
from test_cuda import run, small

torch.use_deterministic_algorithms(True)
data, run_dir, optimizer, epochs = sys.argv[1:]
fields = {"crop": (32, 64), "jitter": 0.2, "batch_norm": True, "loss": "cross_entropy+dice"}
run(small(data, optimizer=optimizer, **fields), run_dir, int(epochs))
"""


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_with_deterministic_algorithms_a_resumed_run_is_bit_identical(optimizer, streets, tmp_path):
    (tmp_path / "resumed.py").write_text(RESUMED)
    for name, epochs in (("whole", 2), ("parts", 1), ("parts", 2)):
        args = tmp_path / "resumed.py", streets, tmp_path / name, optimizer, epochs
        start(*args, CUBLAS_WORKSPACE_CONFIG=":4096:8")  # see PyTorch's docs
    assert len(history(tmp_path / "parts")) == 2
    assert not differences(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_run_moves_from_the_gpu_to_the_cpu_and_back(optimizer, streets, tmp_path):
    recipe = small(streets, optimizer=optimizer, epochs=3)
    for epoch, device in enumerate((GPU, CPU, GPU), 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # `auto` may mean another precision there
            records = run(dataclasses.replace(recipe, device=device.type), tmp_path, epoch)
        assert records[-1]["precision"] == pick_precision("auto", device)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    on_cpu = dataclasses.replace(recipe, device="cpu", precision="fp32")
    expected = run(on_cpu, tmp_path / "cpu", 3)
    losses = [record["train_loss"] for record in records]
    assert losses == pytest.approx([record["train_loss"] for record in expected], rel=0.05)


def evaluated(model: UNet, streets: Path, precision: str) -> tuple[float, torch.Tensor]:
    loader = make_loader(Cityscapes(streets, "val", downscale=model.downscale), 4, False, 0)
    loss, confusion = evaluate(model, loader, precision=precision)
    return loss, confusion.matrix.cpu()


def trained(device: torch.device) -> UNet:
    model = load_model(ROOT / "checkpoints" / "streets.pt", device)
    model.downscale = 1  # the test's scenes are as small as it saw them in its training
    return model


def test_an_evaluation_gives_the_cpus_figures(precision, streets):
    loss, matrix = evaluated(trained(GPU), streets, precision)
    expected_loss, expected = evaluated(trained(CPU), streets, "fp32")
    tolerance = {"fp32": 1e-4, "fp16": 2e-3, "bf16": 0.02}[precision]
    assert loss == pytest.approx(expected_loss, rel=tolerance)
    assert matrix.sum() == expected.sum() > 0
    assert (matrix - expected).abs().sum() / 2 <= 10 * tolerance * expected.sum()


@pytest.mark.parametrize("options", [{}, {"tta": True}, {"tile": 400}, {"scale": 0.7, "tile": 400}])
def test_a_prediction_is_the_cpus(options, streets):
    image, _ = Cityscapes(streets, "val")[0]
    image = F.interpolate(image[None].float(), (450, 700), mode="bilinear")[0].to(torch.uint8)
    ours, expected = (predict(trained(d), image, precision="fp32", **options) for d in (GPU, CPU))
    assert ours.device == CPU and ours.dtype == torch.uint8
    assert (ours == expected).float().mean() > 0.999
