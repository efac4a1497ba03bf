"""Gather the page that labels street scenes in a browser, and serve it.

    python -m page.build runs/page           # then open http://localhost:8000
    python -m page.build runs/page --no-serve

Exports the networks with `export_onnx`, draws the samples, copies the page and the parts of ONNX
Runtime that it needs (`npm ci` in page/ fetches them), and writes models.json, the page's list
of contents: for each network its name, file, licence, precision and size in bytes. What is large
is packed by gzip, which the page undoes itself, so that any server of files will do. Ours also
sends the headers without which browsers give a page no threads; elsewhere the page's service worker
adds them.
"""

import gzip
import hashlib
import json
import shutil
import tempfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

from export_onnx import LEAST, export
from inference import load_model
from runtime.console import command_line, errors_shown
from streets.scene import draw_scene

HERE = Path(__file__).resolve().parent
FILES = "index.html", "style.css", *sorted(path.name for path in HERE.glob("*.js"))
DIST = HERE / "node_modules" / "onnxruntime-web" / "dist"
# Of ONNX Runtime, for each way to run: its interface, the glue to its WebAssembly, and that.
RUNTIMES = {
    "wasm": ("ort.wasm.min.mjs", "ort-wasm-simd-threaded"),
    "webgpu": ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify"),
}
MODELS = {  # the first in int8 is what the page starts with
    "camvid": ("CamVid", "CC BY-NC 4.0, as CamVid: not for commercial use"),
    "streets-512": ("Drawn scenes only", "MIT"),
}
PRECISIONS = "int8", "fp16", "fp32"
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-cache",  # a browser asks whether its copy is the newest
}


def pack(source: Path, target: Path) -> int:
    """Write `source` packed by gzip, the same bytes each time; returns their number."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(source.read_bytes(), mtime=0))
    return target.stat().st_size


def copy_runtimes(out: Path) -> dict:
    """ONNX Runtime's files into `out`/ort; returns what models.json says of them.

    Raises FileNotFoundError, with the command that fetches them, where they are not.
    """
    if not DIST.is_dir():
        raise FileNotFoundError(f"ONNX Runtime is not in {DIST}: run `npm ci` in {HERE}")
    (out / "ort").mkdir(parents=True, exist_ok=True)
    found = {}
    for name, (script, stem) in RUNTIMES.items():
        shutil.copy(DIST / script, out / "ort")
        shutil.copy(DIST / f"{stem}.mjs", out / "ort")
        size = pack(DIST / f"{stem}.wasm", out / "ort" / f"{stem}.wasm.gz")
        parts = {"script": script, "glue": f"{stem}.mjs", "wasm": f"{stem}.wasm.gz"}
        found[name] = {part: f"ort/{file}" for part, file in parts.items()} | {"bytes": size}
    return found


def export_models(checkpoints: dict[str, tuple[str, str]], out: Path) -> list[dict]:
    """Networks in each precision into `out`/models; returns what models.json says of them.

    Args:
        checkpoints: (name, licence) by the path of the checkpoint without its suffix.

    Raises ValueError for a file that does not give what PyTorch gives.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for path, (name, licence) in checkpoints.items():
            model = load_model(f"{path}.pt")
            for precision in PRECISIONS:
                file = Path(folder) / f"{Path(path).name}-{precision}.onnx"
                agreement = export(model, file, logits=True, precision=precision)
                print(f"{file.name}: {agreement:.3%} of the pixels as in PyTorch", flush=True)
                if agreement < LEAST[precision]:
                    raise ValueError(f"{file.name}: that is less than {LEAST[precision]:.2%}")
                packed = f"models/{file.name}.gz"
                size = pack(file, out / packed)
                row = {"name": name, "file": packed, "licence": licence, "precision": precision}
                found.append(row | {"bytes": size})
    return found


def draw_samples(out: Path) -> list[str]:
    """Three scenes of Streets, 1024x512, of another seed than those that networks train on."""
    (out / "samples").mkdir(parents=True, exist_ok=True)
    names = [f"samples/{i}.jpg" for i in range(1, 4)]
    for index, name in enumerate(names):
        image, _, _ = draw_scene(np.random.default_rng([7, 1, index]), (1024, 512))
        Image.fromarray(image).save(out / name, quality=92)
    return names


def build(out: Path, checkpoints: dict[str, tuple[str, str]]) -> None:
    """Build the page in `out`, a folder of static files. Raises OSError or ValueError."""
    out.mkdir(parents=True, exist_ok=True)
    listed = {"runtimes": copy_runtimes(out)}
    for path in (*(HERE / name for name in FILES), HERE.parent / "LICENSE"):
        shutil.copy(path, out)
    listed |= {"models": export_models(checkpoints, out), "samples": draw_samples(out)}
    (out / "models.json").write_text(json.dumps(listed, indent=1), encoding="utf-8")
    shell = "models.json", *(name for name in FILES if name != "sw.js")  # what it serves as one
    version = hashlib.sha256(b"".join((out / name).read_bytes() for name in ("sw.js", *shell)))
    head = [version.hexdigest()[:16], ["./", *shell]]
    code = f"const [VERSION, SHELL] = {json.dumps(head)};\n{(HERE / 'sw.js').read_text('utf-8')}"
    (out / "sw.js").write_text(code, encoding="utf-8")


class Handler(SimpleHTTPRequestHandler):
    """Serves files with `HEADERS`, and JavaScript as such on every system."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".gz": "application/octet-stream",  # a browser must not unpack it by itself
    }

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_) -> None:
        pass


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("out", type=Path, help="folder, such as runs/page")
    parser.add_argument("--no-serve", action="store_true", help="only gather the files")
    parser.add_argument("--port", type=int, default=8000, help="(default: 8000)")
    args = parser.parse_args()
    folder = HERE.parent / "checkpoints"
    with errors_shown():
        build(args.out, {str(folder / name): about for name, about in MODELS.items()})
        print(f"the page: {args.out}", flush=True)
        if args.no_serve:
            return
        handler = partial(Handler, directory=args.out)
        with ThreadingHTTPServer(("127.0.0.1", args.port), handler) as site:
            print(f"open http://localhost:{args.port} (Ctrl-C ends it)", flush=True)
            site.serve_forever()


if __name__ == "__main__":
    main()
