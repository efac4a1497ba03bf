"""Both notebooks, executed from top to bottom with small parameters, in their real kernel."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

SMALL = {"downscale": 1, "width": 4, "depth": 2, "epochs": 2, "workers": 0, "batch_size": 4}


def papermill(notebook: str, executed: Path, /, *args, **parameters) -> nbformat.NotebookNode:
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--no-progress-bar",
        notebook,
        str(executed),
        *args,
    ]
    for name, value in parameters.items():
        command += ["-p", name, str(value)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(executed, as_version=4)


def outputs(notebook: nbformat.NotebookNode) -> str:
    return json.dumps([cell.get("outputs", []) for cell in notebook.cells])


@pytest.fixture(scope="module")
def trained(streets, tmp_path_factory) -> tuple[Path, nbformat.NotebookNode]:
    run = tmp_path_factory.mktemp("runs") / "small"
    out = run.parent / "trainer.ipynb"
    return run, papermill("trainer.ipynb", out, run=run, data_root=streets, **SMALL)


def test_the_trainer_leaves_checkpoints_history_and_figures(trained):
    run, notebook = trained
    assert {path.name for path in run.iterdir()} == {
        "best.pt", "last.pt", "previous.pt", "history.json", "lock",
        "metrics.png", "results.png", "classious.png",
    }  # fmt: skip
    assert len(json.loads((run / "history.json").read_text())) == 2
    assert outputs(notebook).count("image/png") >= 5


def test_the_test_notebook_judges_what_the_trainer_trained(trained, streets, tmp_path):
    run, _ = trained
    notebook = papermill(
        "test.ipynb",
        tmp_path / "test.ipynb",
        checkpoint=run / "best.pt",
        out=tmp_path / "out",
        workers=0,
    )
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    best = max(record["mIoU"] for record in json.loads((run / "history.json").read_text()))
    assert found["training resolution"]["mIoU"] == pytest.approx(best)
    assert set(found) == {"training resolution", "full resolution"}
    assert outputs(notebook).count("image/png") == 4


def test_a_recipe_file_feeds_the_trainer(streets, tmp_path):
    recipe = yaml.safe_load(Path("recipes/cityscapes.yaml").read_text())
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**recipe, **SMALL, "data_root": str(streets), "epochs": 1}))
    papermill("trainer.ipynb", tmp_path / "out.ipynb", "-f", str(path), run=tmp_path / "run")
    assert len(json.loads((tmp_path / "run" / "history.json").read_text())) == 1


@pytest.mark.parametrize("name", ["trainer.ipynb", "test.ipynb"])
def test_the_committed_notebook_was_run_from_top_to_bottom_and_names_no_machine(name):
    notebook = nbformat.read(name, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    text = json.dumps(notebook)
    assert str(Path.cwd()) not in text
    assert "/home/" not in text
    assert "/root/" not in text
    assert '"output_type": "error"' not in text


def test_the_trainers_settings_are_those_of_the_streets_recipe():
    notebook = nbformat.read("trainer.ipynb", as_version=4)
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    settings = {}
    exec(cell.source, settings)  # noqa: S102 (a cell of ours)
    recipe = yaml.safe_load(Path("recipes/streets.yaml").read_text())
    assert {name: settings[name] for name in recipe if name != "data_root"} == {
        name: value for name, value in recipe.items() if name != "data_root"
    }
