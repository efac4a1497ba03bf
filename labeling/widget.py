"""The widget of `label.ipynb`: messages between `widget.js`, which draws, and a `Session`.

From the browser: {type, ...} with the types below in `LabelWidget._answer`; strokes come as a
buffer of uint32, three for each run of pixels. To the browser: `photo` with the photograph's file
and its mask, `segments`, `proposal`, `patch` for undone strokes, `stroke` for other views of the
widget, `saved`, `list` and `error`. All maps are compressed by zlib.
"""

import hashlib
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import ExifTags
from torch import Tensor

from data_io.image_io import encode, open_image, read_image
from labeling.proposals import SURE, known_classes, propose, regions, segments, view_of
from labeling.session import Session, StrokeError
from model import UNet

SHOWN = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}  # by all browsers
HERE = Path(__file__).parent


class LabelWidget(anywidget.AnyWidget):
    """Label the photographs of a session.

    Args:
        session: of `open_session` or `open_data_set`.
        model: proposes labels; None for segments alone.
        boxes: name -> (left, top, right, bottom, text) of what to look at, in pixels.
    """

    _esm = HERE / "widget.js"
    _css = HERE / "widget.css"
    journal = traitlets.Unicode(help="identifies the data set in a browser").tag(sync=True)

    def __init__(
        self,
        session: Session,
        model: UNet | None = None,
        boxes: dict[str, list[tuple]] | None = None,
    ):
        journal = hashlib.sha256(str(session.root.resolve()).encode()).hexdigest()[:16]
        super().__init__(journal=journal)
        self.session, self.model, self.boxes = session, model, boxes
        self._first_kept: dict[str, int] = {}  # view -> its first stroke that could not be put
        self._worker = ThreadPoolExecutor(1)
        self._ready: dict[str, Future] = {}  # segments and proposal, also of the next photograph
        self.on_msg(lambda _, content, buffers: self._answer(content, buffers))

    def _answer(self, message: dict, buffers: list) -> None:
        """Answer a request of the browser: hello, stroke, undo, redo, go or done."""
        session, name, kind = self.session, message.get("photo"), message["type"]
        about = {"view": message.get("view"), "number": message.get("number", 0)}
        try:
            if kind == "hello":
                self._show(session.at)
            elif kind == "stroke":
                before = session.photos.copy()
                runs = np.frombuffer(buffers[0], dtype="<u4").reshape(-1, 3)
                if session.stroke(name, runs, message.get("origin")):  # for other views
                    self.send({"type": "stroke", "photo": name, **about}, [buffers[0]])
                if session.photos != before:  # one is labelled now
                    self._list()
            elif kind in ("undo", "redo"):
                if changed := session.undo(name, redo=kind == "redo"):
                    about_patch = {"type": "patch", "photo": name, "start": changed[0]}
                    self.send({**about_patch, **about}, [changed[1]])
                session.save()
            elif kind == "go":
                self._show(message.get("to") or session.neighbour(message["step"]))
            elif kind == "done":
                session.set_done(name, message["done"])
                self._list()
        except Exception as error:  # a kernel's output of it would be seen by nobody
            self.send({"type": "error", "text": str(error) or repr(error)})
            if not isinstance(error, StrokeError):
                if kind == "stroke" and not isinstance(error, OSError):  # which the session keeps
                    self._first_kept.setdefault(about["view"], about["number"])
                return  # the browser keeps it, until it comes again when this cell is run again
        if (kept := self._first_kept.get(about["view"])) is not None:
            about["number"] = min(about["number"], kept - 1)
        self.send({"type": "saved", **about})  # up to this number, or refused for good

    def _list(self) -> None:
        """Send the list of photographs."""
        session = self.session
        rows = [[n, session.is_labelled(n), n in session.done] for n in session.order]
        self.send({"type": "list", "photos": rows, "at": session.at})

    def _show(self, name: str) -> None:
        """Send a photograph, its mask, and later segments and proposal; drop others that wait."""
        session = self.session
        try:
            image, mask = session.go(name)
        except (OSError, ValueError):
            session.at = name  # so that "next" goes on behind it
            self._list()
            raise
        content, kind = shown_file(session.photos[name].image, image)
        height, width = mask.shape
        of = session.classes
        classes = [*zip(of.ids, of.names, of.colors, strict=True)]
        self.send(
            {
                "type": "photo", "photo": name, "width": width, "height": height, "kind": kind,
                "void": session.void, "classes": classes, "done": name in session.done,
                "boxes": (self.boxes or {}).get(name, []), "model": self._about_model(),
                "sure": round(100 * SURE),
            },
            [content, zlib.compress(mask, 1)],
        )  # fmt: skip
        self._list()
        self._ready = {n: f for n, f in self._ready.items() if n == name or not f.cancel()}
        self._prepare(name, image).add_done_callback(lambda future: self._offer(name, future))
        self._prepare(session.neighbour(1))

    def _about_model(self) -> str:
        """What the user should know about the network."""
        if self.model is None:
            return "no network: nothing is proposed"
        known, names = known_classes(self.model, self.session.classes), self.session.classes.names
        if len(known) == len(names):
            return ""
        missing = ", ".join(name for name in names if name not in known)
        return f"the network knows {len(known)} of {len(names)} classes, not {missing}"

    def _prepare(self, name: str, image: Tensor | None = None) -> Future:
        """Segments and proposal of a photograph, computed in the background."""
        future = self._ready.pop(name, None) or self._worker.submit(self._compute, name, image)
        for other in list(self._ready)[:-2]:
            del self._ready[other]
        self._ready[name] = future  # the last, so that the next photograph does not displace it
        return future

    def _compute(self, name: str, image: Tensor | None) -> tuple:
        session = self.session
        view = view_of(read_image(session.photos[name].image) if image is None else image)
        found = segments(view)
        if self.model is None:
            return found, None
        return found, propose(self.model, view, found, session.classes, session.void)

    def _offer(self, name: str, future: Future) -> None:
        if future.cancelled() or name != self.session.at:
            return
        try:
            found, proposal = future.result()
        except Exception as error:  # of a thread, which nobody would see
            self.send({"type": "error", "text": f"nothing is proposed for {name}: {error}"})
            return
        about = {"photo": name, "width": found.shape[1], "height": found.shape[0]}
        if proposal is not None:
            maps = [*proposal, regions(proposal).astype("<u4")]
            self.send({"type": "proposal", **about}, [zlib.compress(each, 1) for each in maps])
        self.send({"type": "segments", **about}, [zlib.compress(found.astype("<u4"), 1)])

    def refresh(self) -> None:
        """Show the open photograph anew, with labels that did not come from the widget."""
        self._show(self.session.at)

    def close(self) -> None:
        """Remove the widget from the notebook, and compute nothing more for it."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        super().close()


def shown_file(path: Path, image: Tensor) -> tuple[bytes, str]:
    """A photograph as a browser shows it, and its media type: the file itself, or a JPEG of it.

    image: what the file holds, (3, H, W) uint8, upright. Browsers apply the EXIF orientation of
    JPEG, and not reliably that of other formats.
    """
    with open_image(path) as opened:
        turned = opened.format != "JPEG" and opened.getexif().get(ExifTags.Base.Orientation, 1) != 1
        if opened.format in SHOWN and opened.mode in ("L", "RGB", "RGBA") and not turned:
            return path.read_bytes(), SHOWN[opened.format]
    return encode(image.permute(1, 2, 0).numpy(), "jpeg", quality=95), "image/jpeg"
