"""Loading, training and prediction, each against what one would use instead, in one table.

    pip install --requirement bench/requirements.txt
    python -m bench

Takes up to 15 minutes, in which nothing else should run. Prints the table and writes it to a file
named after the CPU's instructions, such as bench/table-avx2.md.
"""

import time
from pathlib import Path

import torch

from bench import loading, prediction, training
from bench.timing import table


def main() -> None:
    start = time.perf_counter()
    rows, notes = [], []
    for part in (loading, training, prediction):
        print(f"{part.__name__}: {part.__doc__.splitlines()[0]}", flush=True)
        more_rows, more_notes = part.measure()
        rows, notes = rows + more_rows, notes + more_notes
    text = f"{table(rows, notes)}; {(time.perf_counter() - start) / 60:.0f} minutes\n"
    print(text, end="")
    name = f"table-{torch.backends.cpu.get_cpu_capability().lower()}.md"
    Path(__file__).with_name(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
