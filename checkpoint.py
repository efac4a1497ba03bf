"""Checkpoints: plain data on disk, written whole or not at all, read without running code."""

import io
import os
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn


def load_checkpoint(path: str | Path) -> dict:
    """What `save_checkpoint` wrote: plain data, on the CPU; no code of the file is run.

    Weights saved under `nn.DataParallel` lose its `module.` prefix. Raises FileNotFoundError,
    or ValueError if the file is no checkpoint of this project.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no checkpoint at {path}") from None
    except Exception as error:  # torch.load raises many kinds for bytes that are no checkpoint
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{path} is no checkpoint that can be read safely ({cause}): "
            "it is damaged, or holds more than plain data"
        ) from error
    keys = {"model", "settings", "recipe", "history"}
    if not isinstance(checkpoint, dict) or not keys <= checkpoint.keys():
        raise ValueError(
            f"{path} is no checkpoint of this project: it lacks {', '.join(sorted(keys))}"
        )
    weights = checkpoint["model"].items()
    checkpoint["model"] = {name.removeprefix("module."): value for name, value in weights}
    return checkpoint


def save_checkpoint(
    path: Path,
    model: nn.Module,
    recipe: object,
    history: list[dict],
    training: dict | None = None,
) -> None:
    """Write a checkpoint to `path`.

    Args:
        model: a `model.UNet`; its weights and settings are kept.
        recipe: a `recipe.Recipe`.
        history: the records of `engine.fit` so far.
        training: the optimiser and the like, by name, whose state is kept too, together with
            that of the random generators: then a training can go on from the file.
    """
    checkpoint = {
        "settings": model.settings,
        "recipe": asdict(recipe),
        "history": history,
        "metrics": history[-1] if history else {},
        "torch": torch.__version__.split("+")[0],
        "model": {name: value.cpu() for name, value in model.state_dict().items()},
    }
    if training:
        random = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
        states = {name: part.state_dict() for name, part in training.items()}
        checkpoint["training"] = {**states, "random": random}
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    write(path, buffer.getvalue())


def resume(path: Path, model: nn.Module, recipe: object, training: dict) -> list[dict]:
    """Put what `save_checkpoint` kept back into `model`, `training` and the random generators.

    Returns the history. Raises ValueError if the file is no such state, or is of another recipe
    (apart from `workers`), and says which fields differ.
    """
    checkpoint = load_checkpoint(path)
    ours, theirs = asdict(recipe), checkpoint["recipe"]
    differing = [
        f"{name} is {ours.get(name)!r} here and {theirs.get(name)!r} there"
        for name in {**ours, **theirs}
        if name != "workers" and ours.get(name) != theirs.get(name)
    ]
    if differing:
        raise ValueError(
            f"{path.parent} holds a run of another recipe ({'; '.join(differing)}): "
            "choose another run directory, or delete that one"
        )
    if "training" not in checkpoint:
        raise ValueError(f"{path} holds a model but no state of training: delete it to start anew")
    states = checkpoint["training"]
    model.load_state_dict(checkpoint["model"])
    for name, part in training.items():
        part.load_state_dict(states[name])
    torch.set_rng_state(states["random"]["cpu"])
    if len(states["random"]["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["random"]["cuda"])
    return checkpoint["history"]


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: to a temporary name, to the disk, then renamed."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
