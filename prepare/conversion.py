"""What pairs become: files of Cityscapes' names, checked and then written, in threads."""

import os
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import ExifTags
from PIL.PngImagePlugin import PngInfo

from data_io.image_io import encode, jpeg_damage, open_image, read_image, to_rgb
from data_io.layout import IMAGE, list_split, paths_of
from prepare import masks
from prepare.inspection import size_text
from prepare.masks import Form
from prepare.meaning import Meaning
from prepare.pairs import listing
from prepare.splits import SPLITS, Pair
from runtime.console import in_threads
from runtime.files import atomic_write

TIME_UNITS = 1, 100, 1000, 10**7, 10**9, 2 * 10**9  # ns: ext4, NTFS, ..., HFS+, FAT
Say = Callable[[str], None]  # called with each line for the user
MOST_VALUES = 10_000  # of a mask in colours; photographs have more
MARK, BY_HAND = "labelled by hand", PngInfo()  # of the label files of `labeling.session`
BY_HAND.add_text("Source", MARK)


class Item(NamedTuple):
    """A pair, its split, and the two files that it becomes, the image written last."""

    pair: Pair
    split: str
    image: Path
    labels: Path
    pixels: Counter = Counter()  # of each value in the mask, once it was checked
    palette: dict[int, int] = {}  # noqa: RUF012 the colours of values that are indices of it
    is_kept: bool = False  # the labels were corrected by hand

    def is_done(self) -> bool:
        """Whether the files are there, as old as their sources, which older ones may replace."""
        files = (self.image, self.pair.image), (self.labels, self.pair.mask)
        try:
            return all(_are_as_old(*each) for each in files[: 2 - self.is_kept])
        except FileNotFoundError:
            return False


