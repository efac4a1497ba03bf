"""The fast way gives what the plain way gives."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lean
from bench.plain import PlainUNet, copy_weights, plain_step
from engine import train_one_epoch
from model import UNet, predict
from speed import fold_batch_norm


def trained_a_little(**settings) -> UNet:
    """A U-Net whose batch norms have seen data, so that folding them changes something."""
    torch.manual_seed(0)
    model = UNet(width=4, depth=2, **settings)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    for _ in range(3):
        model(torch.randint(0, 256, (2, 3, 44, 60), dtype=torch.uint8))
    return model


@pytest.mark.parametrize("settings", [{}, {"padding": "valid"}, {"batch_norm": False}])
@pytest.mark.parametrize("convert", [lambda model: model, nn.SyncBatchNorm.convert_sync_batchnorm])
def test_folding_batch_norm_changes_no_score_beyond_rounding(settings, convert):
    model = convert(trained_a_little(**settings))
    images = torch.randint(0, 256, (2, 3, 44, 60), dtype=torch.uint8)
    with torch.inference_mode():
        folded = fold_batch_norm(model)(images, whole=True)
        plain = model.eval()(images, whole=True)
    assert not any("Norm" in type(module).__name__ for module in fold_batch_norm(model).modules())
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)
    assert (folded.argmax(1) == plain.argmax(1)).float().mean() > 0.999


LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not LARGE_PAGES.exists() or "[never]" in LARGE_PAGES.read_text(), reason="no large pages here"
)
def test_freed_memory_stays_for_the_next_step_in_large_pages():
    code = """
import torch
from speed import keep_freed_memory

def kilobytes(name):
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))

before = kilobytes("Rss")
for _ in range(3):
    keep_freed_memory()
assert kilobytes("Rss") < before + 50_000  # what is set aside takes none
large = kilobytes("AnonHugePages")
torch.ones(50_000_000)
print(kilobytes("Rss") - before, kilobytes("AnonHugePages") - large)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, in_large_pages = map(int, done.stdout.split())
    assert kept > 190_000
    assert in_large_pages > 150_000


def test_predicting_leaves_the_model_as_it_was():
    model = trained_a_little().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predict(model, torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8))
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("large", [0, lean.LARGE])  # each way to take a step
def test_training_follows_the_plain_way_to_rounding(large, monkeypatch):
    monkeypatch.setattr(lean, "LARGE", large)
    torch.manual_seed(0)
    ours, plain = UNet(width=4, depth=2), PlainUNet(width=4, depth=2)
    copy_weights(ours, plain)
    images = torch.randint(0, 256, (5, 2, 3, 40, 56), dtype=torch.uint8)
    labels = images[:, :, 0].long() // 64
    labels[:, :, :5] = 255
    theirs = torch.optim.Adam(plain.parameters(), 1e-2)
    expected = [
        plain_step(plain, theirs, *batch).item() for batch in zip(images, labels, strict=True)
    ]
    optimizer = torch.optim.AdamW(ours.parameters(), 1e-2, weight_decay=0.0, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    losses = []
    for batch in zip(images, labels.to(torch.uint8), strict=True):
        loader = DataLoader(TensorDataset(*batch), batch_size=2)
        loss, _ = train_one_epoch(ours, loader, optimizer, scheduler, torch.device("cpu"))
        losses.append(loss)
    assert losses == pytest.approx(expected, rel=1e-4)
    assert losses[0] != pytest.approx(losses[-1], rel=1e-2)  # it did train
