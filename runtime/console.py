"""What is printed, to a terminal or into a file."""

import sys


def escape_output() -> None:
    """Let `print` escape letters that the output's encoding lacks, as errors on stderr do already.

    Else a name in another alphabet would end the program where the output is ASCII or, on
    Windows, a file.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
