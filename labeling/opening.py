"""Open a session on a folder of photographs, or on a data set whose labels are to be corrected."""

from pathlib import Path

from data_io.image_io import why_unread
from data_io.layout import OWN_RECORD, find_pairs, name_of, paths_of
from data_io.walk import left_out
from dataset import find_root, read_classes
from labeling.session import Photo, Session, read_record
from prepare.class_lists import as_yaml, merge_classes, void_of
from prepare.conversion import target_name
from prepare.pairs import images_in
from runtime.files import atomic_write, expand, relative_path

SPLITS = "train", "val", "test"


def open_session(
    photographs: str | Path, root: str | Path, classes: list[str] | str | Path | None = None
) -> Session:
    """Label the photographs of a folder and of those below it; the data set is made in `root`.

    Args:
        photographs: only read.
        root: may hold what an earlier session made: it goes on where that stopped.
        classes: names; or a `classes.yaml` or `label_colors.txt`; None: those of `root`, or else
            Cityscapes'. May grow between two sessions, or be in another order.

    Raises FileNotFoundError or ValueError for a folder without photographs, a `root` with another
    data set, and classes that do not fit the masks; BlockingIOError if another notebook has `root`
    open, OSError if it cannot be written.
    """
    photographs, root = expand(photographs, "folder of photographs"), expand(root, "data set")
    if photographs.resolve() == root.resolve():
        raise ValueError(f"{root} has the photographs, and is only read: set another data_root")
    kept = read_record(root / "labeling.json")
    folder = relative_path(photographs.resolve(), root.resolve())  # not through a link
    before = (root.resolve() / (kept.get("photographs") or folder)).resolve()
    if before != photographs.resolve() and any(root.glob("gtFine/*/*/*_labelIds.png")):
        raise ValueError(
            f"{root} has the labels of {before}, not of {photographs}: set data_root to another "
            "directory, or, if the photographs were moved, correct `photographs` in "
            f"{root / 'labeling.json'} to {folder}"
        )
    foreign = [OWN_RECORD, "streets.json"]
    if not kept:  # also of a damaged record that was deleted; then classes.yaml is there
        foreign += ["corrections.json"] + ["gtFine"] * (not (root / "classes.yaml").exists())
    if found := [name for name in foreign if (root / name).exists()]:
        raise ValueError(
            f"{root} is a data set that was not labelled here (it has {found[0]}): set data_root "
            "to another directory" + ", or delete that file" * (found[0] == "corrections.json")
        )
    images, others = images_in(photographs, root)
    there = read_classes(root) if (root / "classes.yaml").is_file() else None
    photos, taken = {}, {}
    for image in images:
        name = image.relative_to(photographs)
        target = target_name(name.parent.parts, image.stem)
        if other := taken.get(target.casefold()):
            raise ValueError(f"{other} and {image} would become one file, {target}: rename one")
        taken[target.casefold()] = image
        places = (paths_of(root, split, target) for split in SPLITS)
        copy, labels = next((each for each in places if each[1].exists()), (None, None))
        photos[name.as_posix()] = Photo(image, labels, copy)
    files = [photo.labels for photo in photos.values() if photo.labels]
    classes, void = merge_classes(classes, there, kept.get("void"), files, root)
    session = Session(root, photos, classes, void, "labeling.json", folder)
    session.save_record()  # before the first stroke: of which folder it is
    session.notes = left_out(photographs, others, why_unread(others, "Pillow does not read them"))
    if classes != there:
        atomic_write(root / "classes.yaml", as_yaml(classes, {}).encode())
    return session


def open_data_set(root: str | Path, names: list[str] | None = None) -> Session:
    """Correct the labels of a data set in place; ids that are no class stay as they are.

    names: of images, as <split>/<city>/<stem>, to open only these, in this order. Raises as
    `open_session`.
    """
    root = find_root(root)
    classes, photos = read_classes(root), {}
    for split in ("train", "val"):
        for image, labels in find_pairs(root, split, "fine"):
            photos[name_of(root, image)] = Photo(Path(image), Path(labels), Path(image))
    if unknown := [name for name in names or () if name not in photos]:
        raise ValueError(f"{root} has no image {unknown[0]}: a name is such as {min(photos)}")
    photos = {name: photos[name] for name in names or photos}
    session = Session(root, photos, classes, void_of(classes), "corrections.json")
    if names:
        session.set_order(names)
    return session
