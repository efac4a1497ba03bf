"""The page in a real browser: Chromium, driven by playwright, without a GPU."""

import base64
import contextlib
import gzip
import io
import mimetypes
import re
import shutil
import subprocess
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from jupyterlab import chromium
from PIL import Image

from data_io.video import VideoReader
from data_io.video_writer import VideoWriter
from export_onnx import export
from inference import load_model, predict
from model import UNet
from page import build
from streets import draw_tree
from tests.processes import wait_for
from tests.samples import turned
from utils import Classes

pytestmark = [pytest.mark.browser, pytest.mark.slow]
NETWORK = "checkpoints/streets"
MOVE = """const slider = document.querySelector("#megapixels");
    slider.value = 0.5;
    slider.dispatchEvent(new Event("change"));"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("scenes")
    draw_tree(root, train=0, val=6, size=(320, 160), workers=1, quiet=True)
    return sorted(root.glob("leftImg8bit/val/*/*.png"))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The page as `make page` builds it, with one small network in its three precisions."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    if not build.DIST.is_dir() and shutil.which("npm"):
        command = ["npm", "ci", "--ignore-scripts", "--prefix", str(build.HERE)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=300)
    if not build.DIST.is_dir():
        pytest.skip("page/node_modules lacks ONNX Runtime: run `npm ci` in page/")
    out = tmp_path_factory.mktemp("page")
    build.build(out, {NETWORK: ("Drawn", "MIT")})
    return out


@pytest.fixture(scope="module")
def browser(scenes, tmp_path_factory):
    street = tmp_path_factory.mktemp("camera") / "street.mjpeg"  # what the camera sees
    with street.open("wb") as file:
        for path in scenes:
            Image.open(path).save(file, "jpeg", quality=95)
    camera = "--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={street}"
    with chromium(*camera) as browser:
        yield browser


@pytest.fixture(params=[build.Handler])
def page(browser, site, request):
    """The page once its first sample is labelled; at the end: idle, without errors."""
    problems, handler = [], partial(request.param, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ours = f"http://localhost:{server.server_port}/", "blob:", "data:"
        context = browser.new_context(viewport={"width": 1200, "height": 900})
        context.on("request", lambda r: r.url.startswith(ours) or problems.append(r.url))
        page = context.new_page()
        page.on("console", lambda m: m.type == "error" and problems.append(m.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(ours[0])
        page.wait_for_selector("#stage[data-done]", timeout=90_000)
        yield page
        phase = "import('./state.js').then(({ state }) => state.request.phase)"
        wait_for(lambda: page.evaluate(phase) == "done", what="the page to be done")
        context.close()
        server.shutdown()
    assert not problems


def labelled(page, action) -> None:
    """Do something, and wait until a picture was labelled after it."""
    count = "Number(document.querySelector('#stage').dataset.done)"
    before, deadline = page.evaluate(count), time.monotonic() + 90
    action()
    while page.evaluate(count) <= before:
        page.wait_for_timeout(100)
        assert time.monotonic() < deadline, page.inner_text("#error") + page.inner_text("#status")


def drop(page, *paths: Path, paste: bool = False, then: str = "") -> None:
    """Drop or paste files; `then` is JavaScript that runs before the page comes to read them."""
    kinds = [mimetypes.guess_type(path.name)[0] or "" for path in paths]
    texts = [base64.b64encode(path.read_bytes()).decode() for path in paths]
    files = list(zip([path.name for path in paths], kinds, texts, strict=True))
    page.evaluate(
        """([files, paste]) => {
            const dataTransfer = new DataTransfer();
            for (const [name, type, text] of files) {
                const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
                dataTransfer.items.add(new File([bytes], name, { type }));
            }
            const pasted = new ClipboardEvent("paste", { clipboardData: dataTransfer });
            dispatchEvent(paste ? pasted : new DragEvent("drop", { dataTransfer }));
            AFTERWARDS;
        }""".replace("AFTERWARDS", then),
        [files, paste],
    )


def use(page, precision: str) -> None:
    value = f"models/streets-{precision}.onnx.gz"
    if page.input_value("#model") != value:
        labelled(page, lambda: page.select_option("#model", value))


def saved(page, what: str, path: Path) -> Path:
    with page.expect_download() as download:
        page.click(what)
    download.value.save_as(path / download.value.suggested_filename)
    return path / download.value.suggested_filename


def share_as_predicted(page, path: Path, out: Path, model: UNet | None = None) -> float:
    """Of the pixels of the label map that the page gives, those that are as predict.py's."""
    model = model or load_model(f"{NETWORK}.pt")
    scale = float(re.search(r"--scale ([\d.]+)", page.inner_text("#seen"))[1])
    labels = predict(model, path, scale=scale, precision="fp32")
    found = Image.open(saved(page, "#save-labels", out))
    assert found.mode == "L" and found.filename.endswith("_labels.png")
    return (np.array(found) == model.classes.label_ids[labels.int()].numpy()).mean()


