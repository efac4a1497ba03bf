"""Checkpoints: plain data on disk, written whole or not at all, read without running code.

A file is what `torch.save` gives, a zip archive, whose comment is the SHA-256 of all before it.
"""

import hashlib
import io
import os
import platform
import sys
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path

import numpy
import torch
import torchvision
from torch import nn

from distributed import from_main

SEAL = b"sha256:"
SEAL_SIZE = 2 + len(SEAL) + 64  # with the comment's length before it, which is a zip's last field
DOES_NOT_COUNT = {"workers", "cache"}  # fields of a recipe that do not change the result


def load_checkpoint(path: str | Path) -> dict:
    """What `save_checkpoint` wrote: plain data, on the CPU; no code of the file is run.

    Weights saved under `nn.DataParallel` lose its `module.` prefix. Raises FileNotFoundError,
    OSError if the file cannot be read, or ValueError if it is damaged or no checkpoint of this
    project. A file without a checksum, as older versions wrote, is taken as it is.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no checkpoint at {path}") from None
    except OSError as error:
        raise OSError(
            f"{path} cannot be read ({error.strerror}): name a checkpoint that you may read"
        ) from error
    sealed = content[-SEAL_SIZE:].startswith(_seal(b"")[: 2 + len(SEAL)])
    if sealed and _seal(content[:-SEAL_SIZE]) != content[-SEAL_SIZE:]:
        raise ValueError(
            f"{path} is damaged (its checksum is another): restore it from a copy, or take another"
        )
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
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
    if checkpoint.pop("sealed", False) and not sealed:
        raise ValueError(
            f"{path} is damaged (its end, the checksum, is cut off): "
            "restore it from a copy, or take another"
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
    """Write a checkpoint to `path`, which holds its old content until the new is on the disk.

    Args:
        model: a `model.UNet`; its weights and settings are kept.
        recipe: a `recipe.Recipe`.
        history: the records of `engine.fit` so far.
        training: the optimiser and the like, by name, whose state is kept too, together with
            that of the random generators: then a training can go on from the file. The file
            that was there before becomes `previous.pt`.

    Raises OSError if the disk is full or cannot be written.
    """
    checkpoint = {
        "settings": model.settings,
        "recipe": asdict(recipe),
        "history": history,
        "metrics": history[-1] if history else {},
        "torch": torch.__version__.split("+")[0],
        "versions": versions(),
        "sealed": True,
        "model": {name: value.cpu() for name, value in model.state_dict().items()},
    }
    if training:
        random = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
        states = {name: part.state_dict() for name, part in training.items()}
        checkpoint["training"] = {**states, "random": random}
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    content = buffer.getbuffer()[:-2]  # without the comment's length, which is 0
    keep = path.with_name("previous.pt") if training else None
    write(path, content, _seal(content), keep=keep)


def _seal(content: bytes) -> bytes:
    """The end of a zip archive that begins with `content`: its comment's length, its comment."""
    comment = SEAL + hashlib.sha256(content).hexdigest().encode()
    return len(comment).to_bytes(2, "little") + comment


def versions() -> dict[str, str]:
    """Of everything that the bits of a result depend on, apart from the machine."""
    modules = {"torch": torch, "torchvision": torchvision, "numpy": numpy}
    return {
        **{name: str(module.__version__) for name, module in modules.items()},
        "python": platform.python_version(),
    }


def load_last(run_dir: Path) -> dict | None:
    """The state from which the run in `run_dir` goes on; None if there is none.

    That is `last.pt`, or, with a word, `previous.pt` where `last.pt` is damaged or missing (as
    after a kill between the two renames of `write`). A damaged one is kept as `damaged.pt`.
    Raises ValueError if `previous.pt` is no better.
    """
    last, previous = run_dir / "last.pt", run_dir / "previous.pt"
    if not last.exists() and not previous.exists():
        return None
    try:
        return load_checkpoint(last)
    except (FileNotFoundError, ValueError) as error:
        try:
            checkpoint = load_checkpoint(previous)
        except (FileNotFoundError, ValueError) as other:
            raise ValueError(f"{error}; {other}; delete {run_dir} to start anew") from error
        print(f"{error}; going on from {previous}, the state before it", file=sys.stderr)
        if last.exists():
            os.replace(last, run_dir / "damaged.pt")
        return checkpoint


def resume(run_dir: Path, model: nn.Module, recipe: object, training: dict) -> list[dict] | None:
    """Put the last state in `run_dir` back into `model`, `training` and the random generators.

    Under `torchrun` only the main process reads it, whatever wrote it: one process or many.
    Returns the history, or None if there is no state yet. Raises ValueError if there is none
    that can be read, or if it is of another recipe (`DOES_NOT_COUNT` apart), with the fields
    that differ.
    """
    checkpoint = from_main(load_last, run_dir)
    if checkpoint is None:
        return None
    ours = asdict(recipe)
    # A field that came later was at its default.
    theirs = {**{field.name: field.default for field in fields(recipe)}, **checkpoint["recipe"]}
    differing = [
        f"{name} is {ours.get(name)!r} here and {theirs.get(name)!r} there"
        for name in {**ours, **theirs}
        if name not in DOES_NOT_COUNT and ours.get(name) != theirs.get(name)
    ]
    if differing:
        raise ValueError(
            f"{run_dir} holds a run of another recipe ({'; '.join(differing)}): "
            "choose another run directory, or delete that one"
        )
    if "training" not in checkpoint:
        raise ValueError(
            f"{run_dir / 'last.pt'} holds a model but no state of training: "
            f"delete {run_dir} to start anew"
        )
    if model.settings != checkpoint["settings"]:
        raise ValueError(
            f"{run_dir} holds a run of another network ({checkpoint['settings']}, "
            f"not {model.settings}): choose another run directory, or delete that one"
        )
    states = checkpoint["training"]
    model.load_state_dict(checkpoint["model"])
    for name, part in training.items():
        part.load_state_dict(states[name])
    torch.set_rng_state(states["random"]["cpu"])
    if len(states["random"]["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["random"]["cuda"])
    return checkpoint["history"]


def write(path: Path, *content: bytes, keep: Path | None = None) -> None:
    """Write a file whole or not at all: to a temporary name, to the disk, then renamed.

    What was at `path` is renamed to `keep`, if given. Raises OSError, and leaves `path` as it
    was, if the disk is full or cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(part, path)
        _sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):  # leaves the room to others
            part.unlink(missing_ok=True)
        raise OSError(
            f"{path} cannot be written ({error.strerror}); what was there is unharmed: make room, "
            "or get back the permission to write, and run the same again"
        ) from error


def _sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk too; where only POSIX systems need to be asked."""
    if os.name == "posix":
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
