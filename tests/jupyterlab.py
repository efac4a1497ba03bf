"""JupyterLab with a notebook in headless Chromium, for tests with real pointer and key events."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import nbformat
import numpy as np
import pytest
from PIL import Image

from tests.processes import ROOT, wait_for

CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync --no-first-run"
).split()


@contextmanager
def chromium(*flags: str) -> Iterator:
    """Playwright's browser, with further flags; skips the test where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    options = {"executable_path": CHROMIUM, "args": [*FLAGS, *flags]}
    with api.sync_playwright() as playwright, playwright.chromium.launch(**options) as browser:
        yield browser


@contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """A server for the notebooks of a folder; its address."""
    home = folder / "jupyter-home"  # no settings of the user, and none left behind
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(home)}
    env |= {"JUPYTER_RUNTIME_DIR": str(home / "runtime"), "JUPYTERLAB_SETTINGS_DIR": str(home)}
    env |= {"JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0"]
    command += ["--ServerApp.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder}"]
    command.append("--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate")
    command.append("--LabApp.news_url=None")
    said, address = folder / "server.log", r"http://(?:localhost|127\.0\.0\.1):(\d+)/"
    with open(said, "w") as log:
        server = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
    try:
        wait_for(lambda: server.poll() or re.search(address, said.read_text()), what=said)
        assert server.poll() is None, said.read_text()[-2000:]
        yield f"http://127.0.0.1:{re.search(address, said.read_text())[1]}"
    finally:
        server.terminate()
        server.wait(60)  # on a busy machine


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, path)


def open_notebook(browser, address: str, name: str):
    """A page with a notebook, all of its cells run."""
    page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
    page.set_default_timeout(60_000)  # on a busy machine
    page.goto(f"{address}/doc/tree/{name}")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    page.locator(".jp-NotebookPanel-toolbar >> text=Python 3").first.wait_for()
    run_all(page)
    return page


def run_all(page) -> None:
    page.locator(".jp-Cell .jp-InputArea-editor").first.click()
    page.keyboard.press("Escape")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()


class Labeler:
    """The labelling widget on a page, and the data set that it writes."""

    def __init__(self, page, root: Path):
        self.page, self.root = page, root
        self.widget = page.locator(".labeler").last
        self.canvas = self.widget.locator("canvas")

    def ready(self, name: str) -> None:
        wait_for(lambda: self.state("photo") == name and self.state("ready") == "true", 60, name)

    def show(self, name: str) -> None:
        """Open a photograph, also the one that is open; all that was asked before is answered."""
        self.widget.evaluate("(widget) => delete widget.dataset.opened")
        self.widget.locator(".photo", has_text=name).click()
        wait_for(lambda: self.state("opened"), 60, name)
        self.ready(name)

    def state(self, name: str) -> str:
        return self.widget.get_attribute(f"data-{name}")

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def view(self) -> tuple[float, float, float]:
        time.sleep(0.2)
        self.page.evaluate("new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
        return tuple(map(float, self.canvas.get_attribute("data-view").split()))

    def at(self, place: tuple[float, float]) -> tuple[int, int]:
        """Where a place of the photograph is on the page."""
        scale, x, y = self.view()
        box = self.canvas.bounding_box()
        return round(box["x"] + x + place[0] * scale), round(box["y"] + y + place[1] * scale)

    def drag(self, *places: tuple[float, float], saved: bool = True) -> list[tuple[float, float]]:
        """Press at the first place of the photograph and move over the others; the real places."""
        scale, x, y = self.view()
        box = self.canvas.bounding_box()
        points = [(box["x"] + x + px * scale, box["y"] + y + py * scale) for px, py in places]
        points = [(round(px), round(py)) for px, py in points]
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*point)
        self.page.mouse.up()
        if saved:
            self.saved()
        return [((px - box["x"] - x) / scale, (py - box["y"] - y) / scale) for px, py in points]

    def saved(self) -> None:
        wait_for(lambda: self.state("saved") == "true", 30, "the stroke on disk")

    def mask(self, name: str) -> np.ndarray:
        """The labels on disk: (H, W) uint8, or 255 alone before the first stroke is saved."""
        paths = [*self.root.glob(f"gtFine/*/*/*_{name}_gtFine_labelIds.png")]
        return np.array(Image.open(*paths) if paths else 255)
