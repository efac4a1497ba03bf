"""Training and evaluation."""

from engine.loaders import make_loader, make_loaders
from engine.loop import Trainer, evaluate, train_one_epoch
from engine.losses import Loss
from engine.recipe import Recipe, given, make_model
from engine.report import best_median_worst, evaluate_split, rank_scenes
from engine.run import Stopped, fit
from engine.submission import write_submission

__all__ = [
    "Loss",
    "Recipe",
    "Stopped",
    "Trainer",
    "best_median_worst",
    "evaluate",
    "evaluate_split",
    "fit",
    "given",
    "make_loader",
    "make_loaders",
    "make_model",
    "rank_scenes",
    "train_one_epoch",
    "write_submission",
]
