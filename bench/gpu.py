"""A training step on a GPU: ours in each precision, the baseline's, and two libraries'.

    pip install --requirement bench/requirements.txt
    python -m bench.gpu

Images of 512x1024, batch 8, width 64, as recipes/cityscapes.yaml has them; a smaller card takes
`--batch 2`. All take turns, each in a process of its own, which has the card to itself. Nothing
else should run there. Prints a table and writes it to bench/table-gpu.md.
"""

import statistics
import sys
from functools import partial
from pathlib import Path

import torch

from bench.timing import started
from bench.training import LABELS, Mode, contender, count, random_batch
from runtime.console import command_line, table
from runtime.machine import machine
from runtime.precision import pick_precision

GIB = 2**30
STEPS = 20  # in a turn


def contenders(fast: str) -> list[tuple[str, Mode]]:
    """Networks and modes. `fast` is the precision that the card is fast in.

    The libraries' as they come (cuDNN's default is TF32), and in what should be their best mode.
    """
    ours = [Mode("fp32", False, True), Mode("fp32", True, True)]
    plain = [Mode("fp32"), Mode("fp32", True)]
    peers = [Mode("fp32", True)]
    if fast != "fp32":
        best = Mode(fast, True, True)
        ours += [best, best._replace(compiled=True)]
        plain += [best._replace(channels_last=False), best, best._replace(compiled=True)]
        peers += [best]
    modes = {"ours": ours, "baseline": plain, "smp": peers, "monai": peers}
    return [(name, mode) for name, several in modes.items() for mode in several]


def measure(
    modes: list, device: torch.device, batch: int, size: tuple, width: int, rounds: int = 3
) -> str:
    """The table. Each turn is a process, so that a card's memory is free for the next."""
    data, found = random_batch(batch, size), {each: [] for each in modes}
    for i in range(rounds):
        for each in modes:
            print(f"round {i + 1} of {rounds}: {each}", file=sys.stderr)
            prepare = partial(contender, *each, device, data, width, STEPS)
            with started({"it": prepare}) as turn:
                turn("it")  # warm-up
                found[each].append(turn("it"))
    rows = []
    for (name, mode), results in found.items():
        parameters, flop = count(name, width, size)
        what = f"{LABELS[name]} ({parameters / 1e6:.1f} M, {flop / 1e12:.2g} TFLOP/image)"
        seconds, _, peaks = zip(*results, strict=True)
        speed = batch * STEPS / statistics.median(seconds)
        figures = [f"{speed:.3g}", f"{speed * flop / 1e12:.3g}"]
        if None in peaks:
            rows.append([what, mode, "out of memory", "", ""])
        else:
            rows.append([what, mode, *figures, f"{max(peaks) / GIB:.1f} GiB"])
    return table(["network", "mode", "images/s", "TFLOP/s", "peak memory"], rows, 2) + (
        f"\n\nA training step on {batch} images of {size[0]}x{size[1]}, width {width} (ours and "
        f"the baseline), copied from pinned memory; the median of {rounds} turns of {STEPS} steps, "
        "cuDNN's benchmark on."
    )


def card() -> str:
    """The GPU's name, memory and compute capability, and the software."""
    it, version = torch.cuda.get_device_properties("cuda"), torch.backends.cudnn.version()
    return (
        f"{it.name}, {it.total_memory / GIB:.0f} GiB, compute capability {it.major}.{it.minor}; "
        f"CUDA {torch.version.cuda}, cuDNN {version}"
    )


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--batch", type=int, default=8, help="images a step (8)")
    parser.add_argument("--tiny", action="store_true", help="on the CPU, to try this command")
    args = parser.parse_args()
    if args.tiny:
        modes = [each for each in contenders("fp32") if each[0] in ("ours", "baseline")]
        return print(measure(modes, torch.device("cpu"), 2, (32, 32), 2, rounds=1))
    if not torch.cuda.is_available():
        sys.exit(
            "error: this measures an NVIDIA GPU, and PyTorch finds none here: run it where "
            "`nvidia-smi` lists one, with a PyTorch for CUDA (`python -m bench` is for CPUs)"
        )
    device = torch.device("cuda")
    text = measure(contenders(pick_precision("auto", device)), device, args.batch, (512, 1024), 64)
    text += f"\n\n{card()}; {machine()}\n"
    Path(__file__).with_name("table-gpu.md").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
