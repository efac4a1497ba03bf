"""Which images and which masks of two directories belong together, by names or by --pairs."""

import re
from collections import Counter, defaultdict
from pathlib import Path

from data_io.image_io import IMAGE_SUFFIXES, why_unread
from data_io.layout import IMAGE
from data_io.walk import kinds_of, left_out, walk
from prepare.masks import what_is
from prepare.splits import Pair, official_splits, split_above, split_of

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
Found = tuple[dict[Key, list[Path]], dict[Key, list[tuple[Path, str]]], list[str]]


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
    found = _by_pattern(images, masks, pattern) if pattern else _by_names(images, masks)
    of_images, of_masks, notes = found
    pairs, without, above = [], [], split_above(images)
    for key, (path, *twins) in of_images.items():
        if twins:
            raise ValueError(
                f"{path} and {twins[0]} are images of one name: rename one, to "
                f"{path.stem}_mask{twins[0].suffix} if it is the mask of the other"
            )
        folders = path.relative_to(images).parent.parts
        split = split_of(folders) or above
        if key in of_masks:
            mask, ending = _only(of_masks[key], str(key[-1]), wanted)
            split = split or split_of(mask.relative_to(masks).parent.parts)
            pairs.append(Pair(path, mask, _stem(path), folders, ENDINGS[ending], split))
        else:
            without.append((path, split))
    if lacking := [path for path, split in without if split != "test"]:
        how = f"fits --pairs '{pattern}'" if pattern else _names_of(lacking[0], of_masks)
        raise ValueError(listing(f"images without a mask: in {masks}, none {how}", lacking))
    if not pairs:
        raise ValueError(f"none of the images in {images} has a mask in {masks}")
    kinds = {pair.hint: str(pair.mask) for pair in pairs}
    if len(kinds) > 1:
        raise ValueError(
            f"the masks are of several kinds, such as {' and '.join(kinds.values())}: "
            "leave only those of one kind in the directory"
        )
    if without:
        notes.append(f"note: images of test without a mask, which are left out: {len(without)}")
    if lone := [files[0][0] for key, files in of_masks.items() if key not in of_images]:
        notes.append("warning: " + listing("masks without an image, which are left out", lone))
    return official_splits(pairs, above, [images, images.parent, masks.parent]), notes


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
    of_suffix = defaultdict(list)
    for path in walk(directory, images):
        suffix = path.suffix.lower()
        if not INSTANCES.search(path.stem):
            of_suffix["" if suffix in IMAGE_SUFFIXES else suffix].append(path)
    if images.resolve() == directory.resolve():
        of_suffix[""] = [path for path in of_suffix[""] if split_name(path, set())[1]]
    for suffix in ("", ".npy", ".json"):
        if of_suffix[suffix] and not what_is(of_suffix[suffix][0]):
            return of_suffix[suffix]
    others = [path for suffix, paths in of_suffix.items() if suffix for path in paths]
    there = f", but {kinds_of(others)}" if others else ""
    known = [what_is(paths[0]) for paths in of_suffix.values() if paths]
    cure = "; ".join(filter(None, known)) or "correct the path"
    raise ValueError(f"{directory} holds no mask of a form that is read{there}: {cure}")


# By names


def _by_names(images: Path, masks: Path) -> Found:
    """The images of each key, the masks with the endings of their names, and notes."""
    files, others = images_in(images, masks)
    mask_files = _masks_in(masks, images)
    if images.resolve() == masks.resolve():  # with annotations, which are no images
        files = sorted({*files} - {*mask_files})
        others = [path for path in others if path.suffix.lower() not in (".json", ".csv", ".txt")]
    of_images, of_masks, stems = defaultdict(list), defaultdict(list), {*map(_stem, files)}
    for path in files:
        of_images[path.parent.relative_to(images), _stem(path)].append(path)
    for path in mask_files:
        stem, ending = split_name(path, stems)
        of_masks[path.parent.relative_to(masks), stem].append((path, ending))
    if all(len({stem for _, stem in found}) == len(found) for found in (of_images, of_masks)):
        of_images = {(None, stem): paths for (_, stem), paths in of_images.items()}
        of_masks = {(None, stem): paths for (_, stem), paths in of_masks.items()}
    why = why_unread(others, "Pillow does not read them")
    return of_images, of_masks, left_out(images, others, why)


