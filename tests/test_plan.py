"""docs/plan.py against real steps on this CPU, and against sums done by hand."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from docs.plan import epoch, flop, memory, needed
from engine import Loss, Recipe, Trainer, make_loaders, make_model, train_one_epoch
from engine.optimizer import make_optimizer
from runtime.precision import Autocast


def live_peak(work) -> int:
    """Bytes of the tensors alive at the peak of `work`, as the CPU's allocator reports them."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def train(recipe: Recipe) -> None:
    """An epoch as `fit` trains it, but with PyTorch's own convolutions."""
    model = make_model(recipe)
    loader, _ = make_loaders(recipe)
    optimizer, scheduler = make_optimizer(recipe, model, len(loader))
    net, loss = Autocast(model, recipe.precision), Loss(recipe.loss)
    train_one_epoch(Trainer(net, loss, optimizer, scheduler, full_image=True), loader)


in_bf16 = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    reason="without AVX512, PyTorch's convolutions in bf16 unfold their input",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"batch_size": 2, "loss": "cross_entropy+dice", "optimizer": "muon", "depth": 2},
        {"batch_norm": False},
        {"padding": "valid", "depth": 1},
        pytest.param({"precision": "bf16"}, marks=in_bf16),
    ],
    ids=lambda fields: " ".join(f"{name}={value}" for name, value in fields.items()),
)
def test_the_computed_peak_is_within_15_per_cent_of_a_real_step(streets, fields):
    small = {"downscale": 1, "width": 16, "depth": 3, "batch_size": 4, "workers": 0}
    recipe = Recipe(**{"data_root": str(streets), "precision": "fp32", **small, **fields})
    computed = memory(recipe, recipe.batch_size, (64, 128), recipe.precision)
    assert computed["peak"] == pytest.approx(live_peak(lambda: train(recipe)), rel=0.15)
    assert needed(computed) > computed["peak"] + 2**30
    parameters = sum(p.numel() for p in make_model(recipe).parameters())
    assert computed["parameters"] == 4 * parameters
    if recipe.optimizer == "adam":
        assert computed["optimizer"] == pytest.approx(8 * parameters, rel=0.01)


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
    options = {"flop": 2e9, "gradients": 10**6, "rate": 1e10, "bandwidth": 1e6}
    assert epoch(100, 4, 1, **options) == (25 * 4 * 0.2, 0)
    seconds, talk = epoch(100, 4, 2, **options)
    assert seconds == pytest.approx(13 * (0.8 + 1))  # 13 steps; half of the gradients, twice
    assert talk == pytest.approx(1 / 1.8)


@pytest.mark.slow
def test_the_command_prints_its_tables_as_computed(command, capsys):
    args = "--recipe=recipes/streets.yaml", "--depth=1", "--width=4", "--size=[256,512]"
    command("docs.plan", *args, "--images=600", "--tflops=1")
    said = capsys.readouterr().out
    assert "images of 64x128" in said  # downscaled by 4, as the recipe says
    rows = [line for line in said.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 8 + 1 + 4 + 1 + 4
    wrong = ("--lr=-1", "recipe: lr"), ("--loss=cross_entropy+lovasz", "what Lovász-softmax takes")
    for field, said in wrong:
        with pytest.raises(SystemExit, match=f"error: {said}"):
            command("docs.plan", *args, field)
    command("docs.plan", "--recipe=recipes/own.yaml", "--depth=1", "--width=4")  # of other weights
    assert "images of 256x320" in capsys.readouterr().out
