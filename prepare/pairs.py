"""Images and their masks in two directories: which belong together, and their new names."""

import re
import zlib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from data_io.image_io import HEIF_SUFFIXES, IMAGE_SUFFIXES, NEEDS_HEIF
from data_io.layout import IMAGE
from data_io.walk import kinds_of, left_out, walk
from prepare.polygons import what_is
from prepare.splits import SPLITS, listed_splits, split_above, split_of


class Ending(NamedTuple):
    """What the end of a mask's name says.

    Attributes:
        hint: of the values, for `masks.interpret`.
        family: endings of one family are known to lie side by side, the first in `ENDINGS` being
            the best; of others, only one may be there. Colours lie beside any.
    """

    hint: str | None = None
    family: str = ""


ENDINGS = {
    "_labelIds": Ending("ids", "cityscapes"),  # also of CVAT and datumaro, of any classes
    "_labelcsIds": Ending("cityscapes", "cityscapes"),  # IDD
    "_labelTrainIds": Ending("train-ids", "cityscapes"),
    "_labelcsTrainIds": Ending("train-ids", "cityscapes"),
    "_train_id": Ending("train-ids", "bdd"),  # BDD100K, formerly
    "_labelids": Ending("own", "cityscapes"),
    "_labellevel3Ids": Ending("own", "cityscapes"),
    "": Ending(),
    "_mask": Ending(),
    "_L": Ending(),  # CamVid
    "_train_color": Ending("colors", "bdd"),
    "_labelColor": Ending("colors", "cityscapes"),  # ACDC
    "_color": Ending("colors", "cityscapes"),
}
IMAGE_ENDING = Path(IMAGE).stem
GROUND_TRUTH = re.compile(r"_gt(Fine|Coarse)?$")
INSTANCES = re.compile(r"_(instance|panoptic)\w*ids$", re.IGNORECASE)  # are no classes
EXAMPLES = 10  # files named per kind of fault
Key = tuple  # the directory and the stem of an image, or the common parts of --pairs


class Pair(NamedTuple):
    image: Path
    mask: Path
    stem: str  # of the image's name
    folders: tuple[str, ...]  # from the directory of the images to the image
    hint: str | None  # of `ENDINGS`
    split: str | None = None  # by the directories or lists of the tree
    is_official: bool = False  # the tree has train and val


class Item(NamedTuple):
    """A pair, its split, and the two files that it becomes, the image written last."""

    pair: Pair
    split: str
    image: Path
    labels: Path

    def is_done(self) -> bool:
        """Whether the files are there, with the times of change of their sources.

        A source may be replaced by an older file, which `mv` or `unzip` leave its time.
        """
        try:
            return all(
                made.stat().st_mtime_ns == source.stat().st_mtime_ns
                for made, source in ((self.image, self.pair.image), (self.labels, self.pair.mask))
            )
        except FileNotFoundError:
            return False


def find_pairs(
    images: Path, labels: Path, wanted: str | None = None, pattern: str | None = None
) -> tuple[list[Pair], list[str]]:
    """The images with their masks, and notes on what is left out.

    The names pair them, if each is there once; else the paths below the two directories.

    Args:
        images, labels: the directories of images and masks; one may lie in the other, or be it.
        wanted: of several masks of an image, the kind to take, a hint of `ENDINGS`.
        pattern: how names and paths fit together, see `parse_pattern`.

    Raises OSError or ValueError, with up to ten files, for an image without a mask, for images or
    masks of one name, for several masks of which none is known to be meant, and for masks of
    several kinds.
    """
    if pattern:
        keys, chosen, notes = _by_pattern(images, labels, pattern)
    else:
        keys, chosen, notes = _by_names(images, labels, wanted)
    _refuse_twins(keys, "images")
    return _paired(keys, chosen, images, labels, notes)


def _by_names(images: Path, labels: Path, wanted: str | None) -> tuple:
    """The key of each image, (directory, stem); the mask and its ending of each key; and notes."""
    of_images, others = images_in(images, labels)
    of_labels, others_there = _masks_in(labels, images)
    if images.resolve() == labels.resolve():
        of_images = sorted({*of_images} - {*of_labels})
    if not of_labels:
        raise ValueError(_no_masks(labels, others_there))
    keys = {path: (path.parent.relative_to(images), _stem(path)) for path in of_images}
    chosen = _choose(of_labels, labels, {stem for _, stem in keys.values()}, wanted)
    why = NEEDS_HEIF if _are_heif(others) else "Pillow does not read them"
    return keys, _by_stem(keys, chosen), left_out(images, others, why)


