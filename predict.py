"""Label images and videos with a trained network.

    python predict.py checkpoints/camvid.pt street.jpg holiday/ --out runs/predictions
    python predict.py checkpoints/camvid.pt drive.mp4 --scale 0.5
    python predict.py runs/cityscapes/best.pt --submission $CITYSCAPES_DATASET --split test --zip

Takes files, directories (with all below them) and globs; photographs in HEIC with pillow-heif,
videos of any kind with PyAV. For each image NAME it writes NAME_labels.png, a byte per pixel, the
ids of the label files (of Cityscapes: 7 road .. 33 bicycle) with a palette that shows them, and
NAME_overlay.jpg to look at; for a video NAME_overlay.mp4. Those of a directory lie in one of its
name. With --submission it writes what the Cityscapes benchmark takes for a split of a data set.
"""

import argparse
import time
from pathlib import Path

# All else is imported once the arguments are known to be right: PyTorch takes seconds.

OF_LABELS = "confidence", "alpha", "palette", "scale", "tile"  # options without --submission
OF_SUBMISSION = "split", "zip"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="such as checkpoints/camvid.pt")
    add("inputs", nargs="*", metavar="INPUT", help="images, videos, directories")
    add("--out", type=Path, help="directory (default: runs/predictions)")
    add("--overwrite", action="store_true", help="replace results that are there")
    add("--confidence", action="store_true", help="also how sure it is, in grey")
    add("--alpha", type=float, default=0.5, help="how opaque overlays are, 0..1 (default: 0.5)")
    colours = "of overlays: the data set's colours (default), or for colour-blind people"
    add("--palette", default="data", choices=("data", "safe"), help=colours)
    add("--scale", type=float, default=1, help="resize images by this (default: 1)")
    add("--tile", type=int, help="tile size in pixels (default: by image size)")
    add("--tta", action="store_true", help="mean over scales and mirrored images")
    add("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    add("--device", help="such as cpu or cuda:1 (default: the GPU if there is one)")
    add("--max-pixels", type=int, help="largest image accepted, in pixels (default: 89,478,485)")
    add("--submission", metavar="ROOT", help="a data set, instead of INPUT")
    add("--split", help="with --submission (default: test)")
    add("--zip", action="store_true", help="also pack the submission")
    args = parser.parse_args()
    if bool(args.inputs) == bool(args.submission):
        parser.error("name images or videos, or a data set with --submission")
    unused = OF_LABELS if args.submission else OF_SUBMISSION
    if given := [f"--{name}" for name in unused if getattr(args, name) != parser.get_default(name)]:
        parser.error(f"{', '.join(given)}: {'not' if args.submission else 'only'} for --submission")
    if args.max_pixels is not None and args.max_pixels < 1:
        parser.error(f"--max-pixels is at least 1, not {args.max_pixels}")
    if not 0 <= args.alpha <= 1:
        parser.error(f"--alpha is between 0 and 1, not {args.alpha}")
    return args


def main() -> None:
    args = parse_arguments()
    from runtime.console import errors_shown

    with errors_shown():
        from PIL import Image

        from inference import check_view, load_model
        from runtime.files import expand
        from runtime.precision import pick_device, pick_precision

        Image.MAX_IMAGE_PIXELS = args.max_pixels or Image.MAX_IMAGE_PIXELS
        check_view(args.scale, args.tile)
        args.out = args.out and expand(args.out, "output directory")
        device = pick_device(args.device)
        options = {"tta": args.tta, "precision": pick_precision(args.precision, device)}
        model = load_model(args.checkpoint, device)
        print(submit(model, args, **options) if args.submission else label(model, args, **options))


def submit(model, args: argparse.Namespace, **options) -> str:
    """Write a submission; returns what to say of it."""
    from engine import write_submission

    split = args.split or "test"
    out = args.out or Path("runs") / f"submission-{split}"
    if not args.overwrite and (Path(f"{out}.zip").exists() or any(out.glob("*_pred.png"))):
        raise FileExistsError(f"{out} holds predictions: choose another --out, or --overwrite them")
    try:
        written = write_submission(model, args.submission, split, out, args.zip, **options)
    except KeyboardInterrupt:
        cure = f"{out} is not complete; the same command with --overwrite predicts all again"
        raise KeyboardInterrupt(f"stopped: {cure}") from None
    return f"predictions: {written}"


def label(model, args: argparse.Namespace, **options) -> str:
    """Label the inputs; returns what to say of them. Raises ValueError if some were left out."""
    from label_files import Labeller, find_inputs, refuse_overwriting

    started, out = time.monotonic(), args.out or Path("runs/predictions")
    inputs, notes = find_inputs(args.inputs, out)
    if args.confidence and all(each.kind == "video" for each in inputs):
        raise ValueError("--confidence is for images: leave it out for videos")
    if not args.overwrite:
        refuse_overwriting(inputs)
    options |= {"scale": args.scale, "tile": args.tile}
    labeller = Labeller(model, args.confidence, args.alpha, args.palette == "safe", **options)
    try:
        labeller.label_all(inputs)
    except KeyboardInterrupt:
        done = labeller.summary(started).splitlines()[0]
        cure = "the same command with --overwrite labels all again"
        raise KeyboardInterrupt(f"stopped: {done}, in {out}; {cure}") from None
    lines = [f"predictions: {out}", labeller.summary(started), *labeller.notes, *notes]
    if labeller.failed:
        print("\n".join(lines))
        count = f"{len(labeller.failed)} of {len(inputs)} were left out"
        raise ValueError("\n".join([f"{count}:", *labeller.failed]))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
