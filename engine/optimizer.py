"""The optimizer of a recipe, and its learning rate over the steps."""

import math
from functools import partial

from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from engine.muon import Muon
from engine.recipe import Recipe
from model import UNet


def make_optimizer(recipe: Recipe, model: UNet, steps_per_epoch: int) -> tuple[Optimizer, LambdaLR]:
    """The optimizer, and the schedule of its learning rate, to be stepped after each batch."""
    optimizer = OPTIMIZERS[recipe.optimizer](model, recipe)
    factor = partial(SCHEDULES[recipe.schedule], recipe=recipe, steps_per_epoch=steps_per_epoch)
    return optimizer, LambdaLR(optimizer, factor)


def adam(model: UNet, recipe: Recipe) -> Optimizer:
    decay = recipe.weight_decay
    return AdamW(model.parameters(), recipe.lr, weight_decay=decay, fused=True)


def muon(model: UNet, recipe: Recipe) -> Optimizer:
    return Muon(model, recipe.lr, recipe.weight_decay)


# A schedule is a function of the step, from 0 on, that multiplies the recipe's lr.


def halve(step: int, recipe: Recipe, steps_per_epoch: int) -> float:
    """Half as much after every `halve_every` epochs."""
    return 0.5 ** (step // steps_per_epoch // recipe.halve_every)


def cosine(step: int, recipe: Recipe, steps_per_epoch: int) -> float:
    """Rises over the first twentieth of the steps and falls to 0 as half a cosine."""
    steps = recipe.epochs * steps_per_epoch
    rise = min((step + 1) / max(steps // 20, 1), 1)
    return rise * (1 + math.cos(math.pi * min(step / steps, 1))) / 2


OPTIMIZERS = {"adam": adam, "muon": muon}
SCHEDULES = {"halve": halve, "cosine": cosine}
