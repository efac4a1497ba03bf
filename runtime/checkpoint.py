"""Checkpoints: plain data on disk, written atomically, read without running code.

A file is what `torch.save` writes, a zip archive, whose comment is the SHA-256 of all before it.
"""

import hashlib
import io
import os
import platform
import sys
import warnings
import zipfile
from dataclasses import asdict, fields
from pathlib import Path

import numpy
import torch
import torchvision
from torch import nn

from runtime.distributed import broadcast_from_main, is_main
from runtime.files import atomic_write

CHECKSUM = b"sha256:"
CHECKSUM_SIZE = 2 + len(CHECKSUM) + 64  # after the comment's length, the last field of a zip
LAST_PART = b"PK\5\6"  # of a zip begins so; 20 bytes on is its comment's length
MAY_CHANGE = {"data_root", "workers", "cache", "device"}  # fields of a recipe, within a run
# Fields of a recipe in earlier versions, and those that took their place.
REPLACED = {"crop_area": "scale", "crop_start": "scale", "degrade": "corrupt"}


def load_checkpoint(path: str | Path) -> dict:
    """What `save_checkpoint` wrote: plain data, on the CPU; no code of the file is run.

    Weights saved under `nn.DataParallel` lose its `module.` prefix. A file without a comment, as
    older versions and `torch.save` write it, is taken as it is. Raises FileNotFoundError, OSError
    if the file cannot be read, or ValueError if it is damaged, no checkpoint of this project, or
    would take more memory than the file has bytes.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no checkpoint at {path}") from None
    except OSError as error:
        raise OSError(
            f"{path} cannot be read ({error.strerror}): name a checkpoint that you may read"
        ) from error
    try:
        _check_archive(content)
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for bytes that are no checkpoint
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path} is no checkpoint that can be read safely ({cause}): it is damaged, or holds "
            "more than plain data; restore it from a copy, or take another"
        ) from error
    parts = {"model": dict, "settings": dict, "recipe": dict, "history": list}
    is_ours = isinstance(checkpoint, dict) and all(
        isinstance(checkpoint.get(name), kind) for name, kind in parts.items()
    )
    if not is_ours or not all(_is_weight(*each) for each in checkpoint["model"].items()):
        raise ValueError(
            f"{path} is no checkpoint of this project: it lacks {', '.join(sorted(parts))}"
        )
    weights = checkpoint["model"].items()
    checkpoint["model"] = {name.removeprefix("module."): value for name, value in weights}
    return checkpoint


def _check_archive(content: bytes) -> None:
    """Raise ValueError for a zip of another checksum, or whose parts are larger than itself.

    PyTorch compresses no part, but would decompress it, and believes its size before it reads.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        size = sum(part.file_size for part in file.infolist())
    if size > len(content):
        raise ValueError(f"its parts would be {size:,} bytes, it has {len(content):,}")
    comment = content[content.rfind(LAST_PART) + 20 :]  # with its length
    if comment not in (b"\0\0", _checksum(content[:-CHECKSUM_SIZE])):
        raise ValueError("its checksum is another")


def _is_weight(name: object, value: object) -> bool:
    """Whether this is a name and a tensor that has all of its numbers, each once."""
    if not isinstance(name, str) or not isinstance(value, torch.Tensor):
        return False
    dense = value.layout == torch.strided and value.is_cpu and not value.is_quantized
    return dense and value.nbytes <= value.untyped_storage().nbytes()


def save_checkpoint(
    path: Path,
    model: nn.Module,
    recipe: object,
    history: list[dict],
    training: dict | None = None,
    data: str = "",
) -> None:
    """Write a checkpoint to `path`, which holds its old content until the new is on the disk.

    Args:
        model: a `model.UNet`; its weights, settings and classes are saved.
        recipe: an `engine.Recipe`.
        history: the records of `engine.fit` so far.
        training: the optimizer and the like, by name. Their states are saved too, with those of
            the random generators, so that the training can go on from the file; and the file
            that was at `path` becomes `previous.pt`.
        data: the `fingerprint` of the training data, which `resume` compares.

    Raises OSError if the disk is full or cannot be written.
    """
    checkpoint = {
        "settings": model.settings,
        "classes": model.classes and asdict(model.classes),
        "recipe": asdict(recipe),
        "history": history,
        "metrics": history[-1] if history else {},
        "torch": torch.__version__.split("+")[0],
        "versions": {  # that a result depends on, bit for bit
            **{each.__name__: str(each.__version__) for each in (torch, torchvision, numpy)},
            "python": platform.python_version(),
        },
        "model": {name: value.cpu() for name, value in model.state_dict().items()},
    }
    if training:
        on_gpu = torch.cuda.get_rng_state_all if torch.cuda.is_available() else list
        random = {"cpu": torch.get_rng_state(), "cuda": on_gpu()}
        states = {name: part.state_dict() for name, part in training.items()}
        checkpoint["training"] = {**states, "random": random}
        checkpoint["data"] = data
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    content = buffer.getbuffer()[:-2]  # without the comment's length, which is 0
    keep = path.with_name("previous.pt") if training else None
    atomic_write(path, content, _checksum(content), keep=keep)


