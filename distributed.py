"""One training on many processes, as `torchrun` starts them: who is who, and sums over all.

A process that `torchrun` did not start is rank 0 of 1: everything here then does nothing, so that
the same code trains in a notebook and on 256 GPUs. torchrun sets the environment that is read
here (https://pytorch.org/docs/stable/elastic/run.html).
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, Sampler


@contextmanager
def process_group() -> Iterator[None]:
    """Within it, the processes that `torchrun` started know each other.

    NCCL on GPUs, one for each process, and Gloo on CPUs. Raises ValueError if a machine has more
    processes than GPUs.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    if torch.cuda.is_available():
        here, gpus = local_world_size(), torch.cuda.device_count()
        if here > gpus:
            raise ValueError(
                f"{here} processes on {gpus} GPUs: start `torchrun --nproc-per-node={gpus}`"
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, size = next(dist.rendezvous("env://"))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=_fresh(store, rank, size), rank=rank, world_size=size)
    yield
    dist.destroy_process_group()  # not after an exception: it would wait for the others


def _fresh(store: dist.Store, rank: int, size: int) -> dist.Store:
    """The store in which the processes find each other, without what a killed attempt left there.

    torchrun starts all anew after a failure, but (as of PyTorch 2.14) with the old store, where
    the addresses of the dead are. So rank 0 draws a name for this attempt, and the others take it
    when it has answered them, by the name that each has drawn: a dead one does not answer.
    """
    mine = uuid4().hex
    if rank == 0:
        store.set("attempt", mine)
        for other in range(1, size):
            theirs = store.get(f"{mine}/{other}").decode()
            store.set(f"{mine}/{other}/{theirs}", "")
        return dist.PrefixStore(mine, store)
    while True:
        attempt = store.get("attempt").decode()
        store.set(f"{attempt}/{rank}", mine)
        try:
            store.wait([f"{attempt}/{rank}/{mine}"], timedelta(seconds=1))
            return dist.PrefixStore(attempt, store)
        except dist.DistStoreError:  # not answered in time: look again whose attempt this is
            continue


def is_distributed() -> bool:
    """Whether `torchrun` started this process, be it the only one."""
    return dist.is_initialized()


def rank() -> int:
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    return dist.get_world_size() if is_distributed() else 1


def local_world_size() -> int:
    """The processes on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1


def is_main() -> bool:
    """Whether this is the process that writes, prints and draws."""
    return rank() == 0


@contextmanager
def first_here() -> Iterator[bool]:
    """True in one process of each machine; the others go on when it has left the block."""
    yield not is_distributed() or os.environ["LOCAL_RANK"] == "0"
    if is_distributed():
        dist.barrier()


def from_main(work: Callable, *args):
    """What `work(*args)` returns in the main process, in every process.

    A checkpoint so needs to lie on the main process's machine only.
    """
    found = [work(*args) if is_main() else None]
    if is_distributed():
        dist.broadcast_object_list(found)
    return found[0]


def add_up(x: Tensor) -> Tensor:
    """The sum of `x` over the processes, the same in each.

    Differentiable, in this process's part alone: who adds up the gradients of all processes, as
    `parallel` has them averaged, gets the gradient of the sum.
    """
    return _Sum.apply(x) if is_distributed() else x


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient


class Shares(BatchSampler):
    """Batches as one process would draw them, and of each what this process gets.

    In training, its part of every batch, which may be empty where the last one is short. In
    evaluation, every `world_size()`-th batch, whole: each image is judged once, and among the
    same others as by one process.
    """

    def __init__(self, sampler: Sampler, batch_size: int, train: bool):
        super().__init__(sampler, batch_size, drop_last=False)
        self.train = train

    def __iter__(self) -> Iterator[list[int]]:
        for i, batch in enumerate(super().__iter__()):
            if self.train:
                yield batch[rank() :: world_size()]
            elif i % world_size() == rank():
                yield batch

    def __len__(self) -> int:
        batches = super().__len__()
        return batches if self.train else len(range(rank(), batches, world_size()))


def parallel(model: nn.Module) -> nn.Module:
    """The network on all processes, or on all GPUs of this one, or, with neither, as it is.

    Processes average their gradients (DistributedDataParallel). On GPUs, batch norm then takes
    its mean and variance over the batches of all. On CPUs each process has its own, as has each
    GPU under `nn.DataParallel`; see `average_buffers`. The parameters stay those of `model`.
    """
    if not is_distributed():
        return nn.DataParallel(model) if torch.cuda.device_count() > 1 else model
    devices = None
    if torch.cuda.is_available():
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place, below the root
        devices = [torch.cuda.current_device()]
    with warnings.catch_warnings():  # PyTorch 2.14 gives `broadcast_buffers` another name
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(
            model, devices, broadcast_buffers=False, gradient_as_bucket_view=True
        )


def average_buffers(model: nn.Module) -> None:
    """Give all processes the mean of their batch norms' running statistics."""
    if is_distributed():
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer /= world_size()
