"""What users wait for, ours beside what they would use instead: one table, under 15 minutes.

    pip install --requirement bench/requirements.txt
    python -m bench

Prints the table and writes it to a file named for the processor's instructions, as
bench/table-avx2.md. Nothing else should run meanwhile.
"""

import time
from pathlib import Path

import torch

from bench import loading, prediction, step
from bench.timing import table


def main() -> None:
    start = time.perf_counter()
    rows = []
    for part in (loading, step, prediction):
        print(f"{part.__name__}: {part.__doc__.splitlines()[0]}", flush=True)
        rows += part.rows()
    text = f"{table(rows)}; {(time.perf_counter() - start) / 60:.0f} minutes\n"
    print(text, end="")
    name = f"table-{torch.backends.cpu.get_cpu_capability().lower()}.md"
    Path(__file__).with_name(name).write_text(text)


if __name__ == "__main__":
    main()
