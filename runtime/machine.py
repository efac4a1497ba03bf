"""What a recorded number is read with: the machine, the date, and the commit of the code."""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from datetime import date
from functools import cache
from pathlib import Path

import torch

from runtime.cpu import available_cores
from runtime.precision import cpu_has_bf16

ROOT = Path(__file__).resolve().parent.parent


def machine() -> str:
    """GPU, cores, processor, the instructions PyTorch uses of it, PyTorch's version, and date."""
    processor = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    processor += f", {torch.backends.cpu.get_cpu_capability()}" + ", bf16" * cpu_has_bf16()
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    cores = f"{gpu}{available_cores()} cores"
    return f"{cores} ({processor}), PyTorch {torch.__version__}, {date.today()}"


@cache  # at the first call: of the code that runs, which may be committed on meanwhile
def commit() -> str | None:
    """The commit of this code, with "-dirty" if a module differs from it; None outside of git."""

    def git(*args: str) -> subprocess.CompletedProcess:
        return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True)  # noqa: S603, S607

    if shutil.which("git") is None or (head := git("rev-parse", "--short", "HEAD")).returncode:
        return None
    changed = git("diff", "--quiet", "HEAD", "--", "*.py").returncode != 0
    return head.stdout.strip() + "-dirty" * changed


def provenance(module: str) -> dict[str, str | None]:
    """The command line of `module`, which is running, with the machine and the commit."""
    command = shlex.join(["python", "-m", module, *sys.argv[1:]])
    return {"command": command, "machine": machine(), "commit": commit()}


def write_record(path: Path, module: str, found: dict) -> None:
    """Write and print as JSON what `module` found, with its `provenance`."""
    text = json.dumps({**found, **provenance(module)}, indent=1) + "\n"
    path.write_text(text)
    print(text, end="")
