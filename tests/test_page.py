"""The page in a real browser: Debian's or any other Chromium, driven by playwright, without a GPU.

pytest -m browser
"""

import base64
import io
import mimetypes
import re
import shutil
import struct
import subprocess
import threading
import time
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_io.image_io import read_image
from data_io.video import VideoReader
from export_onnx import export
from inference import load_model, predict
from model import UNet
from page import build
from prepare.streets import draw_tree
from utils import Classes

pytestmark = [pytest.mark.browser, pytest.mark.slow]
NETWORK = "checkpoints/streets"
FIVE = Classes(
    ("lane", "kerb", "house", "air", "else"),
    (3, 50, 7, 200, 9),
    ((128, 64, 128), (244, 35, 232), (70, 70, 70), (70, 130, 180), (255, 255, 0)),
)
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync --no-first-run --use-fake-device-for-media-stream"
).split()


def chromium() -> str | None:
    names = "chromium", "chromium-browser", "google-chrome"
    return next(filter(None, map(shutil.which, names)), None)


def runtime_is_there() -> bool:
    """Whether ONNX Runtime is in page/node_modules; npm fetches it if it can."""
    if not build.DIST.is_dir() and shutil.which("npm"):
        command = ["npm", "ci", "--ignore-scripts", "--prefix", str(build.HERE)]
        subprocess.run(command, capture_output=True, timeout=300)
    return build.DIST.is_dir()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("scenes")
    draw_tree(root, train=0, val=6, size=(320, 160), workers=1, quiet=True)
    return sorted(root.glob("leftImg8bit/val/*/*.png"))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The page as `make page` builds it, with one small network."""
    for package in ("playwright", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    if not chromium():
        pytest.skip("there is no Chromium: install one (`apt install chromium`)")
    if not runtime_is_there():
        pytest.skip("page/node_modules lacks ONNX Runtime: run `npm ci` in page/")
    out = tmp_path_factory.mktemp("page")
    build.build(out, {NETWORK: ("Drawn", "MIT")})
    return out


@pytest.fixture(scope="module")
def browser(site, scenes, tmp_path_factory):
    from playwright.sync_api import sync_playwright

    film = tmp_path_factory.mktemp("camera") / "street.mjpeg"
    film.write_bytes(b"".join(as_jpeg(path) for path in scenes))  # what the camera sees
    arguments = [*ARGUMENTS, f"--use-file-for-fake-video-capture={film}"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=arguments)
        yield browser
        browser.close()


def serving(site: Path, server: ThreadingHTTPServer):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://localhost:{server.server_port}/"


@pytest.fixture
def page(browser, site):
    """The page, opened, its first sample labelled; at the end: no error, no foreign request."""
    with build.server(site, 0) as server:
        url = serving(site, server)
        context = browser.new_context(viewport={"width": 1200, "height": 900})
        page, problems = watched(context, url)
        labelled(page, lambda: page.goto(url))
        yield page
        context.close()
        server.shutdown()
    assert not problems


def watched(context, url: str):
    """A page of a context, and the list that its errors and foreign requests are added to."""
    problems, page = [], context.new_page()
    page.set_default_timeout(90_000)
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    ours = url, "blob:", "data:"
    context.on("request", lambda r: None if r.url.startswith(ours) else problems.append(r.url))
    return page, problems


def labelled(page, action) -> None:
    """Do something, and wait until a picture was labelled after it."""
    count = "Number(document.querySelector('#stage')?.dataset.done ?? 0)"
    before = page.evaluate(count)
    action()
    deadline = time.monotonic() + 90
    while page.evaluate(count) <= before:
        page.wait_for_timeout(100)
        said = page.inner_text("#error"), page.inner_text("#status")
        assert time.monotonic() < deadline, f"nothing was labelled; the page says {said}"


def drop(page, *paths: Path) -> None:
    files = [
        (path.name, mimetypes.guess_type(path.name)[0] or "", base64.b64encode(path.read_bytes()))
        for path in paths
    ]
    page.evaluate(
        """files => {
            const dataTransfer = new DataTransfer();
            for (const [name, type, text] of files) {
                const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
                dataTransfer.items.add(new File([bytes], name, { type }));
            }
            dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
        }""",
        [(name, kind, text.decode()) for name, kind, text in files],
    )


def use(page, precision: str) -> None:
    value = f"models/streets-{precision}.onnx.gz"
    if page.input_value("#model") != value:
        labelled(page, lambda: page.select_option("#model", value))


def saved_labels(page) -> Image.Image:
    with page.expect_download() as download:
        page.click("#save-labels")
    return Image.open(io.BytesIO(Path(download.value.path()).read_bytes()))


def scale(page) -> float:
    return float(re.search(r"--scale ([\d.]+)", page.inner_text("#seen"))[1])


def share_as_predicted(page, path: Path, checkpoint: str | UNet = f"{NETWORK}.pt") -> float:
    """Of the pixels of the label map that the page gives, those that are as predict.py's."""
    model = load_model(checkpoint) if isinstance(checkpoint, str) else checkpoint
    labels = predict(model, path, scale=scale(page), precision="fp32")
    found = saved_labels(page)
    assert found.format == "PNG" and found.mode == "L"
    expected = model.classes.label_ids[labels.int()].numpy()
    assert np.array(found).shape == expected.shape
    return (np.array(found) == expected).mean()


