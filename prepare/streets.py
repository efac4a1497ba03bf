"""The command line of Streets: `python -m prepare.streets --help`."""

import argparse
import re
import sys

from runtime.console import escape_output
from streets import draw_tree


def parse_size(text: str) -> tuple[int, int]:
    """'512x256' as (512, 256), for argparse."""
    match = re.fullmatch(r"(\d+)[x×](\d+)", text.strip().lower())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, as in 512x256")
    return int(match[1]), int(match[2])


def main(argv: list[str] | None = None) -> int:
    """Draw Streets as the command line says; returns the exit code."""
    escape_output()
    parser = argparse.ArgumentParser(
        prog="python -m prepare.streets",
        description="Draw Streets: driving scenes with exact and coarse labels of all 19\n"
        "Cityscapes classes, as a directory in Cityscapes' format. The same seed gives\n"
        "the same pixels. A second call continues a drawing that was interrupted, and\n"
        "does nothing once it is complete.",
        epilog="example:\n"
        "  python -m prepare.streets data/streets --train 600 --val 100 --size 512x256",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "dst",
        nargs="?",
        default="data/streets",
        metavar="DST",
        help="directory to draw into (default: data/streets)",
    )
    for name, count, what in (("train", 600, "training"), ("val", 100, "validation")):
        parser.add_argument(
            f"--{name}", type=int, default=count, metavar="N", help=f"{what} scenes ({count})"
        )
    parser.add_argument(
        "--size",
        type=parse_size,
        default=(512, 256),
        metavar="WxH",
        help="width and height in pixels, even (512x256)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all scenes (0)")
    parser.add_argument(
        "--workers", type=int, default=None, metavar="N", help="processes (default: one per core)"
    )
    args = parser.parse_args(argv)
    try:
        drawn = draw_tree(args.dst, args.train, args.val, args.size, args.seed, args.workers)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: the same command continues", file=sys.stderr)
        return 130
    print(f"{args.dst}: {args.train + args.val} scenes" + ("" if drawn else ", already drawn"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
