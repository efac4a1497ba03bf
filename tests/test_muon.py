"""Muon against torch's, which takes matrices only, and against what defines it."""

import pytest
import torch
from torch import nn

from losses import criterion
from model import UNet
from muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(16, 144), (64, 64), (90, 20)])
def test_singular_values_come_near_1_and_singular_vectors_stay(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ orthogonal(matrix) @ vh.T  # diagonal, if the vectors are the same
    values = inside.diagonal()[s > 0.02 * s.max()]
    assert 0.6 < values.min() and values.max() < 1.3
    torch.testing.assert_close(inside, inside.diagonal().diag(), atol=1e-9, rtol=0)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch 2.9 brought it")
def test_a_convolution_moves_as_its_matrix_does_under_torchs_muon():
    torch.manual_seed(0)
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


def test_it_moves_all_parameters_the_last_layer_and_norms_as_adamw_does():
    torch.manual_seed(0)
    model, plain = UNet(width=4, depth=1), UNet(width=4, depth=1)
    plain.load_state_dict(model.state_dict())
    before = [p.detach().clone() for p in model.parameters()]
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    for net, optimizer in (
        (model, Muon(model, 0.01, 0.1)),
        (plain, torch.optim.AdamW(plain.parameters(), 0.01, weight_decay=0.1)),
    ):
        criterion(net(images), images[:, 0] // 16).backward()
        optimizer.step()
    for (name, p), old, other in zip(
        model.named_parameters(), before, plain.parameters(), strict=True
    ):
        assert not torch.equal(p, old), name
        is_conv = p.ndim == 4 and p.shape[-1] == 3
        assert torch.allclose(p, other, atol=1e-6) != is_conv, name
