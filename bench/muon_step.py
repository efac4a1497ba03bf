"""The step of Muon for a U-Net of width 16 and depth 5, against torch.optim.Muon.

python -m bench.muon_step
"""

from collections.abc import Callable

import torch
from torch import nn

from bench.timing import Row, against_ours, table, take_turns
from engine import Recipe, make_model
from engine.muon import Muon

ROUNDS = 9


def ours() -> Callable:
    model = make_model(Recipe(width=16, depth=5))
    return stepping(list(model.parameters()), Muon(model, 1e-3, 0.05))


def theirs() -> Callable:
    """PyTorch's, which takes matrices and computes in bf16; AdamW for the rest."""
    model = make_model(Recipe(width=16, depth=5))
    rest, convs = (group["params"] for group in Muon(model, 1e-3, 0.05).param_groups)
    matrices = [nn.Parameter(conv.detach().flatten(1)) for conv in convs]
    muon = torch.optim.Muon(matrices, 1e-3, 0.05, adjust_lr_fn="match_rms_adamw")
    return stepping([*matrices, *rest], muon, torch.optim.AdamW(rest, fused=True))


def stepping(parameters: list[nn.Parameter], *optimizers: torch.optim.Optimizer) -> Callable:
    """A step with the same random gradients each time."""
    generator = torch.Generator().manual_seed(0)
    grads = [torch.randn(p.shape, generator=generator) for p in parameters]

    def step() -> None:
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        for optimizer in optimizers:
            optimizer.step()

    return step


def measure() -> tuple[list[Row], list[str]]:
    """Rows and notes for `table`."""
    found = take_turns({"ours": ours, "torch.optim.Muon in bf16": theirs}, ROUNDS, warm_up=2)
    weights = sum(p.numel() for p in make_model(Recipe(width=16, depth=5)).parameters())
    return against_ours(f"A step of Muon, {weights / 1e6:.1f} M parameters, against", found), []


if __name__ == "__main__":
    print(table(*measure()))
