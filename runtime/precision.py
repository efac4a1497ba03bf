"""The device that computes, and the precision that it is fast in."""

import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str | None = None) -> torch.device:
    """The device `name`, or for None the GPU where there is one (CUDA, else Apple's), or the CPU.

    For None, a GPU that does not work is passed over with a warning, as one that is too old for
    this build of PyTorch. Raises ValueError for a named device that is not here or does not work.
    """
    if name is not None:
        return working_device(name)
    gpus = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    for gpu in (gpu for gpu, is_here in gpus.items() if is_here):
        try:
            return working_device(gpu)
        except ValueError as error:
            warnings.warn(f"{error}; going on without it", stacklevel=2)
    return torch.device("cpu")


def working_device(name: str) -> torch.device:
    """The device `name`, if it computes; raises ValueError if not."""
    try:
        device = torch.device(name)
        torch.ones(1, device=device).add(1).item()
    except (RuntimeError, AssertionError) as error:
        cause = str(error).strip().splitlines()[0]
        raise ValueError(f"there is no device {name} here ({cause}): choose another") from error
    return device


def pick_precision(requested: str, device: torch.device) -> str:
    """`fp32`, `bf16` or `fp16`: what `requested` (one of these, or `auto`) means on `device`.

    `auto` is bf16 on CPUs with instructions for it and on GPUs from compute capability 8 on, fp16
    on GPUs of capability 7 (V100, T4), fp32 elsewhere. Nothing is measured, so that it is the same
    in every run. Raises ValueError for one that `device` lacks.
    """
    supported = ["fp32"]
    if device.type == "cuda":
        # torch.cuda.is_bf16_supported() is true of older GPUs too, which emulate it, slowly.
        capability = torch.cuda.get_device_capability(device)
        supported += ["fp16"] * (capability >= (7, 0)) + ["bf16"] * (capability >= (8, 0))
    elif device.type == "cpu" and cpu_has_bf16():
        supported.append("bf16")
    if requested == "auto":
        return supported[-1]
    if requested not in supported:
        raise ValueError(
            f"precision {requested} is not for this {device.type} device, which computes in "
            f"{' or '.join(supported)}: choose one of these, or auto"
        )
    return requested


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies in bf16: AVX512_BF16 or AMX, or Arm's BF16 instructions.

    Elsewhere PyTorch emulates it, ten times slower than fp32. False, too, where oneDNN must not use
    these instructions (ONEDNN_MAX_CPU_ISA=AVX2).
    """
    if not torch.backends.mkldnn.is_available():  # as in some of macOS' builds
        return False
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    is_arm = platform.machine().lower() in ("arm64", "aarch64")
    return is_arm or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@contextmanager
def cudnn_benchmark(enabled: bool) -> Iterator[None]:
    """Within: cuDNN times its algorithms for each new size of its input, and keeps the fastest.

    Not where the user asked for deterministic algorithms: each run may find another the fastest.
    """
    before = torch.backends.cudnn.benchmark
    repeatable = torch.are_deterministic_algorithms_enabled() or torch.backends.cudnn.deterministic
    torch.backends.cudnn.benchmark = before or (enabled and not repeatable)
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class Evaluation(nn.Module):
    """A network that computes in evaluation mode, and is in its own mode before and after."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images: Tensor, **options) -> Tensor:
        training = [module for module in self.module.modules() if module.training]
        self.module.eval()
        try:
            return self.module(images, **options)
        finally:
            for module in training:
                module.training = True


class Autocast(nn.Module):
    """A network whose forward pass runs under autocast.

    Autocast is entered inside the forward pass since `nn.DataParallel` runs its replicas in
    threads that do not know the caller's: they would compute in fp16, autocast's default.
    """

    def __init__(self, module: nn.Module, precision: str):
        super().__init__()
        self.module, self.precision = module, precision

    def forward(self, images: Tensor, **options) -> Tensor:
        dtype = DTYPES[self.precision]
        # SyncBatchNorm sends the statistics of an empty batch in its dtype, others in float32.
        enabled = dtype != torch.float32 and images.numel() > 0
        # fp32 is no dtype of autocast; some versions warn of it even where it is off.
        with torch.autocast(images.device.type, dtype if enabled else None, enabled=enabled):
            return self.module(images, **options)
