"""Runs that are killed, interrupted, damaged, starved of disk: nothing is lost, no bit differs."""

import contextlib
import gc
import os
import platform
import random
import shutil
import signal
from functools import partial
from importlib import import_module
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import yaml
from jupyter_client.manager import start_new_kernel
from papermill import iorw, parameterize

from engine import Loss, Recipe, Stopped, fit, make_loaders, make_model
from runtime.checkpoint import load_checkpoint
from tests.processes import wait_for, without_rights_of_root
from tests.samples import cut, flip_bit
from tests.stress import soak
from tests.stress.kill_test import FIELDS, ROOT, finish, kill_to_the_end, start
from tests.training import differences
from tests.training import run as train

resource = pytest.importorskip("resource")  # not on Windows
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def heeded():
    """Ctrl-C, which a shell has its background jobs ignore."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="module")
def recipe(streets) -> Recipe:
    """What `tests.stress.kill_test` trains, without loader workers."""
    fields = {**FIELDS, "data_root": str(streets), "workers": 0}
    return Recipe.from_file(ROOT / "recipes/streets.yaml", **fields)


def steps(recipe: Recipe, run: Path):
    return fit(make_model(recipe), *make_loaders(recipe), recipe, run)


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory) -> Path:
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    train(recipe, folder)
    return folder


@pytest.fixture(scope="module")
def half(recipe, tmp_path_factory) -> Path:
    """The same run, stopped after two epochs: copy it."""
    folder = tmp_path_factory.mktemp("half")
    train(recipe, folder, 2)
    return folder


def test_a_run_killed_at_random_instants_ends_as_if_it_had_not_been(streets, whole, tmp_path):
    lengths = [finish(start(streets, tmp_path / "alone"), tmp_path / "alone")]
    assert not differences(whole, tmp_path / "alone")  # nor do its two workers change a bit
    seed = random.randrange(10**6)
    chance, kills = random.Random(seed), 0
    for attempt in range(20):
        run = tmp_path / str(attempt)
        kills += kill_to_the_end(streets, run, lengths, chance, most=3 - kills)[0]
        assert not differences(whole, run), f"seed {seed}, after {kills} kills"
        if kills >= 3:
            break
    assert kills >= 3, f"seed {seed}"


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
        assert not differences(whole, run), run.name
        assert not list(run.glob("*.part"))


@pytest.mark.parametrize("damage", [flip_bit, *(partial(cut, keep=n) for n in (-99, 0.5, 0))])
def test_of_a_damaged_state_the_one_before_is_used(recipe, whole, half, tmp_path, capsys, damage):
    shutil.copytree(half, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "last.pt")
    damaged = (tmp_path / "last.pt").read_bytes()
    train(recipe, tmp_path)
    said = capsys.readouterr().err
    assert str(tmp_path / "last.pt") in said and str(tmp_path / "previous.pt") in said
    assert (tmp_path / "damaged.pt").read_bytes() == damaged
    assert not differences(whole, tmp_path)
    damage(tmp_path / "last.pt")
    damage(tmp_path / "previous.pt")
    with pytest.raises(ValueError, match=r"last\.pt.*previous\.pt.*delete"):
        train(recipe, tmp_path)  # and does not start again by itself
    assert (tmp_path / "last.pt").exists()


@contextlib.contextmanager
def limited_files(_: Path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        yield "File too large"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def read_only(run: Path):
    run.chmod(0o555)
    try:
        with without_rights_of_root():
            yield "Permission denied"
    finally:
        run.chmod(0o755)


@pytest.mark.parametrize("trouble", [limited_files, read_only])
def test_what_cannot_be_written_leaves_the_old_state_and_says_so(recipe, whole, tmp_path, trouble):
    run, running = tmp_path, steps(recipe, tmp_path)
    next(running)
    before = (run / "last.pt").read_bytes()
    with trouble(run) as reason:
        with pytest.raises(OSError, match=rf"{run}/.*\.pt .*{reason}.*unharmed"):
            list(running)
        assert (run / "last.pt").read_bytes() == before
        assert not list(run.glob("*.part"))
        with pytest.raises(OSError, match=rf"{run}.*{reason}"):  # starting again fails too
            train(recipe, run)
        assert (run / "last.pt").read_bytes() == before
    train(recipe, run)
    assert not differences(whole, run)


STEP, MESSAGE = (Loss, "__call__"), (Connection, "_recv")


@pytest.mark.parametrize(
    ("workers", "where", "calls"),
    [
        pytest.param(0, STEP, 3, id="a step"),
        pytest.param(2, STEP, 3, id="a step, with workers"),
        pytest.param(2, STEP, 8, id="validation"),
        pytest.param(2, MESSAGE, 5, id="a worker's message"),
        pytest.param(2, MESSAGE, 9, id="a worker's handing over of a batch"),
    ],
)
def test_fit_survives_ctrl_c(recipe, whole, tmp_path, monkeypatch, capfd, workers, where, calls):
    call, counter, main = getattr(*where), count(1), os.getpid()

    def interrupted(self, first, *args, **options):
        if os.getpid() != main or next(counter) != calls:
            return call(self, first, *args, **options)
        if where == MESSAGE:
            call(self, first // 2, *args)  # of its bytes
        raise KeyboardInterrupt

    recipe = Recipe(**{**vars(recipe), "workers": workers})
    model, loaders = make_model(recipe), make_loaders(recipe)
    running = fit(model, *loaders, recipe, tmp_path)
    next(running)
    with monkeypatch.context() as patch:
        patch.setattr(*where, interrupted)
        with pytest.raises(Stopped, match="stopped after epoch 1 of"):
            next(running)
    assert "Traceback" not in capfd.readouterr().err  # of a worker
    assert len(load_checkpoint(tmp_path / "last.pt")["history"]) == 1
    assert len(list(fit(model, *loaders, recipe, tmp_path))) == recipe.epochs
    assert not differences(whole, tmp_path)


def test_ctrl_c_in_the_shell_stops_the_run_and_the_same_command_goes_on(streets, whole, tmp_path):
    run = tmp_path / "run"
    process = start(streets, run)
    wait_for((run / "history.json").exists)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the loader workers get it too
    assert process.wait() != 0
    said = run.with_suffix(".log").read_text()
    assert "stopped" in said and "Traceback" not in said
    assert len(load_checkpoint(run / "last.pt")["history"]) < FIELDS["epochs"]
    finish(start(streets, run), run)
    assert not differences(whole, run)


def test_an_interrupted_cell_of_the_notebook_goes_on_when_it_is_run_again(recipe, whole, tmp_path):
    run, path = tmp_path / "run", tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**vars(recipe), "workers": FIELDS["workers"]}))
    notebook = iorw.load_notebook_node(str(ROOT / "trainer.ipynb"))
    notebook = parameterize.parameterize_notebook(notebook, {"recipe": str(path), "run": str(run)})
    manager, client = start_new_kernel(kernel_name="python3", cwd=ROOT)

    def answer(request: str) -> dict:
        while (message := client.get_shell_msg(timeout=300))["parent_header"]["msg_id"] != request:
            pass
        return message["content"]

    try:
        for cell in notebook.cells:
            if cell.cell_type == "code" and "fit(" in cell.source:
                break
            if cell.cell_type == "code":
                assert answer(client.execute(cell.source))["status"] == "ok", cell.source
        request = client.execute(cell.source)
        wait_for((run / "history.json").exists)
        manager.interrupt_kernel()
        told = answer(request)
        assert told["ename"] in ("Stopped", "KeyboardInterrupt")  # the latter while it draws
        if told["ename"] == "Stopped":
            assert len(told["traceback"]) == 1 and "run the same again" in told["traceback"][0]
        assert len(load_checkpoint(run / "last.pt")["history"]) < FIELDS["epochs"]
        assert answer(client.execute(cell.source))["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert not differences(whole, run)


def test_a_second_run_in_a_directory_is_refused_until_the_first_is_dead(streets, recipe, tmp_path):
    run = tmp_path / "run"
    process = start(streets, run, epochs=1000)
    wait_for((run / "history.json").exists)
    with pytest.raises(BlockingIOError, match=rf"{run} .*process {process.pid} on"):
        train(recipe, run)
    process.kill()
    process.wait()
    with pytest.raises(ValueError, match="another recipe"):
        train(recipe, run)  # not for the lock any more, although loader workers may still live
    first = steps(recipe, tmp_path / "in one process")
    next(first)
    with pytest.raises(BlockingIOError, match=f"process {os.getpid()} on"):
        next(steps(recipe, tmp_path / "in one process"))
    first.close()
    next(steps(recipe, tmp_path / "in one process"))


def test_every_checkpoint_holds_seed_recipe_and_versions(whole):
    names = "numpy", "torch", "torchvision"
    versions = {name: str(import_module(name).__version__) for name in names}
    versions["python"] = platform.python_version()
    for name in ("last.pt", "previous.pt", "best.pt"):
        checkpoint = load_checkpoint(whole / name)
        assert Recipe(**checkpoint["recipe"]).seed == 0
        assert checkpoint["versions"].items() >= versions.items()


def test_a_soak_counts_steps_and_sees_the_workers_and_the_cache(tmp_path):
    gc.collect()  # or workers that other tests left may end meanwhile
    found = soak.soak(tmp_path, steps=6, scenes=4)
    assert (found["steps"], found["epochs"]) == (6, 3)
    # At least its own four: other tests of this process may have left workers.
    assert len(found["MB of its workers"]) >= 4 and len(found["handles"]) >= 5
    assert found["files in the cache"] == 14 and found["cache unchanged"]
