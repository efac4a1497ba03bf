"""A labelling session: photographs, their masks, the undo history, and where the user stopped.

The masks are the label files of a data set in Cityscapes' format, ROOT/gtFine/<split>/..., in
memory as on disk: (H, W) uint8 of ids, upright and at the photograph's own size. A photograph joins
ROOT with its first stroke, every fifth in `val`, and is itself never written to. ROOT/labeling.json
keeps the folder, the order, the open photograph, and which ones are done.
"""

import json
import zlib
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from threading import RLock
from typing import NamedTuple

import numpy as np
from torch import Tensor

from data_io.image_io import encode, image_size, read_grey, read_image
from data_io.layout import paths_of
from prepare.conversion import BY_HAND, as_png, target_name
from prepare.inspection import size_text
from prepare.splits import OFFICIAL, split_of
from runtime.files import atomic_write, lock
from utils import Classes

UNDO = 500  # strokes of a photograph that can be undone
_open: dict[Path, "Session"] = {}  # the sessions of this process, by their data set


class StrokeError(ValueError):
    """A stroke that can never be put, so that it need not be kept."""


class Photo(NamedTuple):
    """A photograph: its file, the label file, and the PNG that the data set has of it.

    The last two are None until it is labelled; of a data set's own image, `copy` is `image`.
    """

    image: Path
    labels: Path | None = None
    copy: Path | None = None


