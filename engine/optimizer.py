"""The optimizer of a recipe, and its learning rate over the steps."""

import math
from collections.abc import Callable

import torch

from engine.muon import Muon
from engine.recipe import Recipe
from model import UNet


def make_optimizer(
    recipe: Recipe, model: UNet, steps_per_epoch: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The optimizer, and the schedule of its learning rate, to be stepped after each batch."""
    if recipe.optimizer == "muon":
        optimizer = Muon(model, recipe.lr, recipe.weight_decay)
    else:
        decay = recipe.weight_decay
        optimizer = torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=decay, fused=True)
    factor = lr_factor(recipe, steps_per_epoch)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def lr_factor(recipe: Recipe, steps_per_epoch: int) -> Callable[[int], float]:
    """The schedule: a function of the step, from 0 on, that multiplies the recipe's lr."""
    steps = recipe.epochs * steps_per_epoch
    warmup = max(steps // 20, 1)

    def factor(step: int) -> float:
        if recipe.schedule == "halve":
            return 0.5 ** (step // steps_per_epoch // recipe.halve_every)
        rise = min((step + 1) / warmup, 1)
        return rise * (1 + math.cos(math.pi * min(step / steps, 1))) / 2

    return factor
