"""The page in headless Chromium: download until the first picture, and seconds for 480x360.

pip install -r tests/requirements.txt; make page; python -m page.timing runs/page

Without a GPU, so by WebAssembly, as many threads as cores. A row for each network of the page.
"""

import json
import os
import statistics
import tempfile
import threading
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

from PIL import Image

from page.build import Handler
from runtime.console import command_line, table
from runtime.machine import machine
from tests.jupyterlab import chromium

ROUNDS = 7
sent = []  # sizes of the files that the browser has got


class Counting(Handler):
    def copyfile(self, source, outputfile) -> None:
        sent.append(os.fstat(source.fileno()).st_size)
        super().copyfile(source, outputfile)


def measure(browser, url: str, model: dict, picture: Path) -> list[str]:
    """A row of the table."""
    sent.clear()
    context = browser.new_context()  # with nothing in its cache
    page = context.new_page()
    page.goto(f"{url}#{model['file']}")
    page.wait_for_selector("#stage[data-done]", timeout=120_000)
    first, megabytes, times = page.evaluate("performance.now()") / 1e3, sum(sent) / 1e6, []
    for turn in range(ROUNDS + 2):
        page.set_input_files("#choose", picture)
        page.wait_for_selector(f"#stage[data-done='{turn + 2}']", timeout=120_000)
        words = page.inner_text("#status").split()  # Labelled in 0.61 s, the network alone 0.5 s.
        times.append((float(words[2]), float(words[-2])))
    context.close()
    medians = (statistics.median(column) for column in zip(*times[2:], strict=True))
    name, numbers = f"{model['name']}, {model['precision']}", [f"{megabytes:.1f}", f"{first:.1f}"]
    return [name, *numbers, *(f"{median:.2f}" for median in medians)]


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("root", type=Path, help="the page that `make page` built")
    root = parser.parse_args().root
    handler, rows = partial(Counting, directory=root), []
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as site,
        chromium() as browser,
    ):
        threading.Thread(target=site.serve_forever, daemon=True).start()
        picture = Path(folder) / "street.png"
        Image.open(root / "samples" / "1.jpg").resize((480, 360)).save(picture)
        for model in json.loads((root / "models.json").read_text())["models"]:
            url = f"http://localhost:{site.server_port}/"
            rows.append(measure(browser, url, model, picture))
            print(*rows[-1], flush=True)
        head = "network|download, MB|first picture, s|480x360, s|of it the network, s".split("|")
        print(f"\n{table(head, rows)}\n\nChromium {browser.version}, {machine()}")
        site.shutdown()


if __name__ == "__main__":
    main()