@pytest.fixture
def drive(scenes, tmp_path) -> Path:
    """A video of the scenes, each shown twelve times."""
    pytest.importorskip("av")
    with VideoWriter(tmp_path / "drive.mp4", 10) as video:
        for scene in scenes * 12:
            video.write(torch.from_numpy(np.array(Image.open(scene).convert("RGB"))))
    return tmp_path / "drive.mp4"


@pytest.mark.parametrize("precision, least", [("fp32", 0.999), ("fp16", 0.995), ("int8", 0.95)])
def test_each_sample_is_labelled_as_predict_labels_it(page, site, tmp_path, precision, least):
    use(page, precision)
    for name in "231":
        labelled(page, lambda name=name: page.click(f"text=drawn scene {name}"))
        assert share_as_predicted(page, site / "samples" / f"{name}.jpg", tmp_path) >= least
    assert precision in page.inner_text("#device")


@pytest.mark.parametrize("kind", ["odd.png", "upright.jpg", "turned.jpg", "large.png"])
def test_a_dropped_or_pasted_picture_is_labelled_as_predict_labels_it(page, scenes, tmp_path, kind):
    image, path = Image.open(scenes[0]), tmp_path / kind
    if kind.endswith("jpg"):
        image.save(path, quality=95, exif=turned(6 if kind == "turned.jpg" else 1))
    else:
        image = image.crop((0, 0, 301, 157)) if kind == "odd.png" else image.resize((1900, 950))
        image.save(path)
    use(page, "fp32")
    labelled(page, lambda: drop(page, path, paste=kind == "odd.png"))
    assert share_as_predicted(page, path, tmp_path) >= 0.999


def test_all_of_several_dropped_pictures_can_be_shown_and_saved_by_name(page, scenes):
    labelled(page, lambda: drop(page, *scenes[:3]))
    assert page.locator("#gallery li").count() == 3 + 3
    for path in scenes[:3]:
        labelled(page, lambda name=path.name: page.click(f"text={name}"))
        assert path.name in page.get_attribute("#overlay", "aria-label")
    show_another = """() => {
        document.querySelector("#save-labels").click();
        document.querySelector("#gallery button").click();
    }"""
    with page.expect_download() as download:
        page.evaluate(show_another)
    assert download.value.suggested_filename == f"{scenes[2].stem}_labels.png"


def test_a_picture_read_with_a_broken_network_or_a_moved_slider_is_labelled(page, scenes, tmp_path):
    before = page.inner_text("#seen")
    (tmp_path / "broken.onnx").write_bytes(b"none")
    labelled(page, lambda: drop(page, tmp_path / "broken.onnx", scenes[0]))
    assert "broken.onnx" in page.inner_text("#error")  # which stays meanwhile
    labelled(page, lambda: page.click("text=drawn scene 2"))
    page.locator("#error").wait_for(state="hidden")
    labelled(page, lambda: drop(page, scenes[1], then=MOVE))
    assert scenes[1].name in page.get_attribute("#overlay", "aria-label")
    page.locator("text=drawn scene 1").click()
    page.locator("#overlay[aria-label*='drawn scene 1']").wait_for()
    assert page.inner_text("#seen") != before  # of more pixels


@pytest.mark.parametrize("button", ["#save-labels", "#gallery li:nth-child(2) button"])
def test_after_the_worker_broke_what_was_asked_meanwhile_is_labelled(page, button):
    before, network = page.inner_text("#seen"), page.input_value("#model")
    spoil = """const post = Worker.prototype.postMessage;
        Worker.prototype.postMessage = function (data, transfer) {
            Worker.prototype.postMessage = post;
            post.call(this, { ...data, call: "none" }, transfer);
            queueMicrotask(() => { MOVE });
        };
        document.querySelector("BUTTON").click();"""
    spoil = spoil.replace("MOVE", MOVE).replace("BUTTON", button)
    labelled(page, lambda: page.evaluate(f"() => {{ {spoil} }}"))
    assert page.inner_text("#seen") != before  # of more pixels
    assert page.input_value("#model") == network and page.is_enabled("#save-labels")