def _by_pattern(images: Path, labels: Path, pattern: str) -> tuple:
    """As `_by_names`, the keys being the common parts of the paths that fit the two sides."""
    found = []
    for directory, side in zip((images, labels), parse_pattern(pattern), strict=True):
        files = walk(directory)
        files = [
            path for path in files if path.suffix.lower() in (*IMAGE_SUFFIXES, ".npy", ".json")
        ]
        keys = {path: side.fullmatch(path.relative_to(directory).as_posix()) for path in files}
        fitting = {path: match.groups() for path, match in keys.items() if match}
        if not fitting:
            example = f", it holds such as {files[0].relative_to(directory)}" if files else ""
            raise ValueError(f"nothing in {directory} fits --pairs '{pattern}'{example}")
        found.append((fitting, [path for path in files if path not in fitting]))
    (keys, unfit), (masks, _) = found
    _refuse_twins(masks, "masks")
    chosen = {key: (path, split_name(path, set())[1]) for path, key in masks.items()}
    unfit = [path for path in unfit if path not in masks]
    return keys, chosen, left_out(images, unfit, f"they do not fit --pairs '{pattern}'")


def _paired(
    keys: dict[Path, Key],
    chosen: dict[Key, tuple[Path, str]],
    images: Path,
    labels: Path,
    notes: list[str],
) -> tuple[list[Pair], list[str]]:
    """The pairs of equal keys, their splits, and the notes with those on the rest."""
    above = split_above(images)
    pairs, without = [], []
    for path, key in keys.items():
        mask, ending = chosen.get(key, (None, ""))
        folders = path.relative_to(images).parent.parts
        split = split_of(folders) or above
        if mask is not None:
            split = split or split_of(mask.relative_to(labels).parent.parts)
            pairs.append(Pair(path, mask, _stem(path), folders, ENDINGS[ending].hint, split))
        elif split != "test":
            without.append(path)
    if tests := len(keys) - len(pairs) - len(without):
        notes.append(f"note: images of a test split without a mask, which are left out: {tests}")
    if without:
        raise ValueError(_no_mask_for(without, labels, chosen))
    if not pairs:
        raise ValueError(f"none of the images in {images} has a mask in {labels}")
    known = {*keys.values()}
    if lone := [mask for key, (mask, _) in chosen.items() if key not in known]:
        notes.append("warning: " + listing("masks without an image, which are left out", lone))
    kinds = {pair.hint: pair.mask for pair in pairs}
    if len(kinds) > 1:
        raise ValueError(
            f"the masks are of several kinds, such as {' and '.join(map(str, kinds.values()))}: "
            "leave only those of one kind in the directory"
        )
    splits = {pair.split for pair in pairs}
    if above or {"train", "val"} <= splits:
        pairs = [pair._replace(is_official=True) for pair in pairs]
    elif lists := listed_splits(pairs, [images, images.parent, labels.parent]):
        pairs = [
            pair._replace(split=split, is_official=True)
            for pair, split in zip(pairs, lists, strict=True)
        ]
    return pairs, notes


# Files


def images_in(directory: Path, without: Path) -> tuple[list[Path], list[Path]]:
    """The images below a directory, and its other files. Raises ValueError if there is no image."""
    files = walk(directory, without)
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    others = [path for path in files if path.suffix.lower() not in IMAGE_SUFFIXES]
    if not images:
        there = f", but {kinds_of(others)}" if others else ""
        cure = NEEDS_HEIF if _are_heif(others) else "correct the path, or convert them to PNG"
        raise ValueError(f"{directory} holds no image of a format that Pillow reads{there}: {cure}")
    if without.resolve() == directory.resolve():  # with annotations, which are no images
        others = [path for path in others if path.suffix.lower() not in (".json", ".csv", ".txt")]
    return images, others


def _masks_in(directory: Path, images: Path) -> tuple[list[Path], list[Path]]:
    """The masks below a directory, pictures, else numpy's arrays, else JSON; else other files.

    Beside their images, pictures are masks by the endings of their names.
    """
    files = walk(directory, images)
    are_mixed = images.resolve() == directory.resolve()
    for suffixes in (IMAGE_SUFFIXES, {".npy"}, {".json"}):
        masks = [path for path in files if path.suffix.lower() in suffixes]
        masks = [path for path in masks if not INSTANCES.search(path.stem)]
        if suffixes is IMAGE_SUFFIXES and are_mixed:
            masks = [path for path in masks if split_name(path, set())[1]]
        if masks and not (".json" in suffixes and what_is(masks[0])):
            return masks, []
    return [], [path for path in files if path.suffix.lower() not in IMAGE_SUFFIXES]


