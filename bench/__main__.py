"""Loading, training, prediction and their inner loops, each against what one would use instead.

    pip install --requirement bench/requirements.txt
    python -m bench

Takes up to 15 minutes, in which nothing else should run. Prints the tables and writes them to a
file named after the CPU's instructions, such as bench/table-avx2.md.
"""

import time
from pathlib import Path

import torch

from bench import kernels, loading, prediction, training
from runtime.machine import commit, machine


def main() -> None:
    commit()  # now: there may be others when this ends
    start, texts = time.perf_counter(), []
    for part in (loading, training, prediction, kernels):
        print(f"{part.__name__}: {part.__doc__.splitlines()[0]}", flush=True)
        texts.append(part.measure())
    minutes = (time.perf_counter() - start) / 60
    text = "\n\n".join([*texts, f"{machine()}, commit {commit()}; {minutes:.0f} minutes\n"])
    print(text, end="")
    name = f"table-{torch.backends.cpu.get_cpu_capability().lower()}.md"
    Path(__file__).with_name(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