def _checksum(content: bytes) -> bytes:
    """The end of a zip archive that begins with `content`: its comment's length, its comment."""
    comment = CHECKSUM + hashlib.sha256(content).hexdigest().encode()
    return len(comment).to_bytes(2, "little") + comment


def has_state(run_dir: Path) -> bool:
    """Whether a run can go on from `load_last`."""
    return any((run_dir / name).exists() for name in ("last.pt", "previous.pt"))


def load_last(run_dir: Path) -> dict | None:
    """The state from which the run in `run_dir` goes on; None if there is none.

    That is `last.pt`. Where it is missing (after a kill between two renames) or damaged, it is
    `previous.pt`, with a message; what is damaged is kept as `damaged.pt`. Raises ValueError if
    `previous.pt` cannot be read either.
    """
    last, previous = run_dir / "last.pt", run_dir / "previous.pt"
    if not has_state(run_dir):
        return None
    try:
        return load_checkpoint(last)
    except (FileNotFoundError, ValueError) as error:
        try:
            checkpoint = load_checkpoint(previous)
        except (FileNotFoundError, ValueError) as other:
            raise ValueError(f"{error}; {other}; delete {run_dir} to start again") from error
        print(f"{error}; going on from {previous}, the state before it", file=sys.stderr)
        if last.exists():
            os.replace(last, run_dir / "damaged.pt")
        return checkpoint


def resume(
    run_dir: Path, model: nn.Module, recipe: object, training: dict, data: str
) -> list[dict] | None:
    """Restore `model`, `training` and the random generators from the last state in `run_dir`.

    Under `torchrun` only the main process reads it, whether one process wrote it or many.
    Returns the history, or None if there is no state yet. Raises ValueError if no state can be
    read, or if it is of another recipe or of other data. `MAY_CHANGE` names the fields that may
    differ; a run whose learning rate does not depend on its length may be given more epochs.
    """
    checkpoint = broadcast_from_main(load_last, run_dir)
    if checkpoint is None:
        return None
    if "training" not in checkpoint:
        raise ValueError(
            f"{run_dir / 'last.pt'} holds weights and no state of a training: choose another run "
            "directory, and start from these weights with `init`"
        )
    history = checkpoint["history"]
    start_anew = "no epoch of it was finished, so that nothing is lost"
    if history:
        start_anew = f"`init: {run_dir / 'best.pt'}` starts from its weights"
    defaults = {field.name: field.default for field in fields(recipe)}
    # A run from before a field existed had its default.
    ours, theirs = asdict(recipe), {**defaults, **checkpoint["recipe"]}
    if unknown := sorted(theirs.keys() - ours.keys()):
        gone = [name for name in unknown if name in REPLACED]
        now = "".join(f"; `{REPLACED[name]}` replaces `{name}`" for name in gone)
        raise ValueError(
            f"{run_dir} needs another version: `{'`, `'.join(unknown)}` is not known to this one"
            f"{now}: choose another run directory; {start_anew}"
        )
    used = history[-1].get("precision") if history else None
    may_change = set(MAY_CHANGE)
    if recipe.schedule == "halve" and recipe.epochs >= theirs["epochs"]:
        may_change.add("epochs")  # on which the learning rate does not depend
    if used and recipe.precision in ("auto", used):
        may_change.add("precision")
    differing = [
        f"{name} is {ours[name]!r} here and {theirs[name]!r} there"
        for name in ours.keys() - may_change
        if ours[name] != theirs[name]
    ]
    images, labels = (checkpoint.get("data", data).split() + [None])[:2]
    if images != data.split()[0]:
        differing.append(f"{recipe.data_root} has other training images or classes")
    if differing:
        raise ValueError(
            f"{run_dir} holds a run of another recipe ({'; '.join(sorted(differing))}): choose "
            f"another run directory, or delete that one; {start_anew}"
        )
    if history and labels not in (None, data.split()[1]) and is_main():
        warnings.warn(
            f"labels of {recipe.data_root} changed since the run in {run_dir} began, which goes on "
            f"from what it learned of the old ones; {start_anew} in another run directory",
            stacklevel=4,
        )
    states = checkpoint["training"]
    model.load_state_dict(checkpoint["model"])
    for name, part in training.items():
        if states.get(name):  # runs of before, and those not in fp16, have no scaler's state
            part.load_state_dict(states[name])
    torch.set_rng_state(states["random"]["cpu"])
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if len(states["random"]["cuda"]) == gpus:
        torch.cuda.set_rng_state_all(states["random"]["cuda"])
    return history