def _stem(path: Path) -> str:
    return path.stem.removesuffix(Path(IMAGE).stem)


def split_name(path: Path, stems: set[str]) -> tuple[str, str]:
    """The stem of a mask's image, and the ending of the mask's name, one of `ENDINGS`.

    stems: of the images; a mask whose name is one of them has no ending.
    """
    name = Path(path.stem)
    if name.suffix.lower() in IMAGE_SUFFIXES and name.stem in stems:  # street.jpg.png
        return name.stem, ""
    if path.stem in stems:
        return path.stem, ""
    ending = max(filter(path.stem.endswith, ENDINGS), key=len)
    return GROUND_TRUTH.sub("", path.stem.removesuffix(ending)), ending


def _names_of(path: Path, of_masks: dict[Key, list]) -> str:
    """What an image's mask may be called."""
    stem, often = _stem(path), Counter(name for _, name in of_masks)
    twins = [files[0][0] for (_, name), files in of_masks.items() if often[name] > 1][:2]
    where = (
        " (in the same subdirectory, as {} and {} have one name)".format(*twins) if twins else ""
    )
    return (
        f"is called{where} {stem}, {stem}_mask or with another known ending "
        f"({', '.join(filter(None, ENDINGS))}); other names can be told with --pairs, such as "
        f"--pairs 'X{path.suffix}=X_gt.png'"
    )


def _only(files: list[tuple[Path, str]], stem: str, wanted: str | None) -> tuple[Path, str]:
    """The mask that is meant of an image's. Raises ValueError where that is not known."""
    files = [each for each in files if wanted and ENDINGS[each[1]] == wanted] or files
    files = [each for each in files if ENDINGS[each[1]] != "colors"] or files
    endings = [ending for _, ending in files]
    known = len({*endings}) == len(endings) and all(e.startswith(SIDE_BY_SIDE) for e in endings)
    if len(files) > 1 and not known:
        example = files[0][0].name.replace(stem, "X")
        fault = (
            f"masks of one image, {stem}, of which it is not known which is meant: tell with "
            f"--pairs, such as --pairs 'X.jpg={example}', or move the others elsewhere"
        )
        raise ValueError(listing(fault, [path for path, _ in files]))
    return min(files, key=lambda each: [*ENDINGS].index(each[1]))


# By --pairs


def _by_pattern(images: Path, masks: Path, pattern: str) -> Found:
    """As `_by_names`, the keys being the common parts of the paths that fit the two sides."""
    found, unfit = [], []
    kinds = IMAGE_SUFFIXES, {*IMAGE_SUFFIXES, ".npy", ".json"}
    for directory, side, suffixes in zip(
        (images, masks), parse_pattern(pattern), kinds, strict=True
    ):
        of_key, others = defaultdict(list), []
        for path in walk(directory):
            if path.suffix.lower() in suffixes:
                match = side.fullmatch(path.relative_to(directory).as_posix())
                (of_key[match.groups()] if match else others).append(path)
        if not of_key:
            example = f", it holds such as {others[0].relative_to(directory)}" if others else ""
            raise ValueError(f"nothing in {directory} fits --pairs '{pattern}'{example}")
        found.append(of_key)
        unfit.append(others)
    of_images, of_masks = found
    of_masks = {
        key: [(path, split_name(path, set())[1]) for path in paths]
        for key, paths in of_masks.items()
    }
    unfit = {*unfit[0]} - {path for paths in found[1].values() for path in paths}
    return of_images, of_masks, left_out(images, unfit, f"they do not fit --pairs '{pattern}'")


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
