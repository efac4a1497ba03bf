"""label.ipynb as a new user goes through it: twenty photographs, labelled with real pointer events.

    python -m tests.stress.label_camvid shared/camvid/CamVid --record docs/labeling-run.json

Frames of two of CamVid's videos go into a folder without masks. The notebook runs in JupyterLab
under Chromium; an oracle, which knows CamVid's labels, presses A for the proposal, chooses classes
by their keys and clicks segments, or with Shift what the network takes for one thing, until 95 % of
a photograph are right or `--most` fills are done. After the first photographs the notebook trains,
and the oracle goes on with the new network's proposals. At the end the networks are evaluated on
the third video, of which no frame was labelled.
"""

import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import nbformat
import numpy as np
from scipy.ndimage import distance_transform_edt

from data_io.image_io import read_image
from dataset import Cityscapes
from engine import make_loader
from engine.loop import evaluate
from inference import load_model
from labeling.oracle import fills
from labeling.proposals import enlarge, propose, regions, segments, view_of
from prepare.camvid import IDS, convert
from prepare.masks import Form, read_values, translate
from runtime.console import command_line
from runtime.machine import ROOT, write_record
from tests.jupyterlab import Labeler, chromium, jupyterlab, open_notebook
from tests.processes import wait_for
from utils import CITYSCAPES, metrics

KEYS = [f"Digit{(i + 1) % 10}" if i < 10 else f"Shift+Digit{(i + 1) % 10}" for i in range(19)]
UNSEEN = "0006R0"


