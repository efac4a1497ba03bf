"""Loader workers that lack shared memory, or die: fewer of them, or an end that says so."""

import json
import os
import re
import signal
import sys
from multiprocessing.connection import Connection, Listener
from pathlib import Path

import pytest
from torch.utils.data import get_worker_info

from dataset import Cityscapes
from engine import fit, make_loaders, make_model
from runtime import shared_memory
from runtime.shared_memory import affordable_workers, lost_workers_named
from tests.processes import STREETS, namespace, options, python
from tests.training import tiny

CURE = r"--shm-size.*--ipc=host.*workers: 0"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits it")


def train_py(streets: Path, run: Path, workers: int) -> list[str]:
    fields = {"data_root": streets, "run": run, "batch_size": 4, "epochs": 2, "workers": workers}
    return ["train.py", f"--recipe={STREETS}", *options(**fields)]


def with_shared_memory(size: str, *command: str):
    """Run Python where /dev/shm is of this size, as in Docker."""
    return python(*command, through=namespace(f"mount -t tmpfs -o size={size} tmpfs /dev/shm"))


def test_as_many_workers_start_as_have_room_for_what_they_read_ahead(recwarn, monkeypatch):
    batch = 2**20
    monkeypatch.setattr(shared_memory, "free_shared_memory", lambda: 10 * batch)
    assert affordable_workers(4, 2, batch) == 4
    assert affordable_workers(0, 2, 100 * batch) == 0
    assert not recwarn
    with pytest.warns(UserWarning, match=f"4 instead of 8 loader workers.*{CURE}"):
        assert affordable_workers(8, 2, batch) == 4  # 2 x 4 read ahead, and 2 in use
    with pytest.warns(UserWarning, match="1 instead of 8"):
        assert affordable_workers(8, 2, batch, processes=2) == 1
    with pytest.warns(UserWarning, match="0 instead of 8"):
        assert affordable_workers(8, 2, 4 * batch) == 0


@pytest.mark.slow
def test_eight_workers_in_a_container_with_room_for_one_train_with_one(streets, tmp_path):
    # Five batches of 4 images of 128 x 64 pixels and 3 + 1 bytes.
    done = with_shared_memory("660k", *train_py(streets, tmp_path, workers=8))
    assert done.stderr.count("1 instead of 8 loader workers") == 1
    assert len(json.loads((tmp_path / "history.json").read_text())) == 2


@pytest.mark.slow
def test_shared_memory_that_others_fill_ends_the_training_with_the_cure(streets, tmp_path):
    code = f"""
from tests.training import fit, make_loaders, make_model, run, tiny

recipe = tiny({str(streets)!r}, downscale=1, epochs=2, workers=1)
loaders = make_loaders(recipe)
with open("/dev/shm/others", "wb", buffering=0) as file:
    file.write(bytes(2**21))
    for room in (0, 2**16):  # for no queue, and for no batch
        file.truncate(file.tell() - room)
        try:
            list(fit(make_model(recipe), *loaders, recipe, {str(tmp_path)!r}))
        except ChildProcessError as error:
            print(error)
print(len(run(recipe, {str(tmp_path)!r})), "epochs")
"""
    done = with_shared_memory("2m", "-c", code)
    *errors, trained = done.stdout.splitlines()
    assert len(errors) == 2
    cause = "No space left|Bus error|exited unexpectedly"  # the worker of PyTorch 2.6 dies
    assert all(re.search(f"({cause}).*{CURE}", error) for error in errors)
    assert "0 instead of 1 loader workers" in done.stderr
    assert trained == "2 epochs"


def dies_of(death: str, read=Cityscapes.read):
    """In place of `Cityscapes.read`: a worker dies while it reads."""

    def die(scenes: Cityscapes, index: int):
        if get_worker_info():
            os.kill(os.getpid(), getattr(signal, death))
        return read(scenes, index)

    return die


def reset(listener: Listener, accept=Listener.accept) -> Connection:
    """In place of `Listener.accept`: as if it died before it read which batch is wanted."""
    connection = accept(listener)
    connection.poll(60)  # until the request is there
    connection.close()
    return connection


@pytest.mark.parametrize(
    ("function", "lost"),
    [
        ("dataset.Cityscapes.read", dies_of("SIGKILL")),
        ("dataset.Cityscapes.read", dies_of("SIGBUS")),
        # as if it died before it handed over a batch's memory
        ("multiprocessing.reduction.send_handle", lambda *args: args[0].close()),
        ("multiprocessing.connection.Listener.accept", reset),
    ],
)
def test_a_lost_worker_ends_fit_with_the_cure(streets, tmp_path, monkeypatch, function, lost):
    recipe = tiny(streets, epochs=2, workers=1)
    model, loaders = make_model(recipe), make_loaders(recipe)
    with monkeypatch.context() as patch:
        patch.setattr(function, lost)
        with pytest.raises(ChildProcessError, match=CURE):
            next(fit(model, *loaders, recipe, tmp_path))
    assert len(list(fit(model, *loaders, recipe, tmp_path))) == 2


def test_an_output_that_is_closed_is_no_lost_worker():
    with pytest.raises(BrokenPipeError), lost_workers_named():
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.slow
def test_a_worker_killed_between_two_epochs_ends_train_py_with_one_line(streets, tmp_path):
    code = """if True:
        import multiprocessing, os, signal, time, train
        def summary(record):
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            time.sleep(60)
        train.summary = summary
        train.main()"""
    done = python("-c", code, *train_py(streets, tmp_path / "run", workers=1)[1:], status=1)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: a loader worker could not go on") and "--shm-size" in last
    assert "Traceback" not in done.stderr