def _no_masks(directory: Path, files: list[Path]) -> str:
    forms = {path.suffix: what_is(path) for path in files}
    known = " ".join(f"The *{suffix} are {form}." for suffix, form in forms.items() if form)
    there = f", but {kinds_of(files)}" if files else ""
    return (
        f"{directory} holds no mask of a form that is read{there}. {known or 'Correct the path.'}"
    )


def _are_heif(paths: list[Path]) -> bool:
    return any(path.suffix.lower() in HEIF_SUFFIXES for path in paths)


# Names


def _stem(path: Path) -> str:
    return path.stem.removesuffix(IMAGE_ENDING)


def split_name(path: Path, stems: set[str]) -> tuple[str, str]:
    """The stem of a mask's image, and the ending of the mask's name, one of `ENDINGS`.

    stems: of the images; a mask whose name is one of them has no ending.
    """
    if path.stem in stems:
        return path.stem, ""
    name = Path(path.stem)
    if name.suffix.lower() in IMAGE_SUFFIXES and name.stem in stems:  # street.jpg.png
        return name.stem, ""
    fitting = [ending for ending in ENDINGS if path.stem.endswith(ending)]
    ending = max(fitting, key=len)
    return GROUND_TRUTH.sub("", path.stem.removesuffix(ending)), ending


def _choose(
    paths: list[Path], labels: Path, stems: set[str], wanted: str | None
) -> dict[Key, tuple[Path, str]]:
    """(directory, stem) -> its mask, and the ending of its name."""
    found = defaultdict(list)
    for path in paths:
        stem, ending = split_name(path, stems)
        found[path.relative_to(labels).parent, stem].append((path, ending))
    return {key: _only(files, key, wanted) for key, files in found.items()}


def _only(files: list[tuple[Path, str]], key: Key, wanted: str | None = None) -> tuple[Path, str]:
    """The one of several masks that is meant. Raises ValueError where that is not known."""
    if wanted and any(ENDINGS[ending].hint == wanted for _, ending in files):
        files = [each for each in files if ENDINGS[each[1]].hint == wanted]
    labels = [each for each in files if ENDINGS[each[1]].hint != "colors"] or files
    families = {ENDINGS[ending].family for _, ending in labels}
    endings = [ending for _, ending in labels]
    if len(labels) > 1 and (len(families) > 1 or "" in families or len({*endings}) < len(endings)):
        raise ValueError(
            listing(
                f"masks of one name, {key[-1]}, of which it is not known which is meant: say it "
                f"with --pairs, such as --pairs 'X.jpg={labels[0][0].name.replace(key[-1], 'X')}', "
                "or move the others elsewhere",
                [path for path, _ in labels],
            )
        )
    order = list(ENDINGS)
    return min(labels, key=lambda each: order.index(each[1]))


def _by_stem(
    keys: dict[Path, Key], chosen: dict[Key, tuple[Path, str]]
) -> dict[Key, tuple[Path, str]]:
    """Masks under the keys of their images: by the stem alone, if each is there once."""
    stems = {stem for _, stem in keys.values()}
    by_stem = {stem: found for (_, stem), found in chosen.items()}
    if len(stems) < len(keys) or len(by_stem) < len(chosen):
        return chosen
    paired = {key: by_stem.pop(key[1]) for key in keys.values() if key[1] in by_stem}
    return paired | {(None, stem): found for stem, found in by_stem.items()}


def _no_mask_for(without: list[Path], labels: Path, chosen: dict[Key, tuple[Path, str]]) -> str:
    """What is wrong with images without a mask: what lies there instead, and the cure."""
    by_name = defaultdict(list)
    for key, (mask, _) in chosen.items():
        by_name[key[-1]].append(mask)
    twin = next((name for name, masks in by_name.items() if len(masks) > 1), None)
    if twin:
        return listing(
            f"images without a mask in the same subdirectory of {labels}, which decides since "
            f"{by_name[twin][0]} and {by_name[twin][1]} could both be of {twin}: remove or rename "
            "one, or say which with --pairs",
            without,
        )
    stem = _stem(without[0])
    like = next((masks[0] for name, masks in by_name.items() if stem in name), None)
    example = like.name.replace(stem, "X") if like else "X_other.png"
    return listing(
        f"images without a mask: below {labels}, none is called {stem}, {stem}_mask or with "
        f"another known ending ({', '.join(filter(None, ENDINGS))}); other names can be told with "
        f"--pairs, such as --pairs 'X{without[0].suffix}={example}'",
        without,
    )


