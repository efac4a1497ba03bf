"""label.ipynb as a new user goes through it: twenty photographs, labelled with real pointer events.

    python -m tests.stress.label_camvid data/camvid --record docs/labeling-run.json

Frames of two of CamVid's videos go into a folder without masks. The notebook runs in JupyterLab
under Chromium. An oracle, which knows CamVid's labels, presses A for the proposal, chooses classes
by their keys and clicks segments, or with Shift the network's regions, until 95 % of a photograph
are right or `--most` fills are done. After the first photographs the notebook trains, and the
oracle goes on with the new network's proposals. At the end the networks are evaluated on the third
video, of which no frame was labelled, at full resolution.
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

from data_io.image_io import read_grey, read_image
from dataset import Cityscapes
from engine import evaluate, make_loader
from inference import load_model
from labeling.oracle import fills
from labeling.proposals import enlarge, propose, regions, segments, view_of
from runtime.console import command_line
from runtime.machine import ROOT, write_record
from studies.labels_report import CLASSES
from tests.jupyterlab import Labeler, chromium, jupyterlab, open_notebook
from tests.processes import wait_for
from utils import CITYSCAPES, metrics

KEYS = [f"Digit{(i + 1) % 10}" if i < 10 else f"Shift+Digit{(i + 1) % 10}" for i in range(19)]
UNSEEN = "0006r0"
VOID = 255  # in the masks that the notebook makes, where nothing is labelled
WIDGET, TRAIN, CURVES, AGAIN = 5, 7, 9, 12  # code cells of label.ipynb, from 0


def choose_photographs(camvid: Path, count: int) -> dict[str, tuple[str, str]]:
    """Frames of two videos, evenly in time: their images and label files by a name."""
    scenes = Cityscapes(camvid, hold_out=[UNSEEN])
    chosen = [i * len(scenes) // count for i in range(count)]
    frames = [(str(scenes.images[i]), str(scenes.targets[i])) for i in chosen]
    return {"-".join(Path(image).stem.split("_")[:3:2]): (image, mask) for image, mask in frames}


class Oracle(Labeler):
    """Labels what the widget of a page shows, and keeps count."""

    def __init__(self, page, root: Path, frames: dict[str, tuple[str, str]], most: int):
        super().__init__(page, root)
        self.frames, self.most, self.rows = frames, most, []

    def next_photograph(self, after: str) -> str:
        """Wait until the widget shows another photograph, and its proposal; its name."""
        wait_for(lambda: self.state("photo") not in (None, "", after), 120, "the next photograph")
        self.ready(self.state("photo"))
        return self.state("photo")

    def label(self, name: str, model) -> None:
        """Label the open photograph, and go to the next."""
        start, stem, seconds = time.monotonic(), Path(name).stem, []
        image, target = self.frames[stem]
        truth = read_grey(target).numpy()
        labelled = np.isin(truth, CITYSCAPES.ids)
        view = view_of(read_image(image))
        found = segments(view)
        proposal = propose(model, view, found, CITYSCAPES, VOID)
        maps = [enlarge(each, truth.shape) for each in (found, regions(proposal))]

        def right(mask: np.ndarray) -> float:
            return round(float((mask == truth)[labelled].mean()), 4)

        self.widget.focus()
        self.keys("f", "a")
        self.saved()
        mask = self.mask(stem)
        row = {"photograph": name, "proposed_right": right(mask)}
        is_open = float((mask == VOID)[labelled].mean())
        row["proposed_wrong"] = round(1 - row["proposed_right"] - is_open, 4)
        wanted = fills(maps, truth, mask, CITYSCAPES.ids)  # which fills `mask`, too
        while len(seconds) < self.most and right(mask) < 0.95:
            if (best := next(wanted, None)) is None:
                break
            where, i = best
            seconds.append(self.fill(where, i, region=len(np.unique(maps[0][where])) > 1))
        row |= {"fills": len(seconds), "right": right(self.mask(stem))}
        row["seconds"] = round(time.monotonic() - start, 1)
        row["seconds_a_fill"] = round(statistics.median(seconds), 3) if seconds else 0
        self.rows.append(row)
        print(json.dumps(row), flush=True)
        self.keys("Enter")

    def fill(self, where: np.ndarray, i: int, region: bool) -> float:
        """Click the innermost pixel of an area; returns the seconds until it is on disk."""
        depth = distance_transform_edt(np.pad(where, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        place = self.at((x + 0.5, y + 0.5))
        self.keys(KEYS[CITYSCAPES.ids.index(i)])
        start = time.monotonic()
        if region:
            self.page.keyboard.down("Shift")
        self.page.mouse.click(*place)
        if region:
            self.page.keyboard.up("Shift")
        self.saved()
        return time.monotonic() - start


def run_cells(page, first: int, last: int, seconds: float = 1800) -> None:
    """Run code cells, by their number from 0, one after the other, and wait for each."""
    for number in range(first, last + 1):
        cell = page.locator(".jp-CodeCell").nth(number)
        cell.locator(".jp-InputArea-editor").click()
        page.keyboard.press("Shift+Enter")
        prompt = cell.locator(".jp-InputPrompt")
        has_run = lambda prompt=prompt: prompt.inner_text()[1:2].isdigit()  # noqa: E731
        wait_for(has_run, seconds, f"cell {number}")
        error = cell.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']")
        assert error.count() == 0, error.first.inner_text()


def write_notebook(folder: Path, epochs: int | None) -> None:
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
    """mIoU over CamVid's classes, and accuracy, on the video of which nothing was labelled."""
    frames = Cityscapes(camvid, cities=[UNSEEN])
    _, confusion = evaluate(load_model(checkpoint), make_loader(frames, 8, False))
    found = metrics(confusion, CITYSCAPES)
    miou = statistics.mean(found["iou"][name] for name in CLASSES)
    return {"mIoU": round(miou, 4), "accuracy": round(found["val_accuracy"], 4)}


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("camvid", type=Path, help="made by prepare.camvid")
    parser.add_argument("--photographs", type=int, default=20)
    parser.add_argument("--first", type=int, default=6, help="labelled before the training")
    parser.add_argument("--most", type=int, default=100, help="fills of a photograph")
    parser.add_argument("--epochs", type=int, help="of each training; default: the notebook's")
    parser.add_argument("--record", type=Path, required=True, help="a JSON file for the result")
    args = parser.parse_args()
    folder, start = Path(tempfile.mkdtemp(prefix="label-")), time.monotonic()
    (folder / "photographs").mkdir()
    frames = choose_photographs(args.camvid, args.photographs)
    for name, (image, _) in frames.items():
        shutil.copy(image, folder / "photographs" / f"{name}.png")
    write_notebook(folder, args.epochs)
    with jupyterlab(folder) as address, chromium() as browser:
        page = open_notebook(browser, address, "label.ipynb", run=False)
        run_cells(page, 0, WIDGET)
        checkpoint, name = folder / "checkpoints" / "streets-512.pt", ""
        oracle = Oracle(page, folder / "data", frames, args.most)
        for count in range(args.photographs):
            if count == args.first:
                run_cells(page, TRAIN, AGAIN)
                checkpoint, name = folder / "runs" / "1" / "best.pt", ""
            name = oracle.next_photograph(name)
            oracle.label(name, load_model(checkpoint))
        run_cells(page, TRAIN, CURVES)
    trained = {"Streets": folder / "checkpoints" / "streets-512.pt"}
    trained |= {f"{args.first} photographs": folder / "runs" / "1" / "best.pt"}
    trained |= {f"{args.photographs} photographs": folder / "runs" / "2" / "best.pt"}
    found = {name: measure(path, args.camvid) for name, path in trained.items()}
    minutes = round((time.monotonic() - start) / 60, 1)
    result = {"minutes": minutes, "unseen video": found, "photographs": oracle.rows}
    write_record(args.record, "tests.stress.label_camvid", result)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
