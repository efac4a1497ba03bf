"""Which images and which masks of two directories belong together, by names or by --pairs."""

import re
from collections import Counter, defaultdict
from pathlib import Path

from data_io.image_io import IMAGE_SUFFIXES, why_unread
from data_io.layout import IMAGE
from data_io.walk import but, left_out, walk
from prepare.masks import what_is
from prepare.splits import OFFICIAL, Pair, nfc, official_splits, split_above, split_of

ENDINGS = {  # of masks' names, the best first -> one of `meaning.LABELS` if the name says so
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
ENDING = Path(IMAGE).stem  # of the names of Cityscapes' images
EXAMPLES = 10  # files named per kind of fault
Groups = dict[tuple, list[Path]]  # (directory or None, stem), or the common parts -> files


def find_pairs(
    images: Path, masks: Path, wanted: str | None = None, pattern: str | None = None
) -> tuple[list[Pair], list[str]]:
    """The images with their masks, and notes on what is left out.

    Names pair them where each occurs once, else the paths below the two directories.

    Args:
        images, masks: the directories; one may be in the other, or be it.
        wanted: of several masks of an image, the kind to take, one of `meaning.LABELS`.
        pattern: how names and paths fit together, see `parse_pattern`.

    Raises OSError or ValueError, with up to ten files, for images without a mask beside masks
    without an image, for images of one name, for several masks of which none is known to be meant,
    and for masks of several kinds.
    """
    if pattern:
        of_images, of_masks, notes = _by_pattern(images, masks, pattern)
    else:
        of_images, of_masks, notes = _by_names(images, masks)
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
            mask, hint = _only(of_masks[key], str(key[-1]), wanted)
            split = split or split_of(mask.relative_to(masks).parent.parts)
            pairs.append(Pair(path, mask, path.stem.removesuffix(ENDING), folders, hint, split))
        else:
            without.append((path, split))
    lone = [paths[0] for key, paths in of_masks.items() if key not in of_images]
    lacking = [path for path, split in without if split != "test"]
    empty = {split for _, split in without} & OFFICIAL - {pair.split for pair in pairs}
    # Where all masks have their images, these were not labelled yet, unless it is a whole split.
    if lacking and (lone or empty or not pairs):
        how = f"fits --pairs '{pattern}'" if pattern else _names_of(lacking[0], of_masks)
        fault = f"{len(lacking):,} images without a mask: in {masks}, none {how}"
        raise ValueError(listing(fault, lacking))
    if not pairs:
        raise ValueError(f"none of the images in {images} has a mask in {masks}")
    kinds = {pair.hint: str(pair.mask) for pair in pairs}
    if len(kinds) > 1:
        raise ValueError(
            f"the masks are of several kinds, such as {' and '.join(kinds.values())}: "
            "leave only those of one kind in the directory"
        )
    if lacking:
        fault = f"warning: {len(lacking):,} images without a mask, which are left out"
        notes.append(listing(fault, lacking))
    if of_test := len(without) - len(lacking):
        notes.append(f"note: images of test without a mask, which are left out: {of_test}")
    if lone:
        fault = f"warning: {len(lone):,} masks without an image, which are left out"
        notes.append(listing(fault, lone))
    pairs, more = official_splits(pairs, above, [images, images.parent, masks.parent])
    return pairs, notes + more


def _only(paths: list[Path], stem: str, wanted: str | None) -> tuple[Path, str | None]:
    """The mask of an image, and its kind by its name. Raises ValueError where it is not known."""
    endings = {path: _ending(path, stem) for path in paths}
    paths = [path for path in paths if wanted and ENDINGS[endings[path]] == wanted] or paths
    paths = [path for path in paths if ENDINGS[endings[path]] != "colors"] or paths
    names = [endings[path] for path in paths]
    known = len({*names}) == len(names) and all(name.startswith(SIDE_BY_SIDE) for name in names)
    if len(paths) > 1 and not known:
        fault = (
            f"{len(paths)} masks of one image, {stem}, of which it is not known which is meant: "
            f"say so with --pairs, such as --pairs 'X.jpg={paths[0].name.replace(stem, 'X')}', or "
            "move the others elsewhere"
        )
        raise ValueError(listing(fault, paths))
    best = min(paths, key=lambda path: [*ENDINGS].index(endings[path]))
    return best, ENDINGS[endings[best]]


def _name(path: Path) -> str:
    """A file's name without suffix, in the one of Unicode's forms that all of them have here."""
    return nfc(path.stem)


def _stem(path: Path) -> str:
    return _name(path).removesuffix(ENDING)


def _ending(path: Path, stem: str = "") -> str:
    """What a mask's name has after that of its image, one of `ENDINGS`."""
    return "" if _name(path) == stem else max(filter(path.stem.endswith, ENDINGS), key=len)


def _without_ending(path: Path) -> str:
    return GROUND_TRUTH.sub("", _name(path).removesuffix(_ending(path)))


def listing(fault: str, files: list) -> str:
    """A text that names the first ten files of a fault."""
    more = [f"and {len(files) - EXAMPLES:,} more"] if len(files) > EXAMPLES else []
    return "\n    ".join([fault, *map(str, files[:EXAMPLES]), *more])


# By names


def images_in(directory: Path, without: Path) -> tuple[list[Path], list[Path]]:
    """The images below a directory, and its other files. Raises ValueError if there is no image."""
    files = walk(directory, without)
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    others = [path for path in files if path.suffix.lower() not in IMAGE_SUFFIXES]
    if not images:
        cure = why_unread(others, "correct the path, or convert them to PNG")
        read = f"{directory} holds no image of a format that Pillow reads"
        raise ValueError(f"{read}{but(others)}: {cure}")
    return images, others


def _masks_in(directory: Path, images: Path) -> list[Path]:
    """The masks below a directory: its pictures, else numpy's arrays, else labelme's JSON.

    Beside their images, pictures are masks by the endings of their names, where a file has the
    name without it. Raises ValueError, by what is there, if there is no mask.
    """
    files, of_suffix = walk(directory, images), defaultdict(list)
    stems = {*map(_stem, files)} if images.resolve() == directory.resolve() else None
    for path in files:
        is_picture = path.suffix.lower() in IMAGE_SUFFIXES
        is_mask = not INSTANCES.search(path.stem)
        if is_picture and stems:
            is_mask = is_mask and _ending(path) and _without_ending(path) in stems
        if is_mask:
            of_suffix["" if is_picture else path.suffix.lower()].append(path)
    for suffix in ("", ".npy", ".json"):
        if of_suffix[suffix] and not what_is(of_suffix[suffix][0]):
            return of_suffix[suffix]
    others = sum(of_suffix.values(), [])
    known = [what_is(paths[0]) for paths in of_suffix.values() if paths]
    cure = "; ".join(filter(None, known)) or "correct the path"
    raise ValueError(f"{directory} holds no mask of a form that is read{but(others)}: {cure}")


def _by_names(images: Path, masks: Path) -> tuple[Groups, Groups, list[str]]:
    """The images and the masks of each directory and stem, and notes on what is left out."""
    files, others = images_in(images, masks)
    mask_files = _masks_in(masks, images)
    if images.resolve() == masks.resolve():  # with annotations, which are no images
        files = sorted({*files} - {*mask_files})
        others = [path for path in others if path.suffix.lower() not in (".json", ".csv", ".txt")]
    of_images, of_masks, stems = defaultdict(list), defaultdict(list), {*map(_stem, files)}
    for path in files:
        of_images[_folder(path, images), _stem(path)].append(path)
    for path in mask_files:
        of_masks[_folder(path, masks), _image_stem(path, stems)].append(path)
    if all(len({stem for _, stem in groups}) == len(groups) for groups in (of_images, of_masks)):
        of_images = {(None, stem): paths for (_, stem), paths in of_images.items()}
        of_masks = {(None, stem): paths for (_, stem), paths in of_masks.items()}
    why = why_unread(others, "Pillow does not read them")
    return of_images, of_masks, left_out(images, others, why)


def _folder(path: Path, above: Path) -> str:
    return nfc(path.parent.relative_to(above))


def _image_stem(path: Path, stems: set[str]) -> str:
    """The stem of the image of a mask, one of some stems if it can be."""
    name = Path(_name(path))
    if name.suffix.lower() in IMAGE_SUFFIXES and name.stem in stems:  # street.jpg.png
        return name.stem
    if str(name) in stems:
        return str(name)
    return _without_ending(path)


def _names_of(path: Path, of_masks: Groups) -> str:
    """What an image's mask may be called."""
    stem, often = _stem(path), Counter(name for _, name in of_masks)
    twins = [paths[0] for (_, name), paths in of_masks.items() if often[name] > 1][:2]
    where = " (in the same subdirectory, as {} and {} have one name)" if twins else ""
    return (
        f"is called{where.format(*twins)} {stem}, {stem}_mask or with another known ending "
        f"({', '.join(filter(None, ENDINGS))}); other names can be given with --pairs, such as "
        f"--pairs 'X{path.suffix}=X_gt.png'"
    )


# By --pairs


def _by_pattern(images: Path, masks: Path, pattern: str) -> tuple[Groups, Groups, list[str]]:
    """As `_by_names`; the keys are the common parts of the paths."""
    image_side, mask_side = parse_pattern(pattern)
    of_images, others = _fitting(images, image_side, IMAGE_SUFFIXES, pattern)
    of_masks, _ = _fitting(masks, mask_side, {*IMAGE_SUFFIXES, ".npy", ".json"}, pattern)
    others = {*others}.difference(*of_masks.values())
    return of_images, of_masks, left_out(images, others, f"they do not fit --pairs '{pattern}'")


def _fitting(
    directory: Path, side: re.Pattern, suffixes: set[str], pattern: str
) -> tuple[Groups, list[Path]]:
    """The files of each common part, and those of the suffixes that do not fit."""
    groups, others = defaultdict(list), []
    for path in walk(directory):
        if path.suffix.lower() in suffixes:
            relative = path.relative_to(directory).as_posix()
            match = side.fullmatch(nfc(relative))
            (groups[match.groups()] if match else others).append(path)
    if not groups:
        example = f", it holds such as {others[0].relative_to(directory)}" if others else ""
        raise ValueError(f"nothing in {directory} fits --pairs '{pattern}'{example}")
    return groups, others


def parse_pattern(text: str) -> tuple[re.Pattern, re.Pattern]:
    """Of `X_rgb.png=X_gt.png`, how an image's and a mask's path look below their directories.

    X stands for the common part, which may hold directories; each `*` for a further one, in which
    there is no slash. Before that, both paths may have the same directories. Where a side has no
    suffix, any will do. Raises ValueError for anything else.
    """
    sides = text.strip("'").replace("\\", "/").split("=")  # cmd.exe passes the quotes on
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
        parts = nfc(parts)
        found.append(re.compile(rf"((?:.*?/)??){parts}{suffix}"))
    return found[0], found[1]