def _refuse_twins(keys: dict[Path, Key], what: str) -> None:
    first = {}
    for path, key in keys.items():
        if key in first:
            advice = f", to {path.stem}_mask{path.suffix} if it is the mask of the other"
            raise ValueError(
                f"{first[key]} and {path} are {what} of one name: rename one"
                + (advice if what == "images" else "")
            )
        first[key] = path


# --pairs


def parse_pattern(text: str) -> tuple[re.Pattern, re.Pattern]:
    """Of `X_rgb.png=X_gt.png`, how an image's and a mask's path look below their directories.

    X stands for the common part, which may hold directories; each `*` for a further one, in which
    there is no slash, the first of the one side for the first of the other, and so on. Before
    that, both paths may have the same directories. Where a side has no suffix, any will do.
    Raises ValueError for anything else.
    """
    sides = text.replace("\\", "/").split("=")
    holes = [re.findall(r"[X*]", side) for side in sides]
    if len(sides) != 2 or "X" not in holes[0] or holes[0] != holes[1]:
        raise ValueError(
            f"--pairs '{text}' must be two names with the same X and * in the same order, such as "
            "'X_rgb.png=X_gt.png' or 'images/X.jpg=masks/X.png'"
        )
    found = []
    for side in sides:
        suffix = "" if Path(side).suffix else r"\.\w+"
        parts = re.escape(side.strip("/ ")).replace("X", "(.+)").replace(r"\*", "([^/]*)")
        found.append(re.compile(rf"((?:.*?/)??){parts}{suffix}"))
    return found[0], found[1]


def listing(fault: str, files: list) -> str:
    """A text that counts the files of a fault, and names the first ten."""
    more = [f"and {len(files) - EXAMPLES:,} more"] if len(files) > EXAMPLES else []
    return "\n    ".join([f"{len(files):,} {fault}", *map(str, files[:EXAMPLES]), *more])


# New names


def target_name(pair: Pair) -> str:
    """`<city>/<city>_<seq>_<frame>` of a pair, which depends on nothing but its own path.

    The city is the directories of the image, or `own`; a name that is `<city>_<seq>_<frame>` stays
    as it is. Where other characters than letters, digits and hyphens are replaced, a checksum as
    the sequence keeps names apart.
    """
    folders = [name for name in pair.folders if name.lower() not in SPLITS]
    path = "/".join([*(folders or ["own"]), pair.stem])
    city, frame = (re.sub(r"[\W_]+", "-", p) for p in ("/".join(folders) or "own", pair.stem))
    parts = pair.stem.split("_")
    if len(parts) == 3 and all(parts) and (not folders or parts[0] == city):
        if all(re.sub(r"[\W_]+", "-", part) == part for part in parts):
            return f"{parts[0]}/{pair.stem}"
    sequence = 0 if path == f"{city}/{frame}" else zlib.crc32(path.encode()) % 10**6
    return f"{city}/{city}_{sequence:06d}_{frame}"


def plan(found: list[Pair], splits: list[str], dst: Path) -> list[Item]:
    """What is to be written. Raises ValueError where two pairs would become one file, or where an
    image is in another split of `dst`."""
    items, taken = [], {}
    for pair, split in zip(found, splits, strict=True):
        name = target_name(pair)
        image = dst / "leftImg8bit" / split / f"{name}{IMAGE}"
        other = taken.setdefault((split, name.casefold()), pair)
        if other is not pair:
            raise ValueError(f"{other.image} and {pair.image} would both be {image}: rename one")
        labels = dst / "gtFine" / split / f"{name}_gtFine_labelIds.png"
        items.append(Item(pair, split, image, labels))
    for item in items if (dst / "leftImg8bit").exists() else ():
        name = item.image.relative_to(dst / "leftImg8bit" / item.split)
        for split in {"train", "val", "test"} - {item.split}:
            planned = (split, name.as_posix().removesuffix(IMAGE).casefold()) in taken
            path = dst / "leftImg8bit" / split / name
            if not planned and path.exists() and not _is_namesake(item.pair, path):
                raise ValueError(
                    f"{item.pair.image} belongs to {item.split}, but was converted before to "
                    f"{path}: choose a new directory"
                )
    return items


def _is_namesake(pair: Pair, made: Path) -> bool:
    """Whether a file in another split is of another image, which official splits may name alike."""
    return pair.is_official and made.stat().st_mtime_ns != pair.image.stat().st_mtime_ns