def as_jpeg(path: Path, **options) -> bytes:
    data = io.BytesIO()
    Image.open(path).convert("RGB").save(data, "jpeg", quality=95, **options)
    return data.getvalue()


def test_each_sample_is_labelled_as_predict_labels_it(page, site):
    use(page, "fp32")
    for name in ("2", "3", "1"):
        labelled(page, lambda name=name: page.click(f"text=drawn scene {name}"))
        assert share_as_predicted(page, site / "samples" / f"{name}.jpg") >= 0.999


@pytest.mark.parametrize("kind", ["png", "jpeg", "turned", "large"])
def test_a_dropped_picture_is_labelled_as_predict_labels_it(page, scenes, tmp_path, kind):
    path = tmp_path / f"street.{'png' if kind == 'png' else 'jpg'}"
    image = Image.open(scenes[0])
    if kind == "png":
        image.crop((0, 0, 301, 157)).save(path)
    elif kind == "large":  # must be made smaller
        image.resize((1900, 950)).rotate(2).save(path)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6 if kind == "turned" else 1
        path.write_bytes(as_jpeg(scenes[0], exif=exif))
    use(page, "fp32")
    labelled(page, lambda: drop(page, path))
    assert (scale(page) < 1) == (kind == "large")
    assert share_as_predicted(page, path) >= 0.999


@pytest.mark.parametrize("precision, least", [("int8", 0.95), ("fp16", 0.995)])
def test_smaller_files_label_nearly_the_same(page, site, precision, least):
    use(page, precision)
    assert share_as_predicted(page, site / "samples" / "1.jpg") >= least
    assert precision in page.inner_text("#device")


def test_an_own_network_brings_its_classes(page, scenes, tmp_path):
    torch.manual_seed(0)
    model = UNet(num_classes=5, width=4, depth=2).eval()
    model.classes, model.downscale = FIVE, 2
    export(model, tmp_path / "mine.onnx", logits=True)
    labelled(page, lambda: drop(page, tmp_path / "mine.onnx"))
    assert [row.split("\n")[0] for row in page.locator("#legend li").all_inner_texts()] == [
        *FIVE.names
    ]
    labelled(page, lambda: drop(page, scenes[1]))
    assert share_as_predicted(page, scenes[1], model) >= 0.999
    assert "mine.onnx" in page.inner_text("#device")


def test_a_video_is_labelled_paused_and_recorded(page, scenes, tmp_path):
    import av

    path = tmp_path / "drive.webm"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libvpx", rate=Fraction(10), width=320, height=160)
        for name in scenes * 4:
            image = np.array(Image.open(name).convert("RGB"))
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        file.mux(stream.encode())
    labelled(page, lambda: drop(page, path))
    page.locator("#rate", has_text="a second").wait_for()
    page.click("#play")
    assert page.inner_text("#play") in ("Play", "Play again")
    before = page.inner_text("#seen")
    assert "320 × 160" not in before and "80 × 40" in before  # the network's downscale is 4
    labelled(page, lambda: page.fill("#seek", "500"))
    assert saved_labels(page).size == (320, 160)
    page.click("#record")
    with page.expect_download() as download:
        page.wait_for_timeout(1500)
        if page.inner_text("#record") != "Record overlay":
            page.click("#record")
    assert re.fullmatch(r"drive_overlay\.(webm|mp4)", download.value.suggested_filename)
    taken = tmp_path / download.value.suggested_filename
    download.value.save_as(taken)
    frames = [*VideoReader(taken)]
    assert frames and frames[0].shape == (3, 160, 320)


