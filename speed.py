"""What makes the same network faster on the same machine; every result stays the same."""

import copy
import ctypes
import mmap
import sys
from functools import cache

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # BatchNorm2d, SyncBatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval


@cache
def keep_freed_memory() -> None:
    """Tell glibc to keep what a step frees for the next step; does nothing where it is not.

    A step's activations are gigabytes. By default they go back to the system and are faulted in
    anew, page by page, which takes a third of a step on a CPU. The process stays as large as its
    largest step (mallopt(3)), and its first gigabyte lies in large pages.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # noqa: N806 (malloc.h)
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
            libc.mallopt(M_TOP_PAD, 64 << 20)
            use_large_pages(libc, 1 << 30)


def use_large_pages(libc: ctypes.CDLL, size: int) -> None:
    """Ask for pages of 2 MiB for the next `size` bytes of the heap; they take no memory untouched.

    A processor finds large pages faster (madvise(2)). A kernel without them refuses, to no harm.
    """
    libc.sbrk.restype = libc.malloc.restype = ctypes.c_void_p
    libc.sbrk.argtypes, libc.malloc.argtypes = [ctypes.c_ssize_t], [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    start = libc.sbrk(0)
    libc.free(libc.malloc(size))  # moves the end of the heap
    start += -start % (2 << 20)
    if (end := libc.sbrk(0)) > start:
        libc.madvise(start, end - start, mmap.MADV_HUGEPAGE)


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """The network in evaluation mode, its convolutions doing their batch norm's work.

    In evaluation, batch norm multiplies and shifts each channel by constants, which fit into the
    weights and bias of the convolution before it (Jacob et al. 2018, section 3.2,
    https://arxiv.org/abs/1712.05877): a pass over every map is saved, and a map less is kept.
    Predictions agree to rounding. `model` itself is left alone; it is returned, not copied, if
    there is nothing to change, so that whoever predicts often folds once.
    """
    if not model.training and not any(isinstance(m, _BatchNorm) for m in model.modules()):
        return model
    model = copy.deepcopy(model).eval()
    for block in [m for m in model.modules() if isinstance(m, nn.Sequential)]:
        for i, (conv, norm) in enumerate(zip(block, block[1:], strict=False)):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, _BatchNorm):
                block[i], block[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return model
