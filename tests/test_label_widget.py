"""The labelling widget in JupyterLab under Chromium, with real pointer and key events.

What is compared is the label file on disk, to the pixel, with shapes computed here anew.
"""

import io
import os
import signal
import time

import numpy as np
import pytest
from jupyterlab import Labeler, chromium, jupyterlab, open_notebook, run_all, write_notebook
from matplotlib.path import Path as Outline
from PIL import Image

from data_io.image_io import read_image
from labeling.proposals import segments, view_of
from streets import draw_tree, scene_paths
from tests.processes import wait_for
from tests.samples import turned

pytestmark = [pytest.mark.browser, pytest.mark.slow]
NAMES = ["road", "car", "sky", *(f"class {i}" for i in range(4, 13))]
START = f"""
import os, time, torch
from labeling.opening import open_session
from labeling.widget import LabelWidget
from model import UNet
class SlowWidget(LabelWidget):
    def _compute(self, *args):
        while os.path.exists("wait"):
            time.sleep(0.1)
        return super()._compute(*args)
open("pid", "w").write(str(os.getpid()))
session = open_session("photos", "set", {NAMES})
torch.manual_seed(0)  # of a network that is sure of nothing, so that no proposal covers a.png
SlowWidget(session, UNet(num_classes={len(NAMES)}, width=2, depth=1))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A drawn photograph, a turned one, and one of twelve megapixels."""
    folder = tmp_path_factory.mktemp("lab")
    draw_tree(folder / "streets", train=1, val=1, size=(512, 256), workers=1, quiet=True)
    (folder / "photos").mkdir()
    drawn, *_ = scene_paths(folder / "streets", "train", 0)
    image = Image.open(drawn)
    image.save(folder / "photos" / "a.png")
    image.crop((0, 0, 401, 255)).save(folder / "photos" / "b.jpg", exif=turned())
    image.resize((4000, 3000)).save(folder / "photos" / "c.jpg")
    write_notebook(folder / "n.ipynb", START, "import time; time.sleep(0)")
    return folder


@pytest.fixture(scope="module")
def bench(folder):
    with jupyterlab(folder) as address, chromium() as browser:
        bench = Labeler(open_notebook(browser, address, "n.ipynb"), folder / "set")
        bench.widget.wait_for()
        yield bench


@pytest.fixture(autouse=True)
def at_the_first(bench, request):
    """Each test begins with the first photograph, and without a label on it."""
    bench.show("a.png")
    bench.widget.get_by_label("size").fill("8")
    bench.widget.focus()
    for _ in range(20):
        bench.keys("Control+z")
    bench.show("a.png")  # when all of it is undone
    bench.widget.focus()
    bench.keys("z")