def test_the_camera_is_labelled_where_it_is_allowed(page):
    page.click("#camera")
    page.wait_for_selector("#error:not([hidden])")
    assert "not allowed" in page.inner_text("#error")
    page.context.grant_permissions(["camera"])
    labelled(page, lambda: page.click("#camera"))
    assert not page.is_visible("#error")
    page.locator("#rate", has_text="labelled").wait_for()
    assert page.is_visible("#turn") and not page.is_visible("#seek")
    labelled(page, lambda: page.click("text=drawn scene 2"))  # ends it
    assert page.evaluate("document.querySelector('#video').srcObject") is None


def huge_png() -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", 20000, 10000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + bytes(4)


def foreign_model() -> bytes:
    onnx = pytest.importorskip("onnx")
    kind = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [kind], [other])
    return onnx.helper.make_model(graph).SerializeToString()


BAD = {
    "notes.txt": (b"no picture", "no picture or video"),
    "empty.jpg": (b"", "is empty"),
    "cut.png": (b"\x89PNG\r\n\x1a\n" + bytes(40), "damaged"),
    "huge.png": (huge_png(), "200 megapixels"),
    "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC"),
    "drive.mp4": (b"\0\0\0\x18ftypmp42" + bytes(999), "convert it to MP4"),
    "broken.onnx": (b"\x08\x07 this is none", "no ONNX file"),
    "foreign.onnx": (None, "lacks classes"),
}


def test_what_cannot_be_used_is_named_with_its_cure_and_the_rest_stays(page, tmp_path):
    used = page.inner_text("#device")
    for name, (data, words) in BAD.items():
        (tmp_path / name).write_bytes(foreign_model() if data is None else data)
        drop(page, tmp_path / name)
        page.locator("#error", has_text=words).wait_for()
        assert name in page.inner_text("#error")
        page.click("#error button")
    assert page.inner_text("#device") == used
    assert page.locator("#gallery li").count() == 3
    assert saved_labels(page).size == (1024, 512)  # of the sample that was there before
    labelled(page, lambda: page.click("text=drawn scene 2"))


def test_what_is_shown_follows_the_controls(page):
    painted = """() => {
        const { width, height } = overlay;
        const { data } = overlay.getContext("2d").getImageData(0, 0, width, height);
        return data.filter((_, i) => i % 4 === 3 && data[i]).length / (width * height);
    }"""
    assert page.evaluate(painted) == 1
    road = page.locator("#legend button", has_text="road")
    share = float(re.search(r"([\d.]+) %", road.inner_text())[1]) / 100
    road.click()
    assert page.evaluate(painted) == pytest.approx(share, abs=0.001)
    assert road.get_attribute("aria-pressed") == "true"
    road.click()
    page.check("input[value=sure]")
    assert page.is_visible("#scale")
    page.fill("#opacity", "0")
    assert page.evaluate(painted) == 0
    page.check("#outlines")
    assert 0 < page.evaluate(painted) < 0.5
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 8)
    assert re.fullmatch(r"road, \d+ %", page.inner_text("#probe"))
    page.focus("#stage")
    page.keyboard.press("ArrowUp")
    assert page.is_visible("#cross")
    page.focus("#divider")
    page.keyboard.press("End")
    assert page.get_attribute("#divider", "aria-valuenow") == "100"
    labelled(
        page,
        lambda: page.fill("#megapixels", "0.5") or page.dispatch_event("#megapixels", "change"),
    )
    with page.expect_download() as download:
        page.click("#save-overlay")
    assert read_image(download.value.path()).shape == (3, 512, 1024)


def test_it_works_offline_once_it_was_loaded(page):
    page.context.set_offline(True)
    page.reload()
    page.wait_for_selector("#stage[data-done]")
    labelled(page, lambda: page.click("text=drawn scene 3"))


def test_threads_come_from_the_service_worker_where_the_server_sends_no_headers(browser, site):
    handler = partial(SimpleHTTPRequestHandler, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = serving(site, server)
        context = browser.new_context()
        page, problems = watched(context, url)
        page.goto(url)
        page.wait_for_selector("#stage[data-done]")
        assert page.evaluate("crossOriginIsolated")
        threads = page.evaluate("Math.min(navigator.hardwareConcurrency, 8)")
        assert f"with {threads} thread" in page.inner_text("#device")
        context.close()
        server.shutdown()
    assert not problems
