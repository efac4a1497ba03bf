"""Cityscapes' archives as downloaded: which one has what, whether it is complete, and the cure."""

import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from shlex import quote

from data_io.layout import unpacked_size

PACKAGES = {  # archive -> packageID on the download site
    "gtFine_trainvaltest.zip": 1,
    "gtCoarse.zip": 2,
    "leftImg8bit_trainvaltest.zip": 3,
    "leftImg8bit_trainextra.zip": 4,
}


def zip_state(path: Path, read_all: bool = False) -> str:
    """'absent', 'complete', or what is wrong with an archive. Raises nothing.

    Half an archive lacks its table of contents, which is at the end. Damage inside is found only
    by reading all of it.
    """
    try:
        unpacked_size(path)
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip() if read_all else None
            return f"damaged (in {damaged})" if damaged else "complete"
    except FileNotFoundError:
        return "absent"
    except OSError as error:
        return f"unreadable ({error.strerror})"
    except zipfile.BadZipFile:
        with open(path, "rb") as file:
            page = file.read(100).lstrip().startswith(b"<")
        return "a web page (failed login?)" if page else "not complete (half a download?)"
    except Exception as error:  # decompressors raise several
        return f"damaged ({error})"


def cure(root: Path, name: str, state: str) -> str:
    """How to get the contents of the archive `name`, in the given `zip_state`, into `root`."""
    path, to = quote(str(root / name)), quote(str(root))
    inner = root / name.removesuffix(".zip") / name.removesuffix(".zip").split("_")[0]
    if os.path.isdir(inner):
        return f"unpacked one level too deep: mv {quote(str(inner))} {to}"
    unzip, load = f"unzip -o {path} -d {to}", f"csDownload -d {to} {name}"
    if state == "complete":
        return f"{name} is there: {unzip}"
    if state == "absent":
        return f"brought by {name} (packageID {PACKAGES[name]}): {load} && {unzip}"
    if state.startswith("not complete"):
        return f"{name} is {state}: csDownload -r -d {to} {name} (or wget -c) && {unzip}"
    if state.startswith("unreadable"):
        return f"{name} is {state}: chmod u+r {path}"
    remove = f"rm {path}"
    if state.startswith("damaged"):
        remove = f"mv {path} {quote(str(root / name) + '.damaged')}"
    return f"{name} is {state}: {remove} && {load} && {unzip}"


def read_archives(root: Path, names: Iterable[str], say: Callable[[str], None]) -> dict[str, str]:
    """The `zip_state` of archives in `root`, each of which is read to its end.

    say: called with a line for each archive that is there.
    """
    states = {}
    for name in sorted(names):
        if (root / name).is_file():
            say(f"reading {name}")
        states[name] = zip_state(root / name, read_all=True)
    return states
