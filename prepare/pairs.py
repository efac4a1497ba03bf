"""Which images and which masks of two directories belong together, by names or by --pairs."""

import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from data_io.image_io import IMAGE_SUFFIXES, why_unread
from data_io.layout import IMAGE
from data_io.walk import kinds_of, left_out, walk
from prepare.polygons import what_is
from prepare.splits import listed_splits, split_above, split_of

ENDINGS = {  # of masks' names, the best first -> one of `meaning.LABELS` if the name tells it
    "_labelIds": None,  # of Cityscapes, CVAT and datumaro: ids of any classes
    "_labelcsIds": "cityscapes",  # IDD
    "_labelTrainIds": "train-ids",
    "_labelcsTrainIds": "train-ids",
    "_train_id": "train-ids",  # BDD100K, formerly
    "_labelids": "ids",  # IDD, of its own classes
    "_labellevel3Ids": "ids",
    "": None,
    "_mask": None,
    "_L": None,  # CamVid
    "_train_color": "colors",
    "_labelColor": "colors",  # ACDC
    "_color": "colors",
}
SIDE_BY_SIDE = "_label"  # endings that begin so are of one tool, which writes several for an image
GROUND_TRUTH = re.compile(r"_gt(Fine|Coarse)?$")
INSTANCES = re.compile(r"_(instance|panoptic)\w*ids$", re.IGNORECASE)  # are no classes
EXAMPLES = 10  # files named per kind of fault
Key = tuple  # (directory or None, stem), or the common parts of --pairs


class Pair(NamedTuple):
    image: Path
    mask: Path
    stem: str  # of the image's name
    folders: tuple[str, ...]  # from the directory of the images to the image
    hint: str | None = None  # of `ENDINGS`
    split: str | None = None  # by the directories or lists of the tree
    is_official: bool = False  # the tree has train and val


class Mask(NamedTuple):
    path: Path
    key: Key
    ending: str


def find_pairs(
    images: Path, masks: Path, wanted: str | None = None, pattern: str | None = None
) -> tuple[list[Pair], list[str]]:
    """The images with their masks, and notes on what is left out.

    The names pair them, if each is there once; else the paths below the two directories.

    Args:
        images, masks: the directories; one may lie in the other, or be it.
        wanted: of several masks of an image, the kind to take, one of `meaning.LABELS`.
        pattern: how names and paths fit together, see `parse_pattern`.

    Raises OSError or ValueError, with up to ten files, for an image without a mask, for images of
    one name, for several masks of which none is known to be meant, and for masks of several kinds.
    """
    keys, found, notes = (
        _by_pattern(images, masks, pattern) if pattern else _by_names(images, masks)
    )
    _refuse_twins(keys)
    chosen = _choose(found, wanted)
    above = split_above(images)
    pairs, without, tests = [], [], 0
    for path, key in keys.items():
        folders, mask = path.relative_to(images).parent.parts, chosen.get(key)
        split = split_of(folders) or above
        if mask is not None:
            split = split or split_of(mask.path.relative_to(masks).parent.parts)
            hint = ENDINGS[mask.ending]
            pairs.append(Pair(path, mask.path, _stem(path), folders, hint, split))
        elif split == "test":
            tests += 1
        else:
            without.append(path)
    if without:
        raise ValueError(_no_mask_for(without, masks, chosen, pattern))
    if not pairs:
        raise ValueError(f"none of the images in {images} has a mask in {masks}")
    kinds = {pair.hint: str(pair.mask) for pair in pairs}
    if len(kinds) > 1:
        raise ValueError(
            f"the masks are of several kinds, such as {' and '.join(kinds.values())}: "
            "leave only those of one kind in the directory"
        )
    if tests:
        notes.append(f"note: images of a test split without a mask, which are left out: {tests}")
    if lone := [chosen[key].path for key in sorted(chosen.keys() - {*keys.values()}, key=str)]:
        notes.append("warning: " + listing("masks without an image, which are left out", lone))
    splits = [pair.split for pair in pairs]
    if not above and not {"train", "val"} <= {*splits}:
        splits = listed_splits(pairs, [images, images.parent, masks.parent])
    if splits is not None:
        pairs = [
            pair._replace(split=split, is_official=True)
            for pair, split in zip(pairs, splits, strict=True)
        ]
    return pairs, notes


