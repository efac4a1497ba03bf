"""Draw Streets: driving scenes with exact and coarse labels of all 19 Cityscapes classes.

    python -m prepare.streets data/streets --train 600 --val 100 --size 512x256

The directory is in Cityscapes' format. The same seed gives the same labels, and on processors of
one kind the same images. A second call continues a drawing that was interrupted, and does nothing
once it is complete.
"""

import argparse
import re

from runtime.console import command_line, errors_shown
from streets import draw_tree


def parse_size(text: str) -> tuple[int, int]:
    """'512x256' as (512, 256), for argparse."""
    match = re.fullmatch(r"(\d+)[x×](\d+)", text.strip().lower())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, as in 512x256")
    return int(match[1]), int(match[2])


def main(argv: list[str] | None = None) -> None:
    parser = command_line(__doc__)
    add = parser.add_argument
    add("dst", nargs="?", default="data/streets", metavar="DST", help="(default: data/streets)")
    add("--train", type=int, default=600, metavar="N", help="training scenes (600)")
    add("--val", type=int, default=100, metavar="N", help="validation scenes (100)")
    size = "width and height in pixels, even (512x256)"
    add("--size", type=parse_size, default=(512, 256), metavar="WxH", help=size)
    add("--seed", type=int, default=0, metavar="N", help="of all scenes (0)")
    add("--workers", type=int, metavar="N", help="processes (default: one per core)")
    args = parser.parse_args(argv)
    with errors_shown():
        drawn = draw_tree(args.dst, args.train, args.val, args.size, args.seed, args.workers)
    print(f"{args.dst}: {args.train + args.val} scenes" + ("" if drawn else ", already drawn"))


if __name__ == "__main__":
    main()
