"""Which precision is picked for which hardware, and that all of the network computes in it."""

import dataclasses
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import nn
from torch.nn.parallel import scatter_gather

import engine.run
import inference
from dataset import Cityscapes
from engine import Recipe, evaluate, make_loader, train_one_epoch
from inference import inference_net, predict, predict_logits
from runtime import distributed, precision
from runtime.checkpoint import load_checkpoint
from runtime.precision import DTYPES, Autocast, cpu_has_bf16, pick_device, pick_precision
from tests.samples import contents
from tests.training import differences, network, noise, run, tiny

pytestmark = pytest.mark.processor

IMAGES = noise(2, 3, 16, 24)
CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")
ALL = ["fp32", "fp16", "bf16"]


@pytest.fixture
def bf16_cpu(monkeypatch):
    """Pretend that the CPU has bf16, or, called with False, that it has not."""
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    return lambda has: monkeypatch.setattr(precision, "cpu_has_bf16", lambda: has)


@pytest.mark.parametrize(
    ("device", "hardware", "has"),  # what it has, the fastest last
    [
        (CUDA, (6, 1), ALL[:1]),  # GTX 1080
        (CUDA, (7, 0), ALL[:2]),  # V100
        (CUDA, (7, 5), ALL[:2]),  # T4
        (CUDA, (8, 0), ALL),  # A100
        (CUDA, (12, 0), ALL),
        (CPU, True, ["fp32", "bf16"]),
        (CPU, False, ["fp32"]),
        (MPS, None, ["fp32"]),
    ],
)
def test_a_device_computes_in_what_it_is_fast_in(device, hardware, has, bf16_cpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: hardware)
    # It is also true of GPUs that emulate bf16.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    bf16_cpu(hardware is True)
    assert pick_precision("auto", device) == has[-1]
    for name in has:
        assert pick_precision(name, device) == name
    for name in {*ALL} - {*has}:
        with pytest.raises(ValueError, match=rf"\b{name}\b.*\b{has[-1]}\b"):
            pick_precision(name, device)


def test_this_machine_has_what_its_kernel_says():
    info = Path("/proc/cpuinfo")
    listed = re.search(r"^flags\s*:(.*)", info.read_text() if info.exists() else "", re.MULTILINE)
    if listed is None:
        pytest.skip("asks Linux about an x86")
    allowed = "ONEDNN_MAX_CPU_ISA" not in os.environ
    assert cpu_has_bf16() == (allowed and bool({"avx512_bf16", "amx_tile"} & {*listed[1].split()}))


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu"), (True, True, "cuda")],
)
def test_a_gpu_is_taken_where_there_is_one(cuda, mps, expected, monkeypatch):
    for name in ("cuda:99", "gpu", "mps:7", "meta"):
        with pytest.raises(ValueError, match=name):
            pick_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device("cpu").type == "cpu"
    monkeypatch.setattr(precision, "working_device", torch.device)
    assert pick_device().type == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a CUDA that does not work")
