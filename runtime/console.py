"""What is printed, to a terminal or into a file."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

from runtime.distributed import is_main


def escape_output() -> None:
    """Let `print` escape letters that the output's encoding lacks, as errors on stderr do already.

    Else a name in another alphabet would end the program where the output is ASCII or, on
    Windows, a file.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def progress_bar(images: int, description: str) -> Iterator[tqdm]:
    """A bar that counts images; shown by the main process, in a terminal or a notebook."""
    disable = None if is_main() else True
    bar = tqdm(total=images, desc=description, unit="img", leave=False, disable=disable)
    try:
        with bar:
            yield bar
    finally:
        # In a notebook a bar's `disp` refers to the bar. It would wait for the garbage collector,
        # and an interrupt that comes while that calls `tqdm.__del__` is lost.
        bar.disp = None


def command_line(doc: str) -> ArgumentParser:
    """A parser of options, whose `--help` shows `doc` as it is written."""
    return ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)
