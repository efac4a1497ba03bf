"""Muon against torch's, which takes matrices only, and against what defines it."""

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from engine import Loss
from engine.muon import Muon, orthogonal
from model import UNet
from tests.training import noise

pytestmark = pytest.mark.processor


@pytest.mark.parametrize("shape", [(16, 144), (64, 64), (90, 20)])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_singular_values_come_near_1_and_singular_vectors_stay(shape, dtype, atol):
    matrix = torch.randn(shape, dtype=dtype)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ orthogonal(matrix) @ vh.T  # diagonal, if the vectors are the same
    values = inside.diagonal()[s > 0.02 * s.max()]
    assert 0.6 < values.min() and values.max() < 1.3
    torch.testing.assert_close(inside, inside.diagonal().diag(), atol=atol, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [0, 1e-7, 100])
def test_an_update_is_finite_whatever_the_size_of_the_gradient(dtype, size):
    found = orthogonal((size * torch.randn(8, 72)).to(dtype))
    assert found.dtype == dtype and found.isfinite().all() and found.any() == (size > 0)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch 2.9 brought it")
def test_a_convolution_moves_as_its_matrix_does_under_torchs_muon():
    conv = nn.Conv2d(12, 16, 3, bias=False)
    matrix = nn.Parameter(conv.weight.detach().flatten(1).clone())
    start = matrix.detach().clone()
    ours = Muon(nn.Sequential(conv, nn.BatchNorm2d(16)), 0.01, 0.1)
    theirs = torch.optim.Muon(
        [matrix], 0.01, 0.1, momentum=0.9, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(4):
        grad = torch.randn(16, 108)
        conv.weight.grad, matrix.grad = grad.view_as(conv.weight).clone(), grad
        ours.step()
        theirs.step()
    moved, expected = conv.weight.detach().flatten(1) - start, matrix.detach() - start
    assert (moved - expected).norm() < 0.02 * expected.norm()  # theirs computes in bfloat16
    assert conv.weight.grad is None


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    images = noise(2, 3, 32, 32)
    return images, images[:, 0] // 16


def optimized() -> tuple[UNet, Muon]:
    torch.manual_seed(0)
    model = UNet(width=4, depth=1)
    return model, Muon(model, 0.01, 0.1)


def test_all_parameters_move_and_the_last_layer_and_norms_as_by_adamw(batch):
    (model, muon), (plain, _), (before, _) = optimized(), optimized(), optimized()
    adam = torch.optim.AdamW(plain.parameters(), 0.01, weight_decay=0.1)
    for net, optimizer in ((model, muon), (plain, adam)):
        Loss()(net(batch[0]), batch[1]).backward()
        optimizer.step()
    weights = before.parameters(), plain.parameters()
    for (name, p), old, other in zip(model.named_parameters(), *weights, strict=True):
        assert not torch.equal(p, old), name
        is_conv = p.ndim == 4 and p.shape[-1] == 3
        assert torch.allclose(p, other, atol=1e-6) != is_conv, name


def scaled_step(model, optimizer, scaler, batch, spoil=False, unscale=False) -> None:
    optimizer.zero_grad()
    scaler.scale(Loss()(model(batch[0]), batch[1])).backward()
    if spoil:  # what an overflow leaves, of one weight alone
        model.contracting[0][0].weight.grad[0, 0, 0, 0] = float("inf")
    if unscale:  # as for clipping
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()


def snapshot(model, optimizer) -> list[torch.Tensor]:
    states = optimizer.state_dict()["state"]
    values = [*model.parameters(), *(v for _, s in sorted(states.items()) for v in s.values())]
    return [value.detach().clone() for value in values]


@pytest.mark.parametrize("unscale", [False, True])
def test_scaled_steps_equal_unscaled_ones(batch, unscale):
    found = []
    for enabled in (False, True):
        model, optimizer = optimized()
        scaler = GradScaler("cpu", init_scale=2.0**10, enabled=enabled)
        for _ in range(4):
            scaled_step(model, optimizer, scaler, batch, unscale=unscale)
        found.append(snapshot(model, optimizer))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps_before", [0, 2])
def test_an_overflow_changes_neither_weights_nor_momentum_and_lowers_the_scale(batch, steps_before):
    model, optimizer = optimized()
    scaler = GradScaler("cpu", init_scale=2.0**10)
    for _ in range(steps_before):
        scaled_step(model, optimizer, scaler, batch)
    before, scale = snapshot(model, optimizer), scaler.get_scale()
    scaled_step(model, optimizer, scaler, batch, spoil=True)
    after = snapshot(model, optimizer)
    for a, b in zip(after, before, strict=False):  # without a step before, there was no state
        assert torch.equal(a, b)
    assert all(value.isfinite().all() for value in after)
    assert scaler.get_scale() == scale / 2
    scaled_step(model, optimizer, scaler, batch)
    assert not torch.equal(model.contracting[0][0].weight, before[0])
    assert all(value.isfinite().all() for value in snapshot(model, optimizer))
