"""How long the kernel takes for what the labelling widget asks of it, at two sizes.

    python -m labeling.timing

Prints seconds of processor time, over all cores, and by the clock, for a drawn scene enlarged to
480x360 and to twelve megapixels. What the browser takes, `pytest -s tests/test_label_widget.py`
prints.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from data_io.image_io import read_image
from inference import load_model
from labeling.proposals import propose, segments, view_of
from labeling.session import open_session
from labeling.widget import shown_file
from runtime.console import command_line, table
from runtime.machine import ROOT, machine
from streets import draw_tree, scene_paths

SIZES = {"480x360": (480, 360), "twelve megapixels": (4000, 3000)}


def main() -> None:
    command_line(__doc__).parse_args()
    folder, rows = Path(tempfile.mkdtemp()), []
    draw_tree(folder / "streets", train=1, val=0, workers=1, quiet=True)
    scene = Image.open(scene_paths(folder / "streets", "train", 0)[0])
    (folder / "photographs").mkdir()
    for name, size in SIZES.items():
        scene.resize(size).save(folder / "photographs" / f"{name}.jpg", quality=92)
    session = open_session(folder / "photographs", folder / "set")
    model = load_model(ROOT / "checkpoints" / "streets-512.pt")
    for name, (width, _) in SIZES.items():

        def timed(what: str, function: Callable, *args, size: str = name) -> object:
            cpu, clock = time.process_time(), time.perf_counter()
            result = function(*args)
            cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
            rows.append([size, what, f"{cpu:.3f} s", f"{clock:.3f} s"])
            return result

        image, _ = timed("open", session.go, f"{name}.jpg")
        path = session.photos[f"{name}.jpg"].image
        timed("file for the browser", shown_file, path, image)
        runs = [[width * y + 100, 50, session.classes.ids[0]] for y in range(100, 150)]
        timed("a stroke, until it is on disk", session.stroke, f"{name}.jpg", runs)
        view = view_of(read_image(path))
        found = timed("segments", segments, view)
        options = model, view, found, session.classes, session.void
        propose(*options)  # which folds the network, once
        timed("proposal", propose, *options)
    session.close()
    print(table(["size", "what", "processor", "clock"], rows, 2))
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
