"""The page in headless Chromium: download until the first picture, and seconds for 480x360.

pip install playwright; make page; python -m bench.page runs/page

Without a GPU, so by WebAssembly, as many threads as cores. A row for each network of the page.
"""

import shutil
import statistics
import sys
import tempfile
import threading
from pathlib import Path

from PIL import Image

from page.build import server
from runtime.machine import machine

ROUNDS = 7
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def measure(browser, url: str, picture: Path) -> list[str]:
    """Lines of a table, in Markdown."""
    lines = ["| network | download, MB | first picture, s | 480x360, s | of it the network |"]
    lines.append("|---|---:|---:|---:|---:|")
    page = browser.new_page()
    page.goto(url)
    values = page.eval_on_selector_all("#model option", "all => all.map(o => [o.value, o.text])")
    page.close()
    for value, name in values:
        context, loaded = browser.new_context(), []
        page = context.new_page()
        context.on("requestfinished", lambda r, loaded=loaded: loaded.append(r))
        page.goto(f"{url}#{value}")
        page.wait_for_selector("#stage[data-done]", timeout=120_000)
        first = page.evaluate("performance.now()") / 1e3
        megabytes = sum(r.sizes()["responseBodySize"] for r in loaded) / 1e6
        times = []
        for turn in range(ROUNDS + 2):
            page.set_input_files("#choose", picture)
            page.wait_for_selector(f"#stage[data-done='{turn + 2}']", timeout=120_000)
            words = page.inner_text("#status").split()  # Labelled in 0.61 s, the network alone ..
            times.append((float(words[2]), float(words[-2])))
        both, network = (statistics.median(column) for column in zip(*times[2:], strict=True))
        lines.append(f"| {name} | {megabytes:.1f} | {first:.1f} | {both:.2f} | {network:.2f} |")
        context.close()
    return lines


def main() -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, server(Path(sys.argv[1]), 0) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        picture = Path(folder) / "street.png"
        Image.open(Path(sys.argv[1]) / "samples" / "1.jpg").resize((480, 360)).save(picture)
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS)
            print("\n".join(measure(browser, f"http://localhost:{site.server_port}/", picture)))
            print(f"\nChromium {browser.version}, {machine()}")
        site.shutdown()


if __name__ == "__main__":
    main()
