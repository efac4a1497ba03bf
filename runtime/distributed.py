"""Training with several processes or several GPUs.

A process that `torchrun` did not start is rank 0 of 1, and everything here then does nothing: the
same code trains in a notebook and on 256 GPUs. torchrun sets the environment variables that are
read here (https://pytorch.org/docs/stable/elastic/run.html).
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, Sampler

from runtime.precision import Autocast, Evaluation


@contextmanager
def process_group() -> Iterator[None]:
    """Within: the process group of all processes that `torchrun` started, if it did.

    NCCL on GPUs, one for each process, and Gloo on CPUs. Raises ValueError if a machine has more
    processes than GPUs.
    """
    if not _is_launched():
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
    if local_world_size() == size:
        # torchrun keeps the store of an attempt that failed, with the addresses of its processes
        # (as of PyTorch 2.14). For several machines see docs/distributed.md.
        store = dist.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    yield
    dist.destroy_process_group()  # not after an exception: it would wait for the others


def is_distributed() -> bool:
    """Whether `torchrun` started this process, be it the only one."""
    return dist.is_available() and dist.is_initialized()


def _is_launched() -> bool:
    return dist.is_available() and dist.is_torchelastic_launched()  # some builds are without


def rank() -> int:
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    return dist.get_world_size() if is_distributed() else 1


def local_world_size() -> int:
    """The processes on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if _is_launched() else 1


def is_main() -> bool:
    """Whether this is the process that writes, prints and draws."""
    return rank() == 0


@contextmanager
def local_main_first() -> Iterator[bool]:
    """True in one process of each machine; the others go on when it has left the block."""
    if not is_distributed():
        yield True
        return
    # NCCL waits for ten minutes, which is too short to unpack a data set.
    patient = dist.new_group(backend="gloo", timeout=timedelta(hours=2))
    yield os.environ["LOCAL_RANK"] == "0"
    dist.barrier(patient)


def broadcast_from_main(function: Callable, *args):
    """What `function(*args)` returns in the main process, in every process.

    A checkpoint therefore needs to be on the main process's machine only.
    """
    result = [function(*args) if is_main() else None]
    if is_distributed():
        dist.broadcast_object_list(result)
    return result[0]


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of `x` over all processes, the same in each.

    Differentiable: each process gets the gradient by its own `x`. DistributedDataParallel averages
    these; the average times the number of processes is the gradient of the sum.
    """
    return _AllReduceSum.apply(x) if is_distributed() else x


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient


class DistributedBatchSampler(BatchSampler):
    """The batches that one process would draw, divided among all processes.

    In training each process gets a part of every batch, which may be empty where the last batch is
    short. In evaluation it gets every `world_size()`-th batch, so that each image is evaluated
    once, in the same batch as by one process.
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


def wrap_model(model: nn.Module, precision: str) -> nn.Module:
    """The network for training: in `precision`, on all processes or all GPUs of this one.

    Processes average their gradients (DistributedDataParallel), and on GPUs batch norm takes its
    mean and variance over the batch of all. On CPUs each process has statistics of its own, which
    `average_buffers` averages; under `nn.DataParallel` those of the first GPU are kept. The
    parameters stay those of `model`.

    Raises ValueError for a network on another device than this process's.
    """
    net = Autocast(model, precision)
    if not is_distributed():
        return data_parallel(net)
    own, device, devices = torch.device("cpu"), next(net.parameters()).device, None
    if torch.cuda.is_available():
        own = torch.device("cuda", torch.cuda.current_device())
    if device != own:
        raise ValueError(
            f"under torchrun this process computes on {own}, not on {device}: give `--device cpu` "
            "on a Mac; with NVIDIA's GPUs leave `device` out, CUDA_VISIBLE_DEVICES chooses them, "
            "or, set to nothing, the CPU"
        )
    if own.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place, below the root
        devices = [own]
    with warnings.catch_warnings():  # PyTorch 2.14 gives `broadcast_buffers` another name
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(
            net, devices, broadcast_buffers=False, gradient_as_bucket_view=True
        )


def reduced_after(net: nn.Module, last: bool) -> AbstractContextManager:
    """Within: a part of a step; gradients are reduced after the `last` part alone."""
    distributed = isinstance(net, DistributedDataParallel)
    return net.no_sync() if distributed and not last else nullcontext()


def data_parallel(net: nn.Module) -> nn.Module:
    """The network on all GPUs of this process, if it has several to itself."""
    device = next(net.parameters()).device  # another than the first was chosen by its number
    several = device.type == "cuda" and device.index == 0 and torch.cuda.device_count() > 1
    return AllGPUs(net) if several and not is_distributed() else net


class AllGPUs(nn.DataParallel):
    """`nn.DataParallel` for batches of fewer images than GPUs, too.

    That calls every GPU for an option of `forward`, also those that get no image
    (https://github.com/pytorch/pytorch/issues/31460).
    """

    def scatter(self, inputs: tuple, kwargs: dict, device_ids: list) -> tuple[list, list]:
        inputs, _ = super().scatter(inputs, None, device_ids)
        return inputs, [kwargs] * len(inputs)


def unwrap(net: nn.Module) -> nn.Module:
    """The network itself, without what `wrap_model` or prediction put around it."""
    while isinstance(net, Autocast | Evaluation | nn.DataParallel | DistributedDataParallel):
        net = net.module
    return net


def average_buffers(model: nn.Module) -> None:
    """Give all processes the mean of their batch norms' running statistics."""
    if is_distributed():
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer /= world_size()