class Session:
    """Photographs that are being labelled; `labeling.opening` makes one.

    Its methods may be called from several threads. A stroke is on disk when `stroke` returns; where
    that fails it raises OSError, keeps the stroke in memory, and the next save writes it, too.

    Attributes:
        root: the data set.
        classes: the `utils.Classes`.
        void: the id of what is not labelled.
        photos: name -> `Photo`.
        order: the names, as they are shown.
        at: the name of the photograph that is open.
        done: the names of those that are finished.
        folder: of the photographs, from the data set; None: it has them itself.
        notes: what was left out, for the user.
    """

    def __init__(
        self,
        root: Path,
        photos: dict[str, Photo],
        classes: Classes,
        void: int,
        record: str,
        folder: str | None = None,
    ):
        self.root, self.photos, self.classes, self.void = root, photos, classes, void
        self.folder, self.notes = folder, []
        self._splits = {split_of(Path(name).parent.parts) for name in photos}  # by directories
        self._record, self._lock, self._held = root / record, RLock(), ExitStack()
        self._masks: dict[str, np.ndarray] = {}  # the open one's, and those not saved yet
        self._unsaved: set[str] = set()
        self._undo = defaultdict(lambda: deque(maxlen=UNDO))
        self._redo = defaultdict(list)
        self._origins: set[str] = set()  # of the strokes so far
        self._copies, self._writer = [], ThreadPoolExecutor(1)  # of photographs, in the background
        if before := _open.pop(root.resolve(), None):  # of a cell that is run again
            before.close()
        try:
            self._held.enter_context(lock(root))
        except BlockingIOError:
            holder = (root / "lock").read_text(errors="replace").strip()
            raise BlockingIOError(
                f"{root} is being labelled in another notebook, or trained in ({holder}): go on "
                "there, or shut its kernel down and run this cell again"
            ) from None
        kept = read_record(self._record)
        known = [name for name in kept.get("order", []) if name in photos]
        self.order = [*known, *sorted(photos.keys() - set(known))]
        self.done = {name for name in kept.get("done", []) if name in photos}
        self._was_open = kept.get("at") in photos  # whether the user has seen `at`
        self.at = kept["at"] if self._was_open else self.order[0]
        _open[root.resolve()] = self

    def save_record(self) -> None:
        """Write what the session keeps beside the masks."""
        record = {"photographs": self.folder, "void": self.void, "done": sorted(self.done)}
        record |= {"order": self.order, "at": self.at if self._was_open else None}
        atomic_write(self._record, json.dumps(record, indent=1).encode())

    def mask(self, name: str) -> np.ndarray:
        """The mask of a photograph: (H, W) uint8 of ids, `void` where nothing is labelled.

        Raises ValueError for files that cannot be read, and for a mask of another size.
        """
        with self._lock:
            if name not in self._masks:
                photo = self.photos[name]
                size = image_size(photo.image)
                if size is None:
                    read_image(photo.image)  # raises, with the reason
                mask = np.full(size, self.void, dtype=np.uint8)
                if photo.labels and photo.labels.exists():
                    mask = read_grey(photo.labels).numpy()
                if mask.shape != size:
                    raise ValueError(
                        f"{photo.labels} is {size_text(mask.shape)}, but {photo.image} is "
                        f"{size_text(size)}: restore the one that changed, or move the mask "
                        "elsewhere to label the photograph anew"
                    )
                for other in self._masks.keys() - self._unsaved:
                    del self._masks[other]
                self._masks[name] = mask
            return self._masks[name]

    def go(self, name: str) -> tuple[Tensor, np.ndarray]:
        """Open a photograph: its RGB (3, H, W) uint8, upright, and its mask (see `mask`)."""
        image = read_image(self.photos[name].image)
        with self._lock:
            self._check_open()
            mask, self.at, self._was_open = self.mask(name), name, True
            self.save_record()
        return image, mask

    def neighbour(self, step: int) -> str:
        """The name of the photograph `step` after the open one, or of the first or last one."""
        return self.order[min(max(self.order.index(self.at) + step, 0), len(self.order) - 1)]

    def stroke(self, name: str, runs: np.ndarray, origin: str | None = None) -> bool:
        """Set pixels of a mask, and save it; returns whether they were set now.

        Args:
            name: of the photograph.
            runs: (n, 3) integers: the first pixel of each run, counted along the rows from 0, how
                many pixels follow from it, and their id.
            origin: identifies the stroke: one that came before is saved, and not put again.

        Raises StrokeError for what lies outside of the mask or is no class; ValueError as `mask`;
        OSError if it cannot be saved.
        """
        with self._lock:
            self._check_open()
            if name not in self.photos:
                raise StrokeError(f"{name} is no longer a photograph here: its stroke is left out")
            mask = self.mask(name)
            runs = np.asarray(runs, dtype=np.int64).reshape(-1, 3)
            starts, stops, ids = runs[:, 0], runs[:, 0] + runs[:, 1], runs[:, 2]
            inside = (starts >= 0) & (stops >= starts) & (stops <= mask.size)
            if not inside.all() or not np.isin(ids, [*self.classes.ids, self.void]).all():
                raise StrokeError(f"a stroke does not fit {name}, or has no class: it is left out")
            if origin in self._origins:
                self.save()
                return False
            if not len(runs):
                return False
            first, last = int(starts.min()), int(stops.max())
            part = mask.reshape(-1)[first:last]
            self._undo[name].append((first, zlib.compress(part.tobytes(), 1)))
            for start, stop, value in (runs - [[first, 0, 0]]).tolist():
                part[start : start + stop] = value
            self._redo[name].clear()
            if origin:
                self._origins.add(origin)
            self.save(name)
            return True

    def undo(self, name: str, redo: bool = False) -> tuple[int, bytes] | None:
        """Undo the last stroke, or the last undoing, to be saved by `save`; None if there is none.

        Returns the index of the first changed pixel of the mask, and all pixels from it to the last
        changed one, compressed by zlib.
        """
        source, target = (self._redo, self._undo) if redo else (self._undo, self._redo)
        with self._lock:
            self._check_open()
            if not source[name]:
                return None
            first, packed = source[name].pop()
            pixels = np.frombuffer(zlib.decompress(packed), dtype=np.uint8)
            part = self.mask(name).reshape(-1)[first : first + len(pixels)]
            target[name].append((first, zlib.compress(part.tobytes(), 1)))
            part[:] = pixels
            self._unsaved.add(name)
            return first, packed

    def save(self, *names: str) -> None:
        """Write the masks of these photographs, and those that could not be written before."""
        with self._lock:
            self._unsaved.update(names)
            for name in sorted(self._unsaved):
                photo = self._with_files(name)
                photo.labels.parent.mkdir(parents=True, exist_ok=True)
                content = encode(self._masks[name], compress_level=1, pnginfo=BY_HAND)
                atomic_write(photo.labels, content)
                self.photos[name] = photo
                self._unsaved.discard(name)
                if not photo.copy.exists():
                    self._copies.append(self._writer.submit(write_copy, photo))

    def _with_files(self, name: str) -> Photo:
        """The photograph with its files in the data set, in a split where it then stays."""
        photo = self.photos[name]
        if photo.labels:
            return photo
        labelled = sum(photo.labels is not None for photo in self.photos.values())
        folders = Path(name).parent.parts
        split = split_of(folders)
        if not self._splits >= (OFFICIAL if split in OFFICIAL else {"train", "test"}):
            split = None  # a directory that only happens to have such a name
        split = split or ("val" if labelled % 5 == 1 else "train")
        copy, labels = paths_of(self.root, split, target_name(folders, photo.image.stem))
        return Photo(photo.image, labels, copy)

    def flush(self) -> None:
        """Wait until all labelled photographs are in the data set; before a training.

        Raises OSError or ValueError for one that could not be written or read.
        """
        self.save()
        wait(self._copies)
        for photo in self.photos.values():
            if photo.copy and not photo.copy.exists():  # after an error, or a kernel's sudden end
                write_copy(photo)

    def set_done(self, name: str, done: bool) -> None:
        """Mark a photograph as finished, or as not."""
        with self._lock:
            self._check_open()
            (self.done.add if done else self.done.discard)(name)
            self.save_record()

    def set_order(self, order: list[str]) -> None:
        """Show photographs in this order, then all others.

        The first is opened, unless the user was labelling another, which is not done yet.
        """
        with self._lock:
            self.order = list(dict.fromkeys([*order, *self.order]))
            if not self._was_open or self.at in self.done or not self.is_labelled(self.at):
                self.at = self.order[0]
            self.save_record()

    def is_labelled(self, name: str) -> bool:
        """Whether a photograph has a mask, even of a single pixel."""
        return self.photos[name].labels is not None

    def _check_open(self) -> None:
        """Raise BlockingIOError if this session was closed, as by a cell that was run again."""
        if _open.get(self.root.resolve()) is not self:
            raise BlockingIOError(
                f"{self.root} was opened again by another cell: run this cell again, too, or go on "
                "in the newer widget; what was drawn here since is not lost"
            )

    def close(self) -> None:
        """Save what is not saved, and let another notebook go on."""
        try:
            self.flush()
        finally:
            self._writer.shutdown(wait=False)
            self._held.close()
            if _open.get(self.root.resolve()) is self:
                del _open[self.root.resolve()]


def write_copy(photo: Photo) -> None:
    """Write a photograph into the data set: an 8-bit RGB PNG, upright."""
    photo.copy.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(photo.copy, as_png(photo.image))


def read_record(path: Path) -> dict:
    """What a session keeps beside the masks; {} if there is none. Raises ValueError if damaged."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete it; the masks stay, only the order of the "
            "photographs and what was marked as done are lost"
        ) from error
