"""bench/plan.py against real steps on this CPU, and against sums done by hand."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from bench.plan import epoch, flop, memory, needed
from engine import train_one_epoch
from losses import criterion
from recipe import Recipe, make_loaders, make_model


def live_peak(work: Callable) -> int:
    """Bytes of tensors alive at the peak of `work`, by what the CPU's allocator reports."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize(
    "fields",
    [
        {"batch_size": 4},
        {"batch_size": 2, "loss": "cross_entropy+dice", "depth": 2},
        {"batch_size": 4, "batch_norm": False},
        {"batch_size": 4, "padding": "valid", "depth": 1},
    ],
    ids=lambda fields: " ".join(f"{name}={value}" for name, value in fields.items()),
)
def test_the_computed_peak_is_that_of_a_real_step_within_15_per_cent(streets, fields):
    recipe = Recipe(
        **{"data_root": str(streets), "downscale": 1, "width": 16, "depth": 3, "workers": 0}
        | fields
    )

    def train():
        model = make_model(recipe)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
        loader, _ = make_loaders(recipe)
        train_one_epoch(model, loader, optimizer, scheduler, torch.device("cpu"), recipe.loss)

    computed = memory(recipe, recipe.batch_size, (64, 128), bf16=False)
    assert computed["peak"] == pytest.approx(live_peak(train), rel=0.15)
    parameters = sum(p.numel() for p in make_model(recipe).parameters())
    assert computed["parameters"] == 4 * parameters
    assert computed["optimizer"] == pytest.approx(8 * parameters, rel=0.01)


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="without AVX512, PyTorch's convolutions in bf16 unfold their input",
)
def test_in_bf16_too():  # which `train_one_epoch` leaves to GPUs
    recipe = Recipe(width=16, depth=3)
    images = torch.zeros(4, 3, 64, 128, dtype=torch.uint8)

    def step():
        model = make_model(recipe)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(images)
            value = criterion(logits, images[:, 0])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()

    computed = memory(recipe, 4, (64, 128), bf16=True)
    assert computed["peak"] == pytest.approx(live_peak(step), rel=0.15)


def test_bf16_takes_less_than_seven_tenths_of_fp32():
    fp32, bf16 = (memory(Recipe(width=16, depth=3), 4, (64, 128), bf16=b) for b in (False, True))
    assert bf16["peak"] < 0.7 * fp32["peak"]


def test_operations_are_those_of_the_convolutions_counted_by_hand():
    recipe = Recipe(width=8, depth=1)
    pixels = 32 * 64
    multiplies = [  # pixels, weights of a pixel, whether a gradient goes on to its input
        (pixels, 9 * 3 * 8, False),
        (pixels, 9 * 8 * 8, True),
        (pixels // 4, 9 * 8 * 16, True),
        (pixels // 4, 9 * 16 * 16, True),
        (pixels // 4, 4 * 16 * 8, True),  # up-conv: four pixels of each
        (pixels, 9 * 16 * 8, True),
        (pixels, 9 * 8 * 8, True),
        (pixels, 8 * 19, True),
    ]
    by_hand = sum(2 * n * weights * (3 if goes_on else 2) for n, weights, goes_on in multiplies)
    assert flop(recipe, (32, 64)) == by_hand


def test_an_epoch_takes_its_operations_and_the_bytes_of_its_gradients():
    alone, share = epoch(100, 4, 1, flop=2e9, gradients=10**6, rate=1e10, bandwidth=1e6)
    assert (alone, share) == (25 * 4 * 0.2, 0)
    seconds, share = epoch(100, 4, 2, flop=2e9, gradients=10**6, rate=1e10, bandwidth=1e6)
    assert seconds == pytest.approx(13 * (0.8 + 1))  # 13 steps; half of the gradients, twice
    assert share == pytest.approx(1 / 1.8)


def test_a_card_must_have_more_than_the_peak():
    found = memory(Recipe(width=4, depth=1), 1, (64, 64), bf16=False)
    assert needed(found) > found["peak"] + 2**30


def test_the_command_prints_its_tables_as_computed():
    command = [sys.executable, "bench/plan.py", "--recipe", "recipes/streets.yaml", "--depth=1"]
    command += ["--width=4", "--size=[256,512]", "--images=600"]
    out = subprocess.run(
        [*command, "--tflops=1", "--bandwidth=1"], capture_output=True, text=True, timeout=300
    )
    assert out.returncode == 0, out.stderr
    assert out.stdout.count("Computed, not measured") == 2
    assert "pictures of 64x128" in out.stdout
    rows = [line for line in out.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 8 + 1 + 4
    wrong = subprocess.run([*command, "--tflops=1"], capture_output=True, text=True, timeout=300)
    assert wrong.returncode == 1
    assert "--tflops and --bandwidth go together" in wrong.stderr