# The files of the two directories


def images_in(directory: Path, without: Path) -> tuple[list[Path], list[Path]]:
    """The images below a directory, and its other files. Raises ValueError if there is no image."""
    files = walk(directory, without)
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    others = [path for path in files if path.suffix.lower() not in IMAGE_SUFFIXES]
    if not images:
        cure = why_unread(others, "correct the path, or convert them to PNG")
        there = f", but {kinds_of(others)}" if others else ""
        raise ValueError(f"{directory} holds no image of a format that Pillow reads{there}: {cure}")
    return images, others


def _masks_in(directory: Path, images: Path) -> list[Path]:
    """The masks below a directory: its pictures, else numpy's arrays, else labelme's JSON.

    Beside their images, pictures are masks by the endings of their names. Raises ValueError, by
    what is there, if there is no mask.
    """
    files = [path for path in walk(directory, images) if not INSTANCES.search(path.stem)]
    pictures = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    others = [path for path in files if path.suffix.lower() not in IMAGE_SUFFIXES]
    if images.resolve() == directory.resolve():
        pictures = [path for path in pictures if split_name(path, set())[1]]
    of_suffix = defaultdict(list)
    for path in others:
        of_suffix[path.suffix.lower()].append(path)
    for masks in (pictures, of_suffix[".npy"], of_suffix[".json"]):
        if masks and not what_is(masks[0]):
            return masks
    there = f", but {kinds_of(others)}" if others else ""
    known = filter(None, [what_is(paths[0]) for paths in of_suffix.values() if paths])
    cure = "; ".join(known) or "correct the path"
    raise ValueError(f"{directory} holds no mask of a form that is read{there}: {cure}")


# By names


def _by_names(images: Path, masks: Path) -> tuple[dict[Path, Key], list[Mask], list[str]]:
    """The key of each image, the masks with theirs, and notes on what is left out."""
    of_images, others = images_in(images, masks)
    of_masks = _masks_in(masks, images)
    if images.resolve() == masks.resolve():
        of_images = sorted({*of_images} - {*of_masks})
        others = [path for path in others if path.suffix.lower() not in (".json", ".csv", ".txt")]
    keys = {path: (path.parent.relative_to(images), _stem(path)) for path in of_images}
    stems, found = {stem for _, stem in keys.values()}, []
    for path in of_masks:
        stem, ending = split_name(path, stems)
        found.append(Mask(path, (path.parent.relative_to(masks), stem), ending))
    if _are_distinct({*keys.values()}) and _are_distinct({mask.key for mask in found}):
        keys = {path: (None, stem) for path, (_, stem) in keys.items()}
        found = [mask._replace(key=(None, mask.key[1])) for mask in found]
    notes = left_out(images, others, why_unread(others, "Pillow does not read them"))
    return keys, found, notes


def _are_distinct(keys: set[Key]) -> bool:
    return len({stem for _, stem in keys}) == len(keys)


def _stem(path: Path) -> str:
    return path.stem.removesuffix(Path(IMAGE).stem)


def split_name(path: Path, stems: set[str]) -> tuple[str, str]:
    """The stem of a mask's image, and the ending of the mask's name, one of `ENDINGS`.

    stems: of the images; a mask whose name is one of them has no ending.
    """
    if path.stem in stems:
        return path.stem, ""
    name = Path(path.stem)
    if name.suffix.lower() in IMAGE_SUFFIXES and name.stem in stems:  # street.jpg.png
        return name.stem, ""
    ending = max(filter(path.stem.endswith, ENDINGS), key=len)
    return GROUND_TRUTH.sub("", path.stem.removesuffix(ending)), ending


# By --pairs