def unpacked(site: Path, out: Path) -> Path:
    """A network of the page as a file of one's own."""
    out.write_bytes(gzip.decompress((site / "models" / "streets-int8.onnx.gz").read_bytes()))
    return out


def test_a_cut_off_download_or_a_tiny_picture_leaves_the_network_that_is_loaded(page, tmp_path):
    before, half = page.inner_text("#device"), gzip.compress(b"network")[:-9]
    page.route("**/streets-fp32*", lambda route: route.fulfill(body=half))
    page.select_option("#model", "models/streets-fp32.onnx.gz")
    page.locator("#error", has_text="was cut off").wait_for()
    for width in (16, 20):  # of which the network, of depth 3, sees 4 and 5
        Image.new("L", (width, 99)).save(tmp_path / f"{width}.png")
    drop(page, tmp_path / "16.png")
    page.locator("#error", has_text="needs more than 4 on each side").wait_for()
    labelled(page, lambda: drop(page, tmp_path / "20.png"))
    assert page.inner_text("#device") == before  # nor was it loaded again, which takes its time


def test_a_network_dropped_while_the_page_starts_is_used(page, site, tmp_path):
    requests = []
    page.route("**/models.json", lambda route: requests.append(route))
    page.reload()
    drop(page, unpacked(site, tmp_path / "own.onnx"))
    wait_for(lambda: page.wait_for_timeout(10) or requests)
    requests[0].continue_()
    page.locator("#device", has_text="own.onnx").wait_for()


def test_after_a_broken_video_the_one_before_plays_again(page, site, drive, scenes, tmp_path):
    labelled(page, lambda: drop(page, drive))
    (tmp_path / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(999))
    drop(page, tmp_path / "broken.mp4")
    page.locator("#error", has_text="convert it to MP4").wait_for()
    assert page.is_disabled("#record")
    labelled(page, lambda: page.click("#play"))
    drop(page, tmp_path / "broken.mp4")
    page.locator("#error", has_text="convert it to MP4").wait_for()
    drop(page, unpacked(site, tmp_path / "own.onnx"), scenes[0])  # neither waits for the video
    page.locator(f"#overlay[aria-label*='{scenes[0].name}']").wait_for()
    assert page.input_value("#model") == "own own.onnx"


def test_int8_takes_the_place_of_a_network_that_webgpu_refuses_and_no_user_named(page):
    gpu = "{ requestAdapter: async () => ({ features: new Set(['shader-f16']) }) }"
    page.add_init_script(f"Object.defineProperty(navigator, 'gpu', {{ value: {gpu} }})")
    page.reload()
    page.wait_for_selector("#stage[data-done]", timeout=90_000)
    assert "int8" in page.inner_text("#device") and "int8" in page.input_value("#model")
    use(page, "fp16")
    assert "WebGPU is there" in page.inner_text("#device")


def test_an_own_network_brings_its_classes(page, scenes, tmp_path):
    torch.manual_seed(0)
    model = UNet(num_classes=5, width=4, depth=2).eval()
    names, colors = ("lane", "kerb", "house", "air", "else"), tuple((40 * i,) * 3 for i in range(5))
    model.classes, model.downscale = Classes(names, (3, 50, 7, 200, 9), colors), 2
    export(model, tmp_path / "mine.onnx", logits=True)
    labelled(page, lambda: drop(page, tmp_path / "mine.onnx"))
    assert page.locator("#legend span").all_inner_texts() == [*names]
    labelled(page, lambda: drop(page, scenes[1]))
    assert share_as_predicted(page, scenes[1], tmp_path, model) >= 0.999
    (tmp_path / "mine.onnx").write_bytes(b"none")
    drop(page, tmp_path / "mine.onnx")
    page.locator("#error", has_text="no ONNX file").wait_for()
    use(page, "int8")
    labelled(page, lambda: page.select_option("#model", "own mine.onnx"))  # the file that loaded


def test_a_video_is_labelled_paused_and_recorded(page, drive, tmp_path):
    labelled(page, lambda: drop(page, drive))
    page.locator("#rate", has_text="frames a second").wait_for()
    page.click("#play")
    assert page.inner_text("#play").startswith("Play")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    drop(page, tmp_path / "broken.jpg")
    page.locator("#error", has_text="is damaged").wait_for()  # and the video is still there
    labelled(page, lambda: page.fill("#seek", "500"))
    assert Image.open(saved(page, "#save-labels", tmp_path)).size == (320, 160)
    labelled(page, lambda: page.click("#record"))  # plays on
    frames = [frame for _, frame in VideoReader(saved(page, "#record", tmp_path))]
    assert frames and frames[0].shape == (3, 160, 320)


