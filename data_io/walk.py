"""The files of a user's directory: one walk for all commands."""

import os
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from data_io.layout import SYSTEM_FILES


def walk(directory: Path, without: Path | None = None) -> list[Path]:
    """All files below a directory, sorted.

    Links are followed, each directory is listed once, so that links cannot loop. Hidden and system
    files and directories are passed over, and what is in `without`, if that is another directory.

    Raises FileNotFoundError if there is no such directory, and OSError for one in it that cannot
    be opened.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"there is no directory {directory}: correct the path")
    found, seen = [], set()
    if without is not None and without.resolve() != directory.resolve():
        seen.add(os.path.realpath(without))
    for folder, folders, files in os.walk(directory, onerror=_refuse, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted(filter(is_visible, folders))
        if real not in seen:
            paths = [Path(folder, name) for name in files if is_visible(name)]
            found += [path for path in paths if path.is_file() or path.is_symlink()]  # no pipes
        seen.add(real)
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise OSError(
        f"{error.filename} cannot be opened ({error.strerror}): get the permission to read it, "
        "or move it elsewhere"
    ) from error


def is_visible(name: str) -> bool:
    """Whether a file or directory is neither hidden nor one that a system leaves."""
    return not name.startswith(".") and name not in SYSTEM_FILES


def kinds_of(files: Iterable[Path]) -> str:
    """The commonest suffixes of files, as "7 *.heic and 1 *.txt"; "" for no file."""
    kinds = Counter(f"*{path.suffix}" if path.suffix else path.name for path in files)
    texts = [f"{number:,} {kind}" for kind, number in kinds.most_common(3)]
    if rest := sum(kinds.values()) - sum(number for _, number in kinds.most_common(3)):
        texts.append(f"{rest:,} others")
    return " and ".join(texts)


def left_out(directory: Path, files: Collection[Path], why: str) -> list[str]:
    """A line on files of a directory that are not used, and why; none for no file."""
    return [f"note: {directory} also holds {kinds_of(files)}, left out: {why}"] if files else []
