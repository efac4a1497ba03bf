"""The files of a user's directory: one walk for all commands."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

# Of Windows, of macOS, and the previews that network drives and cameras keep.
SYSTEM_FILES = {"Thumbs.db", "desktop.ini", "@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN"}
SYSTEM_FILES |= {"System Volume Information", "lost+found"}


def walk(directory: Path, without: Path | None = None) -> list[Path]:
    """All files below a directory, sorted.

    Links are followed, each directory is listed once, so that links cannot loop. Hidden and system
    files and directories are skipped, and what is in `without`, if that is another directory.

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


def suffix_of(path: Path) -> str:
    """`*.heic`, or the name of a file without a suffix."""
    return f"*{path.suffix}" if path.suffix else path.name


def kinds_of(files: Iterable[Path], kind_of: Callable[[Path], str] = suffix_of) -> str:
    """The commonest kinds of files, as "7 *.heic and 1 *.txt"; "" for no file."""
    kinds = Counter(map(kind_of, files))
    texts = [f"{number:,} {kind}" for kind, number in kinds.most_common(3)]
    if rest := kinds.total() - sum(number for _, number in kinds.most_common(3)):
        texts.append(f"{rest:,} others")
    return " and ".join(texts)


def but(files: Collection[Path], kind_of: Callable[[Path], str] = suffix_of) -> str:
    """What there is instead of what is missing: ", but 12 *.jpg", or "" for no file."""
    return f", but {kinds_of(files, kind_of)}" if files else ""


def left_out(directory: Path, files: Collection[Path], why: str) -> list[str]:
    """A line on files of a directory that are not used, and why; none for no file."""
    return [f"note: {directory} also holds {kinds_of(files)}, left out: {why}"] if files else []