def test_the_camera_is_labelled_once_it_is_allowed(page):
    page.click("#camera")
    page.locator("#error", has_text="was not allowed").wait_for()
    page.context.grant_permissions(["camera"])
    labelled(page, lambda: page.click("#camera"))
    page.locator("#rate", has_text="labelled").wait_for()
    assert page.is_visible("#turn") and not page.is_visible("#error")
    labelled(page, lambda: page.click("text=drawn scene 2"))
    is_off = "document.querySelector('#video').srcObject === null"
    wait_for(lambda: page.evaluate(is_off))


HUGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (20000).to_bytes(4) + (10000).to_bytes(4) + bytes(9)
BAD = {
    "notes.txt": (b"no picture", "no picture or video"),
    "empty.jpg": (b"", "is empty"),
    "cut.png": (HUGE[:16] + bytes(40), "is damaged"),
    "huge.png": (HUGE, "200 megapixels"),
    "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(99), "save it as JPEG"),
    "foreign.onnx": (b"\x08\x08\x12\x01x", "lacks classes"),  # a version and a producer
}


def test_what_cannot_be_used_is_named_with_its_cure_and_the_rest_stays(page, tmp_path):
    used = page.inner_text("#device")
    for name, (data, words) in BAD.items():
        (tmp_path / name).write_bytes(data)
        drop(page, tmp_path / name)
        page.locator("#error", has_text=words).wait_for()
        assert name in page.inner_text("#error")
        page.click("#error button")
    assert page.inner_text("#device") == used
    assert page.locator("#gallery li").count() == 3
    assert Image.open(saved(page, "#save-labels", tmp_path)).size == (1024, 512)  # the sample's
    labelled(page, lambda: page.click("text=drawn scene 2"))


def test_what_is_shown_follows_the_controls(page, tmp_path):
    def painted() -> float:  # share of the overlay
        overlay = "document.querySelector('#overlay')"
        png = page.evaluate(f"{overlay}.toDataURL()").partition(",")[2]
        return (np.array(Image.open(io.BytesIO(base64.b64decode(png))))[..., 3] > 0).mean()

    assert painted() == 1
    road = page.locator("#legend button", has_text="road")
    road.click()
    share = float(re.search(r"([\d.]+) %", road.inner_text())[1]) / 100
    assert painted() == pytest.approx(share, abs=0.001)
    road.click()
    page.check("input[value=sure]")
    assert page.is_visible("#scale")
    page.fill("#opacity", "0")
    assert painted() == 0
    page.check("#outlines")
    assert 0 < painted() < 0.5
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 8)
    assert re.fullmatch(r"road, \d+ %", page.inner_text("#probe"))
    page.focus("#stage")
    page.keyboard.press("ArrowUp")
    assert page.is_visible("#cross")
    page.focus("#divider")
    page.keyboard.press("End")
    assert page.get_attribute("#divider", "aria-valuenow") == "100"
    assert Image.open(saved(page, "#save-overlay", tmp_path)).size == (1024, 512)


@pytest.mark.parametrize("page", [SimpleHTTPRequestHandler], indirect=True)
def test_any_server_of_files_will_do_for_threads_a_whole_new_version_and_being_offline(page, site):
    assert page.evaluate("crossOriginIsolated")  # the service worker sends the headers
    threads = page.evaluate("Math.min(navigator.hardwareConcurrency, 8)")
    assert f"with {threads} thread" in page.inner_text("#device")
    waits = "navigator.serviceWorker.ready.then((found) => Boolean(found.waiting))"
    old = {site / name: (site / name).read_bytes() for name in ("index.html", "sw.js")}
    for path, content in old.items():
        path.write_bytes(content.replace(b"Choose pictures", b"Newer").replace(b' = ["', b' = ["1'))
    page.reload()
    wait_for(lambda: page.evaluate(waits))
    assert "Choose pictures" in page.inner_text("#inputs")
    url = page.url

    def takes_the_new_ones() -> bool:
        page.goto("about:blank")  # no tab shows the old ones
        page.wait_for_timeout(1000)
        return page.goto(url) is not None and "Newer" in page.content()

    wait_for(takes_the_new_ones)
    for path, content in old.items():
        path.write_bytes(content)
    page.context.set_offline(True)
    page.reload()
    page.wait_for_selector("#stage[data-done]", timeout=90_000)
    labelled(page, lambda: page.click("text=drawn scene 3"))