def brushed(shape: tuple[int, int], points: list, radius: float) -> np.ndarray:
    """The pixels whose centre is at most the radius away from a line through the points."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, dtype=bool)
    for a, b in zip(np.array(points)[:-1], np.array(points)[1:], strict=True):
        t = ((x - a[0]) * (b - a)[0] + (y - a[1]) * (b - a)[1]) / max(((b - a) ** 2).sum(), 1e-9)
        t = t.clip(0, 1)
        inside |= np.hypot(x - a[0] - t * (b - a)[0], y - a[1] - t * (b - a)[1]) <= radius
    return inside


def test_the_class_as_proposed_stays_at_the_next_photograph_and_waits_for_its_proposal(bench):
    wait, points = bench.root.parent / "wait", [(1000, 1000), (1500, 1200)]
    bench.keys("q")
    wait.touch()
    bench.page.locator(".labeler .photo", has_text="c.jpg").click()
    wait_for(lambda: bench.state("photo") == "c.jpg")
    bench.keys("b")
    bench.drag(*points)
    assert "there is no proposal yet" in bench.widget.locator(".error").inner_text()
    assert not bench.mask("c").shape  # no stroke was sent
    wait.unlink()
    bench.ready("c.jpg")
    bench.keys("b")
    inside = brushed((3000, 4000), bench.drag(*points), 8)
    mask = bench.mask("c")
    assert (mask[inside] < len(NAMES)).all() and (mask[~inside] == 255).all()
    bench.keys("Control+z", "1")
    wait_for(lambda: (bench.mask("c") == 255).all())


def test_brush_eraser_undo_and_redo_change_the_pixels_under_them_on_disk(bench):
    bench.keys("2", "b")
    points = bench.drag((100, 50), (180, 90), (90, 150))
    one = np.where(brushed((256, 512), points, 8), 1, 255)
    assert (bench.mask("a") == one).all()
    bench.keys("e", "[", "[")
    points = bench.drag((140, 60), (140, 120))
    two = np.where(brushed((256, 512), points, 4), 255, one)
    assert (bench.mask("a") == two).all()
    for key, expected in (("z", one), ("y", two), ("z", one), ("Shift+Z", two)):
        bench.keys(f"Control+{key}")
        wait_for(lambda expected=expected: (bench.mask("a") == expected).all(), what=key)


def test_a_polygon_zoomed_to_the_pixel_has_the_pixels_whose_centre_is_inside(bench):
    scale, *_ = bench.view()
    bench.page.mouse.move(*bench.at((300, 100)))
    for _ in range(12):
        bench.page.mouse.wheel(0, -120)
    wait_for(lambda: bench.view()[0] > 8 * scale)
    bench.keys("3", "p")
    wanted = [(290, 90), (312, 95), (300, 101), (309, 112), (288, 108)]
    corners = [bench.drag(corner)[0] for corner in wanted]
    bench.keys("Enter")
    bench.saved()
    centres = np.stack(np.meshgrid(np.arange(512) + 0.5, np.arange(256) + 0.5), -1).reshape(-1, 2)
    inside = Outline(corners).contains_points(centres).reshape(256, 512)
    assert 100 < inside.sum() < 400
    assert (bench.mask("a") == np.where(inside, 2, 255)).all()
    bench.keys("Control+z", "1")
    for corner in wanted[:-1]:
        bench.drag(corner)
    bench.page.mouse.dblclick(*bench.at(wanted[-1]))  # closes it, too
    bench.saved()
    wait_for(lambda: (bench.mask("a") == np.where(inside, 0, 255)).all(), 10)


def test_the_zoom_stays_when_the_widget_changes_its_size(bench):
    bench.page.mouse.move(*bench.at((100, 100)))
    bench.page.mouse.wheel(0, -600)
    before, wide = bench.view(), bench.canvas.bounding_box()["width"]
    bench.page.set_viewport_size({"width": 1300, "height": 1000})
    wait_for(lambda: bench.canvas.bounding_box()["width"] < wide)
    assert bench.view() == before
    bench.keys("z")
    whole = bench.view()
    bench.page.set_viewport_size({"width": 1400, "height": 1000})
    wait_for(lambda: bench.view() != whole)  # it fits again


def test_a_fill_dragged_over_several_segments_sets_these(bench):
    found = segments(view_of(read_image(bench.root.parent / "photos" / "a.png")))
    bench.keys("2", "f")
    points = bench.drag((256, 200), (256, 100))
    mask = bench.mask("a") == 1
    touched = np.unique(found[mask])
    assert (np.isin(found, touched) == mask).all()
    assert {found[int(py), int(px)] for px, py in points} <= set(touched.tolist())


def test_labels_are_kept_where_asked_for_and_a_class_is_picked_from_them(bench):
    bench.keys("1", "b")
    first = bench.drag((100, 100), (140, 100))
    bench.keys("Shift+Digit2", "k")
    second = bench.drag((140, 100), (180, 100))
    bench.keys("k", "i")
    bench.drag((110, 100))
    bench.keys("b")
    third = bench.drag((300, 100), (310, 100))
    expected = np.full((256, 512), 255)
    for points, value in ((second, 11), (first, 0), (third, 0)):
        expected[brushed((256, 512), points, 8)] = value
    assert (bench.mask("a") == expected).all()


def test_outlines_surround_a_label_and_h_hides_all_labels(bench):
    def shown() -> np.ndarray:
        bench.page.mouse.move(2, 2)  # no cursor on the canvas
        time.sleep(0.3)
        return np.array(Image.open(io.BytesIO(bench.canvas.screenshot())).convert("RGB"), dtype=int)

    bench.keys("2", "b")
    bench.drag((150, 100), (250, 100))
    covered = shown()
    bench.page.keyboard.down("h")
    alone = shown()
    bench.page.keyboard.up("h")
    bench.keys("o")
    outlined = shown()
    bench.keys("o")
    scale, left, top = bench.view()

    def changed(image: np.ndarray, x: float, y: float) -> bool:
        """Whether an image differs from the photograph around a pixel of it."""
        column, row = round(left + x * scale), round(top + y * scale)
        around = slice(row - 5, row + 6), slice(column - 5, column + 6)
        return (np.abs(image - alone)[around] > 8).any()

    assert changed(covered, 200, 100) and not changed(covered, 200, 130)
    assert not changed(outlined, 200, 100)
    assert all(changed(outlined, *edge) for edge in ((200, 92), (200, 108), (142, 100), (258, 100)))


def test_keys_are_for_the_widget_or_what_has_the_focus_in_it_and_not_for_jupyterlab(bench):
    cells = bench.page.locator(".jp-Notebook .jp-Cell")
    before = cells.count()
    bench.keys("a", "b", "d", "d", "x", "m", "y")
    assert cells.count() == before
    assert bench.page.locator(".jp-mod-editMode").count() == 0
    slider = bench.widget.get_by_label("size")
    slider.focus()
    bench.keys("ArrowRight")
    assert slider.input_value() == "9" and bench.state("photo") == "a.png"
    slider.press("Tab")  # the button to undo
    bench.keys("Enter")
    assert bench.state("photo") == "a.png" and "0 done" in bench.widget.inner_text()
    bench.widget.locator("[data-tool=brush]").click()
    before = bench.view()
    bench.page.keyboard.down(" ")
    bench.drag((100, 100), (150, 100))
    bench.page.keyboard.up(" ")
    assert bench.view()[1] > before[1]  # it was moved, and not painted on
    assert (bench.mask("a") == 255).all()


def test_a_turned_photograph_and_twelve_megapixels_are_labelled_upright_to_the_pixel(bench):
    copies = (bench.root / "leftImg8bit").glob
    for name, shape, ends in (
        ("b", (401, 255), [(100, 300), (200, 350)]),
        ("c", (3000, 4000), [(1000, 1000), (1500, 1200)]),
    ):
        bench.keys("ArrowRight")
        bench.ready(f"{name}.jpg")
        bench.keys("1", "b")
        points = bench.drag(*ends)
        assert (bench.mask(name) == np.where(brushed(shape, points, 8), 0, 255)).all()
        wait_for(lambda name=name: [*copies(f"*/*/*_{name}_*.png")], what="its copy")
        assert Image.open(*copies(f"*/*/*_{name}_*.png")).size == shape[::-1]
        print(f"{name}.jpg: opened in {bench.state('opened')} ms, drawn {bench.state('drawn')}")


def test_one_press_marks_one_photograph_as_done(bench):
    button = bench.widget.get_by_text("done ✓")
    kernel = int((bench.root.parent / "pid").read_text())
    os.kill(kernel, signal.SIGSTOP)  # or its answer might come between the two
    try:
        bench.keys("Enter", "Enter")
    finally:
        os.kill(kernel, signal.SIGCONT)
    bench.ready("b.jpg")
    button.dblclick()
    bench.ready("c.jpg")
    for _ in range(2):
        bench.page.keyboard.down("Enter")  # the last photograph, which stays
        time.sleep(0.5)
    bench.page.keyboard.up("Enter")
    wait_for(lambda: "3 done" in bench.widget.inner_text())
    for name in ("c.jpg", "b.jpg", "a.png"):  # and another takes it back
        bench.show(name)
        button.click()
    wait_for(lambda: "0 done" in bench.widget.inner_text())


@pytest.mark.parametrize("pointer", ["pen", "touch"])
def test_a_pen_and_a_finger_paint_as_the_mouse_does(bench, pointer):
    bench.keys("2", "b")
    scale, left, top = bench.view()
    box = bench.canvas.bounding_box()
    x, y = box["x"] + left, box["y"] + top
    points = [(round(x + px * scale), round(y + 60 * scale)) for px in (200, 240, 280)]
    device = bench.page.context.new_cdp_session(bench.page)
    pen = {"pointerType": "pen", "button": "left", "buttons": 1, "clickCount": 1}
    for place, (px, py) in enumerate([*points, points[-1]]):
        at = {"x": px, "y": py}
        if pointer == "pen":
            kind = ("Pressed", "Moved", "Moved", "Released")[place]
            device.send("Input.dispatchMouseEvent", {"type": f"mouse{kind}", **at, **pen})
        else:
            kind, down = ("Start", "Move", "Move", "End")[place], [at] if place < 3 else []
            device.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": down})
    wait_for(lambda: (bench.mask("a") == 1).any(), what="the stroke")
    bench.saved()
    line = [((px - x) / scale, (py - y) / scale) for px, py in points]
    assert (bench.mask("a") == np.where(brushed((256, 512), line, 8), 1, 255)).all()


def test_two_fingers_zoom_and_leave_no_stroke(bench):
    bench.keys("1", "b")
    scale, *_ = bench.view()
    box = bench.canvas.bounding_box()
    touch = bench.page.context.new_cdp_session(bench.page)

    def fingers(kind: str, *distances: float) -> None:
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        points = [{"x": x + d, "y": y, "id": i} for i, d in enumerate(distances)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", -50)
    fingers("touchMove", -40)
    fingers("touchStart", -40, 40)
    for step in range(1, 11):
        fingers("touchMove", -40 - 4 * step, 40 + 4 * step)
    fingers("touchEnd")
    assert bench.view()[0] == pytest.approx(2 * scale, rel=0.1)
    bench.saved()
    wait_for(lambda: (bench.mask("a") == 255).all())


def test_a_reloaded_tab_shows_what_was_there_and_two_tabs_show_each_others_strokes(bench):
    bench.keys("1", "b")
    bench.drag((50, 50), (80, 50))
    before = bench.mask("a")
    bench.page.get_by_role("button", name="Save").first.click()
    wait_for(lambda: "widget-view" in (bench.root.parent / "n.ipynb").read_text())
    bench.page.reload()
    bench.ready("a.png")
    bench.widget.focus()
    bench.keys("b")
    points = bench.drag((50, 90), (80, 90))
    before[brushed((256, 512), points, 8)] = 0
    assert (bench.mask("a") == before).all()
    page = bench.page.context.new_page()
    page.goto(bench.page.url)
    other = Labeler(page, bench.root)
    other.ready("a.png")
    other.widget.focus()
    other.keys("2", "b")
    other.drag((200, 200), (230, 200))
    assert (bench.mask("a") == 1).sum() > 300
    page.close()
    wait_for(bench.widget.locator(".classes [data-id='1'] .share").inner_text)
    bench.widget.focus()
    bench.keys("e")
    bench.drag((195, 200), (235, 200))  # it would not be sent where nothing is shown
    assert (bench.mask("a") == before).all()


def test_strokes_go_on_to_the_disk_while_a_cell_runs(bench):
    cell = bench.page.locator(".jp-Cell").nth(1)
    ends = bench.root.parent / "the cell may end"
    code = f"import os, time\nwhile not os.path.exists({str(ends)!r}): time.sleep(1)"
    cell.locator(".cm-content").fill(code)
    bench.page.keyboard.press("Control+Enter")
    wait_for(lambda: "[*]" in cell.inner_text())
    bench.widget.focus()
    bench.keys("2", "b")
    points = bench.drag((60, 60), (90, 60))
    assert (bench.mask("a") == np.where(brushed((256, 512), points, 8), 1, 255)).all()
    assert "[*]" in cell.inner_text()
    ends.touch()
    wait_for(lambda: "[*]" not in cell.inner_text())


def test_a_stroke_that_a_killed_kernel_never_saw_is_saved_by_the_next(bench):
    bench.keys("3", "b")
    points = bench.drag((60, 60), (90, 60))
    pid_file = bench.root.parent / "pid"
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGSTOP)
    lost = bench.drag((200, 60), saved=False)
    time.sleep(0.5)
    assert bench.state("saved") == "false"
    os.kill(pid, signal.SIGKILL)
    bench.page.locator(".jp-Dialog button").click()  # which says that it has died
    late = bench.drag((300, 60), saved=False)
    time.sleep(0.5)
    bench.page.reload()
    bench.page.locator(".jp-NotebookPanel-toolbar >> text=Python 3").first.wait_for()
    bench.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
    run_all(bench.page)
    wait_for(lambda: pid_file.read_text() not in ("", str(pid)))  # empty: being written
    bench.ready("a.png")
    bench.saved()
    expected = brushed((256, 512), points, 8)
    expected |= brushed((256, 512), lost * 2, 8) | brushed((256, 512), late * 2, 8)
    assert (bench.mask("a") == np.where(expected, 2, 255)).all()