def test_a_gpu_that_does_not_work_is_passed_over_with_a_word(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.warns(UserWarning, match="no device cuda here.*going on without it"):
        assert pick_device() == CPU


def test_under_torchrun_a_network_on_another_device_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "is_distributed", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    with pytest.raises(ValueError, match="on cuda:3, not on cpu.*CUDA_VISIBLE_DEVICES"):
        distributed.wrap_model(network(), "fp32")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # on a Mac
    with pytest.raises(ValueError, match="on cpu, not on meta.*--device cpu"):
        distributed.wrap_model(network().to("meta"), "fp32")


@pytest.mark.parametrize("images", [1, 3, 8])
def test_with_several_gpus_each_that_is_called_gets_an_image(images, monkeypatch):
    def chunks(gpus: list[int], _: None, dim: int, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x.chunk(len(gpus), dim)  # as PyTorch copies to GPUs

    monkeypatch.setattr(scatter_gather.Scatter, "apply", chunks)
    net = distributed.AllGPUs(network())
    net.dim = 0  # which it lacks where there is no GPU
    parts, options = net.scatter((noise(images, 3, 16, 24),), {"full_image": True}, [0, 1, 2, 3])
    assert sum(len(part) for (part,) in parts) == images and all(len(part) for (part,) in parts)
    assert options == [{"full_image": True}] * len(parts)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a GPU that cannot be used")
def test_a_run_is_saved_and_goes_on_where_the_driver_is_too_old(monkeypatch, streets, tmp_path):
    fail = Mock(side_effect=RuntimeError("The NVIDIA driver on your system is too old"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", fail)
    run(tiny(streets), tmp_path, stop_after=1)
    assert len(run(tiny(streets), tmp_path)) == 3


@pytest.mark.parametrize("name", ALL)
def test_a_network_computes_in_its_precision_in_any_thread_without_a_warning(name, recwarn):
    net = Autocast(network(), name)
    assert net(IMAGES).dtype == DTYPES[name]
    assert net(IMAGES[:0]).dtype == torch.float32  # of no image, as SyncBatchNorm needs
    with ThreadPoolExecutor(1) as pool:  # as nn.DataParallel runs its replicas
        assert pool.submit(net, IMAGES).result().dtype == DTYPES[name]
    with torch.autocast("cpu", torch.bfloat16):  # the caller's precision is not the network's
        assert net(IMAGES).dtype == DTYPES[name]
    assert not recwarn or name == "fp16"


def test_the_network_of_an_evaluation_computes_in_a_thread_of_its_own():
    # nn.DataParallel's threads know whether gradients are wanted, but not of inference_mode.
    with torch.inference_mode(), ThreadPoolExecutor(1) as pool:
        net, images = inference_net(network()), IMAGES.clone()
        found = pool.submit(torch.no_grad()(lambda: net(images))).result()
        assert torch.equal(found, net(images))


def test_prediction_and_evaluation_compute_in_the_precision_that_is_asked_for(bf16_cpu, streets):
    model = network(depth=1).eval()
    logits = {}
    for name in ("fp32", "bf16", "auto"):
        (logits[name], _) = predict_logits(inference_net(model, name), IMAGES, (16, 24))
    assert [x.dtype for x in logits.values()] == [torch.float32, torch.bfloat16, torch.bfloat16]
    assert not torch.equal(logits["bf16"].float(), logits["fp32"])
    torch.testing.assert_close(logits["bf16"].float(), logits["fp32"], rtol=0.1, atol=0.1)
    assert torch.equal(logits["auto"], logits["bf16"])
    for name in ("fp32", "bf16"):
        found = predict(model, IMAGES[0], precision=name)
        assert torch.equal(found, logits[name][0].argmax(0).byte())
    loader = make_loader(Cityscapes(streets, "val", downscale=4), 5, False, 0)
    losses = {n: evaluate(model, loader, precision=n)[0] for n in ("fp32", "bf16", "auto")}
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["auto"] == losses["bf16"]


@pytest.fixture
def recipe(streets) -> Recipe:
    return tiny(streets, downscale=4, depth=1, batch_size=6, epochs=2)


@pytest.mark.parametrize("asked", ["auto", "bf16", "fp32"])
def test_a_run_computes_in_its_precision_with_float32_weights(asked, recipe, bf16_cpu, tmp_path):
    used, seen = "fp32" if asked == "fp32" else "bf16", set()

    def note(layer, _, output) -> None:
        if isinstance(layer, nn.Conv2d):
            seen.add((layer.training, output.dtype))

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    recipe = dataclasses.replace(recipe, precision=asked)
    assert [record["precision"] for record in run(recipe, tmp_path)] == [used, used]
    hook.remove()
    # Prediction is compared with the network itself, in fp32 too.
    other = {(False, torch.float32)}
    assert seen | other == {(mode, DTYPES[used]) for mode in (True, False)} | other
    checkpoint = load_checkpoint(tmp_path / "best.pt")
    assert checkpoint["metrics"]["precision"] == used
    assert checkpoint["recipe"]["precision"] == asked
    kinds = {v.dtype for v in checkpoint["model"].values() if v.is_floating_point()}
    assert kinds == {torch.float32}
    assert not load_checkpoint(tmp_path / "last.pt")["training"]["scaler"]


@pytest.mark.parametrize(
    ("fields", "repeatable", "expected"),
    [
        ({}, False, True),
        ({"batch_size": 1, "crop": (16, 32)}, False, True),
        ({"batch_size": 1}, False, False),  # the images may be of several sizes
        ({}, True, False),
    ],
)
def test_cudnn_tunes_where_sizes_stay(fields, expected, repeatable, recipe, tmp_path, monkeypatch):
    seen = []

    def watched(*args):
        seen.append(torch.backends.cudnn.benchmark)
        return train_one_epoch(*args)

    monkeypatch.setattr(engine.run, "train_one_epoch", watched)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: repeatable)
    run(dataclasses.replace(recipe, **fields), tmp_path, stop_after=1)
    assert seen == [expected] and not torch.backends.cudnn.benchmark


@pytest.mark.parametrize(
    ("first", "asked", "then"),
    [("bf16", "auto", "fp32"), ("fp32", "auto", "bf16"), ("fp32", "fp32", "fp32")],
)
def test_precision_changes_with_a_warning(first, asked, then, recipe, bf16_cpu, tmp_path, recwarn):
    bf16_cpu(first == "bf16")
    run(recipe, tmp_path, stop_after=1)
    bf16_cpu(first != "bf16")
    records = run(dataclasses.replace(recipe, precision=asked), tmp_path)
    assert [record["precision"] for record in records] == [first, then]
    told = [str(each.message) for each in recwarn if str(tmp_path) in str(each.message)]
    assert len(told) == (first != then)
    assert all(re.search(rf"\b{first}\b.*\b{then}\b", text) for text in told)


def test_a_missing_precision_is_refused_before_anything_is_written(recipe, bf16_cpu, tmp_path):
    recipe = dataclasses.replace(recipe, precision="bf16")
    run(recipe, tmp_path / "begun", stop_after=1)
    before = contents(tmp_path)
    bf16_cpu(False)
    for name in ("begun", "new"):
        with pytest.raises(ValueError, match="bf16"):
            run(recipe, tmp_path / name)
    with pytest.raises(ValueError, match="bf16"):
        predict(network(), IMAGES[0], precision="bf16")
    assert contents(tmp_path) == before and not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_the_scalers_state_is_saved_and_restored(optimizer, recipe, tmp_path, monkeypatch):
    for module in (engine.run, inference):
        monkeypatch.setattr(module, "pick_precision", lambda requested, device: "fp16")
    augmented = {"crop": (16, 32), "scale": (0.5, 2), "jitter": 0.2, "schedule": "cosine"}
    recipe = dataclasses.replace(recipe, optimizer=optimizer, **augmented)
    run(recipe, tmp_path / "whole")
    run(recipe, tmp_path / "parts", stop_after=1)
    middle = load_checkpoint(tmp_path / "parts" / "last.pt")["training"]["scaler"]
    run(recipe, tmp_path / "parts")
    whole = load_checkpoint(tmp_path / "whole" / "last.pt")
    state = whole["training"]["scaler"]
    assert state["scale"] > 0 and state != middle
    assert all(value.isfinite().all() for value in whole["model"].values())
    assert not differences(tmp_path / "whole", tmp_path / "parts")