def choose_photographs(camvid: Path, count: int) -> list[Path]:
    """Frames of two videos, evenly in time."""
    frames = [p for p in sorted((camvid / "train").glob("*.png")) if UNSEEN not in p.name]
    return [frames[i * len(frames) // count] for i in range(count)]


class Oracle(Labeler):
    """Labels what the widget of a page shows, and keeps count."""

    def __init__(self, page, folder: Path, camvid: Path, most: int):
        super().__init__(page, folder / "data")
        self.photographs, self.camvid, self.most = folder / "photographs", camvid, most
        self.rows = []

    def wait_ready(self, but: str = "") -> str:
        def is_ready() -> bool:
            return self.state("photo") not in (None, "", but) and self.state("ready") == "true"

        wait_for(is_ready, 120, "a photograph in the widget")
        return self.state("photo")

    def label(self, name: str, model) -> None:
        """Label the open photograph, and go to the next."""
        start = time.monotonic()
        truth = translate(read_values(self.camvid / "trainannot" / name, Form()), IDS)
        labelled = np.isin(truth, CITYSCAPES.ids)
        view = view_of(read_image(self.photographs / name))
        found = segments(view)
        proposal = propose(model, view, found, CITYSCAPES, 255)
        maps = [enlarge(each, truth.shape) for each in (found, regions(proposal))]

        def right(mask: np.ndarray) -> float:
            return float((mask == truth)[labelled].mean())

        stem = Path(name).stem.replace("_", "-")
        self.widget.focus()
        self.keys("f", "a")
        self.saved()
        mask, seconds = self.mask(stem), []
        proposed = {
            "proposed_right": right(mask),
            "proposed_wrong": float(((mask != truth) & (mask != 255))[labelled].mean()),
        }
        wanted = fills(maps, truth, mask, CITYSCAPES.ids)  # which fills `mask`, too
        while len(seconds) < self.most and right(mask) < 0.95:
            if (next_fill := next(wanted, None)) is None:
                break
            seconds.append(self.fill(*next_fill, len(np.unique(maps[0][next_fill[0]])) > 1))
        self.rows.append(
            {"photograph": name, "fills": len(seconds), "right": right(self.mask(stem)), **proposed}
            | {"seconds": time.monotonic() - start}
            | {"seconds_a_fill": statistics.median(seconds) if seconds else 0}
        )
        print(json.dumps(self.rows[-1]), flush=True)
        self.keys("Enter")

    def fill(self, where: np.ndarray, i: int, region: bool) -> float:
        """Click the innermost pixel of an area; returns the seconds until it is on disk."""
        depth = distance_transform_edt(np.pad(where, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        scale, left, top = self.view()
        box = self.canvas.bounding_box()
        self.keys(KEYS[CITYSCAPES.ids.index(i)])
        start = time.monotonic()
        if region:
            self.page.keyboard.down("Shift")
        self.page.mouse.click(
            box["x"] + left + (x + 0.5) * scale, box["y"] + top + (y + 0.5) * scale
        )
        if region:
            self.page.keyboard.up("Shift")
        self.saved()
        return time.monotonic() - start


def run_cells(page, first: int, last: int, seconds: float) -> None:
    """Run code cells, by their number from 0, one after the other, and wait for each."""
    cells = page.locator(".jp-CodeCell")
    for number in range(first, last + 1):
        cell = cells.nth(number)
        cell.locator(".jp-InputArea-editor").click()
        page.keyboard.press("Shift+Enter")
        prompt = cell.locator(".jp-InputPrompt")
        wait_for(
            lambda prompt=prompt: prompt.inner_text()[1:2].isdigit(), seconds, f"cell {number}"
        )
        error = cell.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']")
        assert error.count() == 0, error.first.inner_text()


def notebook_of(folder: Path, epochs: int | None) -> None:
    """label.ipynb beside the code that it imports, with other settings."""
    notebook = nbformat.read(ROOT / "label.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    settings = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    paths = {"photographs": "photographs", "data_root": "data", "runs": "runs"}
    lines = [f'{name} = r"{folder / path}"' for name, path in paths.items()]
    settings.source += "\n" + "\n".join([*lines, f"epochs = {epochs}"])
    nbformat.write(notebook, folder / "label.ipynb")
    for path in ROOT.iterdir():  # the notebook wants to start in the repository
        if path.name not in ("label.ipynb", "data", "runs") and not path.name.startswith("."):
            (folder / path.name).symlink_to(path)


def measure(checkpoint: Path, camvid: Path) -> dict:
    """mIoU and accuracy on the video of which nothing was labelled, at full resolution."""
    model = load_model(checkpoint)
    frames = Cityscapes(camvid, downscale_labels=False, cities=[UNSEEN.lower()])
    _, confusion = evaluate(model, make_loader(frames, 8, False, 0))
    found = metrics(confusion, CITYSCAPES)
    return {"mIoU": found["mIoU"], "accuracy": found["val_accuracy"]}


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("camvid", type=Path, help="CamVid, as the SegNet tutorial has it")
    parser.add_argument("--photographs", type=int, default=20)
    parser.add_argument("--first", type=int, default=6, help="labelled before the training")
    parser.add_argument("--most", type=int, default=100, help="fills of a photograph")
    parser.add_argument("--epochs", type=int, help="of each training; default: the notebook's")
    parser.add_argument("--record", type=Path, help="a JSON file for the result")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="label-"))
    (folder / "photographs").mkdir()
    for path in choose_photographs(args.camvid, args.photographs):
        shutil.copy(path, folder / "photographs")
    notebook_of(folder, args.epochs)
    start = time.monotonic()
    with jupyterlab(folder) as address, chromium() as browser:
        page = open_notebook(browser, address, "label.ipynb", run=False)
        oracle = Oracle(page, folder, args.camvid, args.most)
        checkpoints, name = [folder / "checkpoints" / "streets-512.pt"], ""
        run_cells(page, 0, 4, 600)  # to the widget
        for count in range(args.photographs):
            if count == args.first:
                run_cells(page, 6, 11, 1800)  # the training, and the widget again
                checkpoints.append(folder / "runs" / "1" / "best.pt")
            name = oracle.wait_ready(name)
            oracle.label(name, load_model(checkpoints[-1]))
        run_cells(page, 6, 8, 1800)
        checkpoints.append(folder / "runs" / "2" / "best.pt")
    convert(args.camvid, folder / "camvid")
    names = "streets", f"{args.first} photographs", f"{args.photographs} photographs"
    found = [measure(path, folder / "camvid") for path in checkpoints]
    result = {"minutes": (time.monotonic() - start) / 60, "photographs": oracle.rows}
    result["unseen video"] = dict(zip(names, found, strict=True))
    write_record(args.record or folder / "record.json", "tests.stress.label_camvid", result)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
