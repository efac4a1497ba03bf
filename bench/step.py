"""A training step at batch 8, 368x480: ours, the plain way, and what one would pick instead.

python -m bench.step
"""

from collections.abc import Callable
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.peers import LABELS, make
from bench.plain import plain_step
from bench.timing import GEMM_FLOP, gemm, row, table, take_turns
from convolution import has_avx2_alone

BATCH, SIZE, WIDTH, STEPS, ROUNDS = 8, (368, 480), 16, 2, 3


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes as the loader gives them: images (8, 3, 368, 480), labels (8, 368, 480)."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (BATCH, 3, *SIZE), dtype=torch.uint8)
    labels = torch.randint(0, 19, (BATCH, *SIZE), dtype=torch.uint8)
    labels[:, :40] = 255
    return images, labels


def ours_training(products: bool = True) -> Callable:
    """Our step as `engine.train_one_epoch` takes it, on batches that are in memory already.

    `products`: with the gradients of `convolution.py` where it thinks them faster.
    """
    from torch.utils.data import DataLoader

    import convolution
    from engine import train_one_epoch
    from speed import keep_freed_memory

    keep_freed_memory()
    if not products:
        convolution.has_avx2_alone = lambda: False
    model = make("ours", WIDTH)
    images, labels = batch()
    loader = DataLoader(list(zip(images, labels, strict=True)) * STEPS, BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    return partial(train_one_epoch, model, loader, optimizer, scheduler, torch.device("cpu"))


def plain_training(name: str) -> Callable:
    """`STEPS` plain steps of the contender."""
    model = make(name, WIDTH)
    images, labels = batch()
    labels = labels.long()
    optimizer = torch.optim.Adam(model.parameters())

    def run() -> None:
        for _ in range(STEPS):
            plain_step(model, optimizer, images, labels)

    return run


def count_flop(name: str) -> float:
    """Floating-point operations of a step, per image: forward and backward."""
    model = make(name, WIDTH).eval()  # in which ours takes PyTorch's own convolutions too
    images = torch.rand(1, 3, *SIZE)
    with FlopCounterMode(display=False) as counter:
        model(images).sum().backward()
    return float(counter.get_total_flops())


def rows() -> list[dict]:
    names = ["plain", "smp", "monai"]
    contenders = {name: partial(plain_training, name) for name in names}
    contenders |= {"ours": ours_training, "gemm": gemm}
    if has_avx2_alone():
        contenders["onednn"] = partial(ours_training, products=False)
    found = take_turns(contenders, ROUNDS)
    rate = GEMM_FLOP / found.pop("gemm")["median"]
    speed = {name: STEPS * BATCH / times["median"] for name, times in found.items()}
    flop = {name: count_flop(name) for name in ("ours", *names)}
    weights = {name: sum(p.numel() for p in make(name, WIDTH).parameters()) for name in flop}
    goals = {"plain": "2.0"}
    lines = []
    for name in names:
        size = f"{weights[name] / 1e6:.1f} M parameters, {flop[name] / 1e9:.0f} GFLOP/image"
        lines.append(
            row(
                f"training step against {LABELS[name]} ({size})",
                speed["ours"],
                speed[name],
                "images/s",
                speed["ours"] / speed[name],
                goals.get(name, ""),
            )
        )
    if has_avx2_alone():
        what = "training step against ours with oneDNN's gradients, without convolution.py"
        ratio = speed["ours"] / speed["onednn"]
        lines.append(row(what, speed["ours"], speed["onednn"], "images/s", ratio, ""))
    ours = flop["ours"] * speed["ours"]
    memory = {name: times["peak_memory"] / 2**30 for name, times in found.items()}
    return [
        *lines,
        row(
            f"rate of our step ({weights['ours'] / 1e6:.1f} M, {flop['ours'] / 1e9:.0f} "
            "GFLOP/image), the other is a 2048³ matrix product",
            ours / 1e9,
            rate / 1e9,
            "GFLOP/s",
            ours / rate,
            "0.8",
        ),
        row(
            "peak memory of the training process (less is better)",
            memory["ours"],
            memory["plain"],
            "GiB",
            memory["ours"] / memory["plain"],
            "at most 0.8",
        ),
    ]


if __name__ == "__main__":
    print(table(rows()))
