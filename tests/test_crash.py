"""Runs that are killed, interrupted, damaged, starved of disk: nothing is lost, no bit differs."""

import contextlib
import ctypes
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import numpy
import pytest
import torch
import torchvision
import yaml
from jupyter_client.manager import start_new_kernel

from bench.kill_test import FIELDS, ROOT, differences, finish, kill_to_the_end, start
from checkpoint import load_checkpoint
from engine import fit
from recipe import Recipe, make_loaders, make_model


@pytest.fixture(scope="module")
def whole(streets, tmp_path_factory):
    """A run of `train.py`, with two loader workers, that nobody disturbed; and its seconds."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    return run, finish(start(streets, run), run)


def tiny(streets) -> Recipe:
    """The recipe of `whole`, without its workers."""
    fields = yaml.safe_load((ROOT / "recipes/streets.yaml").read_text())
    return Recipe.from_fields({**fields, **FIELDS, "data_root": str(streets), "workers": 0})


@pytest.fixture
def recipe(streets) -> Recipe:
    return tiny(streets)


def steps(recipe, run):
    return fit(make_model(recipe), *make_loaders(recipe), recipe, run)


@pytest.fixture(scope="module")
def half(streets, tmp_path_factory):
    """A run of the same that was stopped after two epochs: copy it."""
    run = tmp_path_factory.mktemp("runs") / "half"
    train(tiny(streets), run, epochs=2)
    return run


def train(recipe, run, epochs=None) -> None:
    for record in steps(recipe, run):
        if record["epoch"] == epochs:
            break


def wait_for(path, process) -> None:
    while not path.exists():
        assert process.poll() is None, path.with_suffix(".log")
        time.sleep(0.01)


# Killed


def test_a_run_killed_at_random_instants_ends_as_if_it_had_not_been(streets, whole, tmp_path):
    whole, length = whole
    seed = random.randrange(10**6)
    chance, lengths, kills = random.Random(seed), [length], 0
    for attempt in range(20):
        run = tmp_path / str(attempt)
        kills += kill_to_the_end(streets, run, lengths, chance, most=5 - kills)[0]
        assert not differences(whole, run), f"seed {seed}, after {kills} kills"
        if kills >= 5:
            break
    assert kills >= 5, f"seed {seed}"


def test_a_kill_between_two_files_is_mended(recipe, whole, half, tmp_path):
    renames, best, history = (tmp_path / name for name in ("renames", "best", "history"))
    for run in (renames, best, history):
        shutil.copytree(half, run)
    os.replace(renames / "last.pt", renames / "previous.pt")  # between the two renames
    os.replace(best / "previous.pt", best / "last.pt")  # best.pt is there, last.pt is not yet
    train(recipe, history)
    shutil.copy(half / "history.json", history)  # written last, and was not
    (history / "best.pt.part").write_bytes(b"half")
    for run in (renames, best, history):
        train(recipe, run)
        assert not differences(whole[0], run), run.name
        assert not list(run.glob("*.part"))


# Damaged


@pytest.mark.parametrize("damage", ["one byte", "cut by one byte", "cut in half", "empty"])
def test_a_damaged_last_state_is_told_and_the_one_before_it_used(
    recipe, whole, half, tmp_path, capsys, damage
):
    shutil.copytree(half, tmp_path, dirs_exist_ok=True)
    content = bytearray((tmp_path / "last.pt").read_bytes())
    content[len(content) // 2] ^= damage == "one byte"
    size = {"cut by one byte": len(content) - 1, "cut in half": len(content) // 2, "empty": 0}
    (tmp_path / "last.pt").write_bytes(content[: size.get(damage)])
    train(recipe, tmp_path)
    told = capsys.readouterr().err
    assert f"{tmp_path / 'last.pt'} is" in told
    assert f"going on from {tmp_path / 'previous.pt'}" in told
    assert (tmp_path / "damaged.pt").read_bytes() == content[: size.get(damage)]
    assert not differences(whole[0], tmp_path)


def test_a_run_whose_states_are_all_damaged_is_not_begun_anew_by_itself(recipe, half, tmp_path):
    shutil.copytree(half, tmp_path, dirs_exist_ok=True)
    for name in ("last.pt", "previous.pt"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:-9] + b"\0" + content[-8:])
    with pytest.raises(ValueError, match=r"last\.pt is damaged .*previous\.pt is damaged .*delete"):
        train(recipe, tmp_path)
    assert (tmp_path / "last.pt").exists()


def test_a_checkpoint_without_a_checksum_is_taken_as_before(tmp_path):
    sealed = load_checkpoint(ROOT / "checkpoints/camvid.pt")
    torch.save(sealed, tmp_path / "plain.pt")
    assert load_checkpoint(tmp_path / "plain.pt")["history"] == sealed["history"]


# The disk


@contextlib.contextmanager
def full_disk(run):
    """A tmpfs of 1 MB, filled to the last byte."""
    with open(run / "junk", "wb", buffering=0) as junk, contextlib.suppress(OSError):
        while junk.write(bytes(1024)):
            pass
    yield "No space left on device"
    (run / "junk").unlink()


@contextlib.contextmanager
def limited_files(_):
    """No file grows beyond 1000 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        yield "File too large"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def read_only(run):
    """A directory without the permission to write; root lays its power over that down."""
    libc = ctypes.CDLL(None)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # capset(2)
    libc.capget(header, sets)
    before = sets[0]
    sets[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    libc.capset(header, sets)
    run.chmod(0o555)
    try:
        yield "Permission denied"
    finally:
        run.chmod(0o755)
        sets[0] = before
        libc.capset(header, sets)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("mounting a small disk takes root")
    if subprocess.call(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]):
        pytest.skip("mounting a small disk is not allowed here")
    yield folder
    subprocess.check_call(["umount", folder])