def _by_pattern(
    images: Path, masks: Path, pattern: str
) -> tuple[dict[Path, Key], list[Mask], list[str]]:
    """As `_by_names`, the keys being the common parts of the paths that fit the two sides."""
    found, unfit = [], []
    of_masks = {*IMAGE_SUFFIXES, ".npy", ".json"}
    sides = zip((images, masks), parse_pattern(pattern), (IMAGE_SUFFIXES, of_masks), strict=True)
    for directory, side, suffixes in sides:
        files = [path for path in walk(directory) if path.suffix.lower() in suffixes]
        matches = {path: side.fullmatch(path.relative_to(directory).as_posix()) for path in files}
        found.append({path: match.groups() for path, match in matches.items() if match})
        unfit.append([path for path, match in matches.items() if not match])
        if not found[-1]:
            example = f", it holds such as {files[0].relative_to(directory)}" if files else ""
            raise ValueError(f"nothing in {directory} fits --pairs '{pattern}'{example}")
    keys, mask_keys = found
    unfit = [path for path in unfit[0] if path not in mask_keys]
    found = [Mask(path, key, split_name(path, set())[1]) for path, key in mask_keys.items()]
    return keys, found, left_out(images, unfit, f"they do not fit --pairs '{pattern}'")


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


# One mask for each image


def _choose(found: list[Mask], wanted: str | None) -> dict[Key, Mask]:
    """The mask of each key. Raises ValueError where it is not known which of several is meant."""
    of_key, chosen = defaultdict(list), {}
    for mask in found:
        of_key[mask.key].append(mask)
    for key, masks in of_key.items():
        masks = [mask for mask in masks if wanted and ENDINGS[mask.ending] == wanted] or masks
        masks = [mask for mask in masks if ENDINGS[mask.ending] != "colors"] or masks
        endings = [mask.ending for mask in masks]
        known = len({*endings}) == len(endings) and all(e.startswith(SIDE_BY_SIDE) for e in endings)
        if len(masks) > 1 and not known:
            name = masks[0].path.name.replace(str(key[-1]), "X")
            raise ValueError(
                listing(
                    f"masks of one name, {key[-1]}, of which it is not known which is meant: tell "
                    f"with --pairs, such as --pairs 'X.jpg={name}', or move the others away",
                    [mask.path for mask in masks],
                )
            )
        chosen[key] = min(masks, key=lambda mask: [*ENDINGS].index(mask.ending))
    return chosen


def _no_mask_for(
    without: list[Path], masks: Path, chosen: dict[Key, Mask], pattern: str | None
) -> str:
    """What is wrong with images without a mask: what lies there instead, and the cure."""
    if pattern:
        return listing(f"images whose mask, by --pairs '{pattern}', is not in {masks}", without)
    stem, first = _stem(without[0]), {}
    for (_, name), mask in chosen.items():
        if (other := first.setdefault(name, mask)) is not mask:
            fault = (
                f"images without a mask in the same subdirectory of {masks}, which decides since "
                f"{other.path} and {mask.path} have the same name: rename one, or tell with --pairs"
            )
            return listing(fault, without)
    fault = (
        f"images without a mask: below {masks}, none is called {stem}, {stem}_mask or with another "
        f"known ending ({', '.join(filter(None, ENDINGS))}); other names can be told with --pairs, "
        f"such as --pairs 'X{without[0].suffix}=X_gt.png'"
    )
    return listing(fault, without)


def _refuse_twins(keys: dict[Path, Key]) -> None:
    first = {}
    for path, key in keys.items():
        if (other := first.setdefault(key, path)) is not path:
            raise ValueError(
                f"{other} and {path} are images of one name: rename one, to "
                f"{path.stem}_mask{path.suffix} if it is the mask of the other"
            )


def listing(fault: str, files: list) -> str:
    """A text that counts the files of a fault, and names the first ten."""
    more = [f"and {len(files) - EXAMPLES:,} more"] if len(files) > EXAMPLES else []
    return "\n    ".join([f"{len(files):,} {fault}", *map(str, files[:EXAMPLES]), *more])
