"""The notebooks in their real kernel, from top to bottom (of studies.ipynb: in test_study.py)."""

import ast
import json
from pathlib import Path

import nbformat
import pytest
import yaml

from engine import Recipe
from runtime.checkpoint import load_checkpoint
from tests.processes import python

SMALL = {
    **{"downscale": 1, "width": 4, "depth": 2, "epochs": 2},
    **{"batch_size": 4, "workers": 0, "loss": "cross_entropy"},
}


def papermill(name: str, folder: Path, /, status: int = 0, **parameters) -> nbformat.NotebookNode:
    """Run a notebook with parameters; it is kept in the folder."""
    given = [part for name, value in parameters.items() for part in ("-p", name, value)]
    python("-m", "papermill", "--no-progress-bar", name, folder / name, *given, status=status)
    return nbformat.read(folder / name, as_version=4)


def outputs(notebook: nbformat.NotebookNode) -> str:
    return json.dumps([cell.get("outputs", []) for cell in notebook.cells])


@pytest.fixture(scope="module")
def trained(streets, tmp_path_factory) -> tuple[Path, nbformat.NotebookNode]:
    """The trainer's run directory and its executed notebook."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = folder / "small.yaml"
    recipe.write_text(yaml.safe_dump({**SMALL, "data_root": "no/such/root"}))
    options = {"recipe": recipe, "run": folder / "small", "data_root": streets, "lr": 0.002}
    return folder / "small", papermill("trainer.ipynb", folder, **options)


@pytest.mark.parametrize(
    ("name", "parameter"), [("trainer", "data_root"), ("trainer", "recipe"), ("test", "checkpoint")]
)
@pytest.mark.slow
def test_bad_input_ends_a_notebook_with_one_clear_error(tmp_path, name, parameter):
    notebook = papermill(f"{name}.ipynb", tmp_path, status=1, **{parameter: "no/such/path"})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    (error,) = (output for output in outputs if output.output_type == "error")
    assert error.ename in ("ValueError", "FileNotFoundError") and "no/such/path" in error.evalue
    assert outputs[-1] is error


@pytest.mark.slow
def test_the_trainer_leaves_what_its_recipe_says_and_no_progress_bars(trained, streets):
    run, notebook = trained
    assert {path.name for path in run.iterdir()} >= {
        "best.pt", "last.pt", "previous.pt", "history.json", "lock",
        "metrics.png", "results.png", "classious.png",
    }  # fmt: skip
    assert not [*run.glob("*.part"), *run.glob("damaged.pt")]
    assert len(json.loads((run / "history.json").read_text())) == 2
    assert outputs(notebook).count("image/png") >= 5
    recipe = load_checkpoint(run / "last.pt")["recipe"]  # of its file and parameters
    assert {name: recipe[name] for name in SMALL} == SMALL
    assert (recipe["data_root"], recipe["lr"]) == (str(streets), 0.002)
    assert recipe["schedule"] == Recipe().schedule  # in neither: the default
    assert "%|" not in outputs(notebook) and "it/s" not in outputs(notebook)
    empty = {"text/plain": ""}
    counts = [sum(o.get("data") == empty for o in c.get("outputs", [])) for c in notebook.cells]
    assert max(counts) == 1


@pytest.mark.slow
def test_the_test_notebook_and_the_shell_evaluate_what_the_trainer_trained(trained, tmp_path):
    run, _ = trained
    options = {"checkpoint": run / "best.pt", "out": tmp_path / "out", "submission": "val"}
    notebook = papermill("test.ipynb", tmp_path, workers=0, **options)
    assert outputs(notebook).count("image/png") == 4
    assert len(list((tmp_path / "out" / "val").glob("*_pred.png"))) == 5
    done = python("evaluate.py", run / "best.pt", "--out", tmp_path / "shell")
    best = max(record["mIoU"] for record in json.loads((run / "history.json").read_text()))
    for folder in ("out", "shell"):
        found = json.loads((tmp_path / folder / "metrics.json").read_text())
        assert set(found) >= {"training resolution", "full resolution"}
        assert found["training resolution"]["mIoU"] == pytest.approx(best)
    assert f"{found['full resolution']['mIoU']:.2%}" in done.stdout
    figures = {path.name for path in (tmp_path / "shell").glob("*.png")}
    assert figures >= {"metrics.png", "classious.png", "confusion.png", "results.png"}


@pytest.mark.slow
def test_the_labelling_notebook_labels_trains_and_looks_at_the_rest(tmp_path):
    pytest.importorskip("anywidget")
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump({**SMALL, "crop": [64, 64]}))
    folders = {"data_root": tmp_path / "set", "runs": tmp_path / "runs"}
    options = {"recipe": recipe, "checkpoint": "checkpoints/streets.pt", "epochs": 2}
    notebook = papermill("label.ipynb", tmp_path, **folders, **options)
    assert outputs(notebook).count("of its pixels are right") == 5
    assert outputs(notebook).count("image/png") == 3
    assert len(json.loads((tmp_path / "runs" / "1" / "history.json").read_text())) == 2
    assert len(list((tmp_path / "set-drawn").rglob("*_labelIds.png"))) == 5  # apart from own ones


def assigned(cell: nbformat.NotebookNode) -> set[str]:
    nodes = ast.walk(ast.parse(cell.source.replace("%matplotlib inline", "")))
    names = (node for node in nodes if isinstance(node, ast.Name))
    return {node.id for node in names if isinstance(node.ctx, ast.Store)}


@pytest.mark.parametrize("name", ["trainer", "test", "studies", "label"])
def test_a_committed_notebook_was_run_as_it_is_and_names_no_machine(name):
    notebook = nbformat.read(f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert "widgets" not in notebook.metadata  # of which an old widget.js would be shown
    images = [c for c in code if "image/png" in json.dumps(c.outputs)]
    assert images and all(cell.metadata.get("alt") for cell in images)
    text = json.dumps(notebook)
    for other in (str(Path.cwd()), "/home/", "/root/", '"output_type": "error"'):
        assert other not in text
    (first,) = (cell for cell in code if "parameters" in cell.metadata.get("tags", []))
    for cell in code:  # none assigns to a setting
        assert cell is first or not assigned(cell) & assigned(first)
    found = notebook.metadata
    assert found.kernelspec.display_name == "Python 3 (ipykernel)"  # else opening it is a change
    # By these nbconvert knows that it makes a script.
    language = found.language_info
    assert language.file_extension == ".py" and language.nbconvert_exporter == "python"
