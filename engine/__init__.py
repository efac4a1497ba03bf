"""Training and evaluation."""

from engine.loaders import make_loader, make_loaders
from engine.loop import Trainer, evaluate, train_one_epoch
from engine.losses import Loss
from engine.recipe import Recipe, given, make_model
from engine.report import best_median_worst, evaluate_split
from engine.run import Stopped, fit
from engine.submission import write_submission