@pytest.mark.parametrize("trouble", [full_disk, limited_files, read_only])
def test_what_cannot_be_written_leaves_the_old_state_and_says_so(
    recipe, whole, tmp_path, trouble, request
):
    run = request.getfixturevalue("small_disk") if trouble is full_disk else tmp_path
    running = steps(recipe, run)
    next(running)
    before = (run / "last.pt").read_bytes()
    with trouble(run) as reason:
        with pytest.raises(OSError, match=rf"\.pt cannot be written \({reason}\).*unharmed"):
            list(running)
        assert (run / "last.pt").read_bytes() == before
        assert not list(run.glob("*.part"))
        with pytest.raises(OSError, match=rf"{run}.* \({reason}\)"):  # started anew, it says so too
            train(recipe, run)
        assert (run / "last.pt").read_bytes() == before
    train(recipe, run)
    assert not differences(whole[0], run)


# Interrupted


def test_the_first_ctrl_c_waits_for_the_step_and_the_second_does_not():
    code = (
        "import signal, guard\n"
        "for kind in 'once', 'twice':\n"
        "    try:\n"
        "        with guard.finish_step():\n"
        "            for step in guard.until_stopped(range(9)):\n"
        "                if step == 3: signal.raise_signal(signal.SIGINT)\n"
        "                if step == 3 and kind == 'twice': signal.raise_signal(signal.SIGINT)\n"
        "                print(kind, step)\n"
        "    except KeyboardInterrupt: print('stopped')\n"
        "try:\n"
        "    with guard.finish_step():\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "        print('saved')\n"
        "except KeyboardInterrupt: print('stopped')\n"
        "print(*guard.until_stopped(range(3)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    once = [f"once {step}" for step in range(4)] + ["stopped"]
    twice = [f"twice {step}" for step in range(3)] + ["stopped"]
    assert done.stdout.splitlines() == [*once, *twice, "saved", "stopped", "0 1 2"]


def test_ctrl_c_in_the_shell_stops_cleanly_and_can_be_resumed(streets, recipe, whole, tmp_path):
    run = tmp_path / "run"
    process = start(streets, run)
    wait_for(run / "history.json", process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the loader workers get it too
    assert process.wait() == 1
    told = run.with_suffix(".log").read_text()
    assert f"stopped; the same command goes on from {run / 'last.pt'}" in told
    assert "Traceback" not in told
    assert len(load_checkpoint(run / "last.pt")["history"]) < FIELDS["epochs"]
    train(recipe, run)
    assert not differences(whole[0], run)


def test_interrupt_in_the_notebook_stops_cleanly_and_the_same_cell_goes_on(recipe, whole, tmp_path):
    notebook = nbformat.read(ROOT / "trainer.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    manager, client = start_new_kernel(kernel_name="python3", cwd=ROOT)

    def answer(request: str) -> dict:
        while (message := client.get_shell_msg(timeout=300))["parent_header"]["msg_id"] != request:
            pass
        return message["content"]

    try:
        for cell in cells:
            if "fit(" in cell.source:
                break
            assert answer(client.execute(cell.source))["status"] == "ok", cell.source
            if "parameters" in cell.metadata.get("tags", []):
                fields = {**vars(recipe), "workers": FIELDS["workers"], "run": str(tmp_path)}
                answer(client.execute(f"globals().update({fields!r})"))
        request = client.execute(cell.source)
        while not (tmp_path / "history.json").exists():
            assert manager.is_alive()
            time.sleep(0.01)
        manager.interrupt_kernel()
        assert answer(request).get("ename") == "KeyboardInterrupt"
        assert len(load_checkpoint(tmp_path / "last.pt")["history"]) < FIELDS["epochs"]
        assert answer(client.execute(cell.source))["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert not differences(whole[0], tmp_path)


def test_a_loader_worker_leaves_ctrl_c_to_the_run(recipe):
    loader = make_loaders(Recipe(**{**vars(recipe), "workers": 1}))[0]
    batches = iter(loader)
    next(batches)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGINT)
    assert len(list(batches)) == len(loader) - 1


# Two runs on one directory


def test_the_second_run_on_a_directory_is_refused_until_the_first_is_dead(
    streets, recipe, tmp_path
):
    run = tmp_path / "run"
    process = start(streets, run, epochs=1000)
    wait_for(run / "history.json", process)
    with pytest.raises(BlockingIOError, match=rf"{run} is in use .*process {process.pid} on"):
        train(recipe, run)
    process.kill()
    process.wait()
    with pytest.raises(ValueError, match="another recipe .epochs is 4 here and 1000 there"):
        train(recipe, run)  # not for the lock any more, although loader workers may still live


def test_the_second_run_in_one_process_is_refused_too(recipe, tmp_path):
    first = steps(recipe, tmp_path)
    next(first)
    with pytest.raises(BlockingIOError, match=f"process {os.getpid()} on"):
        next(steps(recipe, tmp_path))
    first.close()
    next(steps(recipe, tmp_path))


# The same bits


@pytest.mark.parametrize("workers", [0, 1])
def test_the_result_does_not_depend_on_the_number_of_workers(recipe, whole, tmp_path, workers):
    recipe = Recipe(**{**vars(recipe), "workers": workers})
    train(recipe, tmp_path)
    assert not differences(whole[0], tmp_path)


def test_every_checkpoint_holds_seed_recipe_and_versions(whole):
    for name in ("last.pt", "previous.pt", "best.pt"):
        checkpoint = load_checkpoint(whole[0] / name)
        assert checkpoint["recipe"]["seed"] == 0
        assert set(checkpoint["recipe"]) == set(Recipe.__dataclass_fields__)
        assert checkpoint["versions"] == {
            "torch": str(torch.__version__),
            "torchvision": torchvision.__version__,
            "numpy": numpy.__version__,
            "python": sys.version.split()[0],
        }