def _are_as_old(made: Path, source: Path) -> bool:
    """Whether a file has the time of its source, as far as its file system keeps it."""
    found, expected = made.stat().st_mtime_ns, source.stat().st_mtime_ns
    return any(found == expected // unit * unit for unit in TIME_UNITS)


def target_name(folders: tuple[str, ...], stem: str) -> str:
    """`<city>/<city>_<seq>_<frame>` of an image, which depends on nothing but its own path.

    The city is the directories of the image, or `own`; a name that is `<city>_<seq>_<frame>` stays
    as it is. Where other characters than letters, digits and hyphens are replaced, a checksum as
    the sequence keeps names apart.
    """
    folders = [name for name in folders if name.lower() not in SPLITS] or ["own"]
    path, parts = "/".join([*folders, stem]), stem.split("_")
    city, frame, *clean = (re.sub(r"[\W_]+", "-", p) for p in ("/".join(folders), stem, *parts))
    if len(parts) == 3 and all(parts) and parts == clean and city in ("own", parts[0]):
        return f"{parts[0]}/{stem}"
    data = path.encode(errors="surrogateescape")  # of names that are not UTF-8
    sequence = 0 if path == f"{city}/{frame}" else zlib.crc32(data) % 10**6
    return f"{city}/{city}_{sequence:06d}_{frame}"


def plan(pairs: list[Pair], splits: list[str], dst: Path) -> tuple[list[Item], list[str]]:
    """What is to be written, and notes on images of `dst` whose sources are gone.

    Raises ValueError where two pairs would become one file, or an image was in another split.
    """
    items, planned, sources, notes = [], {}, defaultdict(list), []
    for pair, split in zip(pairs, splits, strict=True):
        name = target_name(pair.folders, pair.stem)
        image, labels = paths_of(dst, split, name)
        if (other := planned.setdefault(str(image).casefold(), pair)) is not pair:
            raise ValueError(f"{other.image} and {pair.image} would both be {image}: rename one")
        items.append(Item(pair, split, image, labels))
        sources[name].append(pair.image)
    for split in ("train", "val", "test"):
        folder = dst / "leftImg8bit" / split
        old = {stem: folder / f"{stem}{IMAGE}" for stem in list_split(folder, IMAGE).stems}
        old = {stem: old[stem] for stem in sorted(old) if str(old[stem]).casefold() not in planned}
        if moved := [stem for stem in old if is_made_of(old[stem], sources[stem])]:
            raise ValueError(
                f"{len(moved):,} images were converted before to {folder}, such as {moved[0]}, and "
                "belong to another split now: choose a new directory"
            )
        if old and split in splits:
            notes.append(f"note: {len(old)} images in {folder} have no source now: {min(old)}")
    return items, notes


def is_made_of(made: Path, sources: list[Path]) -> bool:
    """Whether an image of a data set was made of one of these, which has not changed since."""
    alike = [each for each in sources if _are_as_old(made, each) or jpeg_damage(each)]
    return any(made.read_bytes() == as_png(each) for each in alike)


def check_all(items: list[Item], form: Form) -> list[Item]:
    """The items, checked. Raises ValueError for what is wrong with files."""
    check = partial(_check, form=form)
    return _for_all(check, items, "checking", "problems, and nothing was written")


def _check(item: Item, form: Form) -> Item:
    image, mask = item.pair.image, item.pair.mask
    item = item._replace(is_kept=_is_by_hand(item.labels))
    if item.is_kept and mask.stat().st_mtime_ns > item.labels.stat().st_mtime_ns:
        raise ValueError(
            f"{mask} is newer than {item.labels}, which was corrected by hand: delete the latter "
            "to have the mask converted again, or restore the mask of before"
        )
    values = masks.read_values(mask, form)
    counts = masks.count(values)
    if len(counts) > MOST_VALUES:  # else those of all masks would fill the memory
        raise ValueError(
            f"{mask} holds {len(counts):,} colours: correct the path if it is a photograph; if its "
            "edges were smoothed, have the nearest colours taken with --nearest-color"
        )
    size = values.shape if item.is_done() else tuple(read_image(image).shape[1:])
    if values.shape != size:
        raise ValueError(
            f"{mask} is {size_text(values.shape)}, but {image} is {size_text(size)} "
            "(upright, as its EXIF tag says): make them the same size, or remove both"
        )
    palette = enumerate([] if form.colors else masks.palette_of(mask))
    return item._replace(pixels=counts, palette={i: color for i, color in palette if i in counts})


def _is_by_hand(labels: Path) -> bool:
    """Whether `labeling.session` wrote a label file; reads its head alone."""
    if not labels.is_file():
        return False
    with open(labels, "rb") as file:
        return MARK.encode() in file.read(200)


def common_palette(items: list[Item], known: Collection, may_differ: bool) -> list[int | None]:
    """The colour of each index in masks that were checked; None where it occurs in none.

    known: of earlier masks. Raises ValueError for masks that differ, unless they may.
    """
    palette = {i: color for i, color in enumerate(known) if color is not None}
    for item in items:
        palette = item.palette | palette
        if not may_differ and not item.palette.items() <= palette.items():
            raise ValueError(
                f"{item.pair.mask} has other colours for its indices than other masks have: "
                "--labels colors reads the colours, --labels ids the indices"
            )
    return [palette.get(i) for i in range(max(palette, default=-1) + 1)]


def convert_all(items: list[Item], meaning: Meaning, say: Say) -> None:
    """Write the files of each item, unless it is done; label files corrected by hand stay.

    Says how many these are, and what `jpeg_damage` finds. Raises ValueError, at the end, for those
    that could not be written.
    """
    convert = partial(_convert, meaning=meaning)
    found = _for_all(convert, items, "converting", "images could not be converted")
    if kept := sum(item.is_kept for item in items):
        say(f"note: {kept:,} label files were corrected by hand, and are kept")
    if damaged := [*filter(None, found)]:
        say(listing(f"warning: {len(damaged):,} images are damaged", damaged))


def _convert(item: Item, meaning: Meaning) -> str:
    if item.is_done():
        return ""
    image, mask = item.pair.image, item.pair.mask
    damage = jpeg_damage(image)
    changed = {path: path.stat().st_mtime_ns for path in (image, mask)}  # before reading
    ids = masks.translate(masks.read_values(mask, meaning.form), meaning.ids)
    labels = encode(ids, compress_level=3)
    files = (item.labels, labels, mask), (item.image, as_png(image), image)
    for path, content, source in files[item.is_kept :]:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content)
        if not damage:  # else it is not done, so that the next call tells of it again
            os.utime(path, ns=(changed[source], changed[source]))
    return damage


def _for_all(function: Callable, items: list[Item], what: str, fault: str) -> list:
    """A function's results for all items. Raises ValueError with all that went wrong."""

    def attempt(item: Item) -> object:
        try:
            return function(item)
        except (OSError, ValueError) as error:
            return error

    results = in_threads(attempt, items, what)
    if faults := [each for each in results if isinstance(each, Exception)]:
        raise ValueError(listing(f"{len(faults):,} {fault}", faults))
    return results


def as_png(path: Path) -> bytes:
    """An image file as an 8-bit PNG, upright. Raises as `read_image`."""
    with open_image(path) as image:
        rgb = to_rgb(image)
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        as_it_is = image.format == "PNG" and image.mode in ("L", "RGB") and upright
    return path.read_bytes() if as_it_is else encode(rgb.permute(1, 2, 0).numpy(), compress_level=3)
