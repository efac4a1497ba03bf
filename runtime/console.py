"""What is printed, to a terminal or into a file."""

import re
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tqdm import tqdm

from runtime.distributed import is_distributed, is_main


@contextmanager
def errors_shown() -> Iterator[None]:
    """End the program with one line for an error that a user can mend, and for Ctrl-C.

    Under torchrun the error is raised, so that torchrun reports it. Within, `print` escapes letters
    that the output's encoding lacks: a name in another alphabet would end the program, as on
    Windows with the output in a file.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except (OSError, ValueError, FloatingPointError) as error:
        if is_distributed():
            raise
        text = str(error).strip()
        if "Traceback (most recent call last)" in text:  # of a loader's worker
            text = text.splitlines()[-1].removeprefix("ValueError: ")
        sys.exit(f"error: {text}")
    except RuntimeError as error:
        if is_distributed() or not is_out_of_memory(error):
            raise
        sys.exit("error: out of memory: lower the batch size, the crop, or the size of the images")
    except KeyboardInterrupt as stop:
        sys.exit(str(stop) or "stopped: run the same command again")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether PyTorch raised an error since memory was short, of a GPU or of the machine."""
    return re.search("out of memory|tried to allocate", str(error)) is not None


def progress_bar(
    total: int | None, description: str, unit: str = "img", quiet: bool = False
) -> tqdm:
    """A bar of the main process, in a terminal or a notebook; it leaves nothing behind.

    Args:
        total: None where it is not known.
        quiet: show none.
    """
    ipython = sys.modules.get("IPython")
    in_notebook = ipython and getattr(ipython.get_ipython(), "kernel", None)
    file, disable = (_CellLine(), False) if in_notebook else (sys.stderr, None)
    if quiet or not is_main():
        disable = True
    options = {"ncols": 80, "file": file, "leave": False, "disable": disable}
    return tqdm(total=total, desc=description, unit=unit, **options)


def in_threads(function: Callable, items: Collection, description: str) -> list:
    """The function's results for all items, in their order, made in threads under a bar."""
    results = []
    with ThreadPoolExecutor() as threads, progress_bar(len(items), description) as bar:
        for result in threads.map(function, items):
            results.append(result)
            bar.update()
    return results


class _CellLine:
    """The line of a notebook's cell that `write` replaces: one for all bars of the cell.

    A bar of ipywidgets would stay in the saved notebook as text, one for each epoch.
    """

    cell, display = None, None  # the run of the cell whose line it is

    def write(self, text: str) -> None:
        from IPython import display, get_ipython

        data, cell = {"text/plain": text.strip()}, get_ipython().execution_count
        if _CellLine.cell == cell:
            _CellLine.display.update(data, raw=True)
        else:
            handle = display.display(data, raw=True, display_id=True)
            _CellLine.cell, _CellLine.display = cell, handle

    def flush(self) -> None:
        pass


def command_line(doc: str) -> ArgumentParser:
    """A parser of options, whose `--help` shows `doc` as it is written."""
    module = getattr(sys.modules["__main__"], "__spec__", None)  # as Python 3.14 names it
    prog = f"python -m {module.name.removesuffix('.__main__')}" if module else None
    return ArgumentParser(prog, description=doc, formatter_class=RawDescriptionHelpFormatter)


def table(head: list[str], rows: list[list], left: int = 1) -> str:
    """A table in Markdown, its first `left` columns aligned left, the others right."""
    lines = [f"| {' | '.join(map(str, line))} |" for line in [head, *rows]]
    below = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join([lines[0], f"|{'|'.join(below)}|", *lines[1:]])
