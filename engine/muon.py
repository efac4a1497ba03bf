"""Muon for a U-Net: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/."""

import torch
from torch import Tensor, nn

from runtime.cpu import matmul


class Muon(torch.optim.AdamW):
    """Steps of equal size in all directions for 3x3 convolutions, AdamW for all else.

    The momentum of a convolution's gradient, as a matrix (out, in * 9), is replaced by the nearest
    orthogonal matrix, so that directions in which the loss is nearly flat are learned as fast as
    the others. A step has the root mean square that AdamW's has, 0.2 lr (Liu et al. 2025, section
    2.2, https://arxiv.org/abs/2502.16982), so that `lr` and `weight_decay` mean the same for both.
    torch.optim.Muon takes no convolutions.

    Works with `torch.amp.GradScaler`: like fused AdamW it divides the gradients by the scale
    itself, and leaves all weights as they are after an overflow.
    """

    def __init__(self, model: nn.Module, lr: float, weight_decay: float):
        layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        convs = [layer.weight for layer in layers if layer.kernel_size[0] > 1]
        ours = {id(weight) for weight in convs}
        rest = [p for p in model.parameters() if id(p) not in ours]
        groups = [{"params": rest}, {"params": convs, "momentum": 0.9}]
        super().__init__(groups, lr, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self) -> None:
        """Change the weights; sets the `grad` of the 3x3 convolutions to None."""
        # Set by a GradScaler for optimizers that have `_step_supports_amp_scaling`.
        scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        overflow = found_inf is not None and bool(found_inf.item())  # a GPU waits here: once
        group = self.param_groups[1]
        for weight in group["params"]:
            if weight.grad is None:
                continue
            grad, weight.grad = weight.grad, None  # so that AdamW leaves it alone
            if overflow:
                continue
            if scale is not None:
                grad = grad / scale
            if weight not in self.state:  # AdamW wants a "step" in a state that is loaded
                new = {"step": torch.zeros(()), "momentum": torch.zeros_like(weight)}
                self.state[weight] = new
            momentum = self.state[weight]["momentum"]
            momentum.lerp_(grad, 1 - group["momentum"])
            ahead = grad.lerp(momentum, group["momentum"]).flatten(1)  # (out, in * 9)
            change = orthogonal(ahead).view(weight.shape)
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.sub_(change, alpha=group["lr"] * 0.2 * max(ahead.shape) ** 0.5)
        super().step()


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix with its singular values brought near 1, by five Newton-Schulz steps.

    A matrix (rows, columns) of any floating type gives one like it. With Jordan's coefficients,
    singular values from a hundredth of the norm on end between 0.68 and 1.21. The steps are taken
    on x @ x.T, which is smaller, and `matrix` is multiplied once: half the time for a U-Net.
    """
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (x.norm() + 1e-7)
    square = matmul(x, x.T)
    step = total = _newton_schulz(square)
    for _ in range(4):
        square = matmul(matmul(step, square), step)
        step = _newton_schulz(square)
        total = matmul(step, total)
    x = matmul(total, x)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def _newton_schulz(square: Tensor) -> Tensor:
    """What a step multiplies x by, as a function of x @ x.T."""
    step = matmul(square, square).mul_(2.0315).sub_(square, alpha=4.7750)
    step.diagonal().add_(3.4445)
    return step
