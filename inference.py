"""From a checkpoint to label maps: the one forward path that `predict` and `evaluate` share."""

import copy
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm  # BatchNorm2d, SyncBatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from data_io.image_io import read_image, to_rgb
from dataset import resize
from model import UNet, Up
from runtime.checkpoint import checkpoint_classes, load_checkpoint
from runtime.cpu import is_plain_3x3, keep_freed_memory
from runtime.cpu_inference import (
    Conv1x1,
    ConvReLU,
    MaxPool2x2,
    is_plain_1x1,
    is_plain_pooling,
)
from runtime.distributed import data_parallel, unwrap
from runtime.precision import Autocast, pick_precision
from utils import label_map

TTA_SCALES = 0.75, 1.0, 1.25
MAX_UNTILED = 2**21  # pixels of an image that is predicted in one piece: 2048 x 1024
TILE, OVERLAP = 1024, 192  # pixels of a larger one's tiles; neighbours share at least `OVERLAP`


def load_model(path: str | Path, device: str | torch.device = "cpu") -> UNet:
    """The network of a checkpoint on `device`, in evaluation mode, its batch norm folded.

    For prediction only: to train on, start a run with `init`. Raises as `load_checkpoint`, and
    ValueError if weights and settings do not fit each other.
    """
    checkpoint = load_checkpoint(path)
    settings, recipe = checkpoint["settings"], checkpoint["recipe"]
    try:
        with torch.device("meta"):  # takes no memory, whatever the settings ask for
            UNet(**settings).load_state_dict(checkpoint["model"], assign=True)
        model = UNet(**settings)
        model.load_state_dict(checkpoint["model"])
        model.classes = checkpoint_classes(checkpoint)
        if model.classes and len(model.classes) != model.settings["num_classes"]:
            raise ValueError(f"it names {len(model.classes)} classes")
        for name in settings.keys() & recipe.keys():
            if settings[name] != recipe[name]:  # of padding, the weights themselves would not tell
                raise ValueError(f"{name} is {recipe[name]!r} by its recipe")
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: its weights do not fit its settings {settings} ({error}): "
            "restore it from a copy, or take another"
        ) from error
    if not has_finite_weights(model):
        raise ValueError(f"{path}: its weights are not all finite numbers: take an earlier one")
    model.downscale = recipe.get("downscale")
    if not isinstance(model.downscale, int) or model.downscale < 1:
        raise ValueError(
            f"{path}: its recipe's downscale is {model.downscale!r}, not a whole number from 1 on: "
            "restore it from a copy, or take another"
        )
    return fold_batch_norm(model).to(device)


def has_finite_weights(model: nn.Module) -> bool:
    """Whether no weight and no statistic of batch norm is infinite or NaN."""
    return all(bool(value.isfinite().all()) for value in model.state_dict().values())


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """The network in evaluation mode, its batch norm folded into the convolutions.

    In evaluation, batch norm multiplies and shifts each channel by constants, which fit into the
    weights and bias of the convolution before it (Jacob et al. 2018, section 3.2,
    https://arxiv.org/abs/1712.05877): that saves a pass over every feature map. The layers of
    `runtime.cpu_inference` save others. Predictions agree to rounding. A network is copied first;
    one that was folded already, as `load_model` returns it, is returned as it is.
    """
    if not model.training and getattr(model, "is_folded", False):
        return model
    model = copy.deepcopy(model).eval()
    model.is_folded = True
    for block in [m for m in model.modules() if isinstance(m, nn.Sequential)]:
        at = 0  # of the layer that the next ones may be folded into
        for i, layer in enumerate(block):
            conv = block[at]
            has_relu = isinstance(conv, ConvReLU)
            if isinstance(layer, _BatchNorm) and isinstance(conv, nn.Conv2d) and not has_relu:
                block[at], block[i] = fuse_conv_bn_eval(conv, layer), nn.Identity()
            elif type(layer) is nn.ReLU and is_plain_3x3(conv):
                block[at], block[i] = _as(ConvReLU, conv), nn.Identity()
            else:
                at = i
    if isinstance(model, UNet):
        if is_plain_pooling(model.pool):
            model.pool = _as(MaxPool2x2, model.pool)
        if is_plain_1x1(model.conv_1x1):
            model.conv_1x1 = _as(Conv1x1, model.conv_1x1)
        for i, up in enumerate(model.expansive):
            if type(up) is Up and isinstance(up.convs[0], ConvReLU):
                model.expansive[i] = _as(_UpFolded, up)
    return model


def _as(kind: type, layer: nn.Module) -> nn.Module:
    """A copy of a layer as one of another class, since the layer may be used elsewhere, too."""
    layer = copy.copy(layer)
    layer.__class__ = kind
    return layer


class _UpFolded(Up):
    """An `Up` whose first layer is a `ConvReLU`, which takes two maps as they are."""

    def join(self, skip: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return skip, x


def inference_net(model: UNet, precision: str = "auto") -> nn.Module:
    """The network as it predicts: folded, under autocast, on all GPUs of this process."""
    keep_freed_memory()
    device = next(model.parameters()).device
    return data_parallel(Autocast(fold_batch_norm(model), pick_precision(precision, device)))


@torch.inference_mode()
def predict_logits(
    net: nn.Module, images: Tensor, size: tuple[int, int], tta: bool = False
) -> Iterator[Tensor]:
    """The logits of each image of a batch, (1, num_classes, *size).

    Upsampled bilinearly if the images are of another size, and one by one, since a batch's logits
    at Cityscapes' full resolution are gigabytes. Upsampled ones and means are float32, others of
    the precision that the network computes in.

    Args:
        net: as `inference_net` returns it.
        images: (N, 3, H, W) uint8, on the network's device.
        size: height and width.
        tta: test-time augmentation, the mean over `TTA_SCALES`, each also mirrored.
    """
    if not tta:
        for logits in net(images, whole=True).split(1):
            yield _resized(logits, size)
        return
    for image in images.split(1):
        total = 0
        for scale in TTA_SCALES:
            height, width = (max(round(n * scale), 1) for n in image.shape[-2:])
            view = resize(image, (height, width))
            total = total + _resized(net(view, whole=True), size).float()
            total = total + _resized(net(view.flip(-1), whole=True).flip(-1), size).float()
        yield total / (2 * len(TTA_SCALES))


def _resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits.float(), size, mode="bilinear")


def predict_rows(
    net: nn.Module, image: Tensor, scale: float, tile: int | None, tta: bool = False
) -> Iterator[Tensor]:
    """The logits of an image of any size in bands of whole rows, (num_classes, h, W).

    A large image is predicted in tiles and upsampled in bands, so that memory is bounded by a row
    of tiles. Of the dtype of `predict_logits`, or from tiles float32.

    Args:
        net: as `inference_net` returns it.
        image: (3, H, W) uint8.
        scale: resize the image by this for the network; the logits are upsampled to (H, W).
        tile: height and width of the tiles, in pixels that the network sees; None takes the whole
            image where it has at most `MAX_UNTILED` of these, else `TILE`.
        tta: as in `predict_logits`.
    """
    height, width = image.shape[-2:]
    h, w = (max(int(n * scale + 1e-6), 1) for n in (height, width))
    view = resize(image, [h, w]).to(next(net.parameters()).device)
    if tile is None and max(height * width, h * w) <= MAX_UNTILED:
        (logits,) = predict_logits(net, view.unsqueeze(0), (height, width), tta)
        yield logits[0]
        return
    if tile is None:
        tile = max(h, w) if h * w <= MAX_UNTILED else TILE
    bands = _tiled(net, view, tile, tta)
    yield from bands if (h, w) == (height, width) else _upsampled(bands, h, height, width)


def _tiled(net: nn.Module, image: Tensor, tile: int, tta: bool) -> Iterator[Tensor]:
    """The logits of (3, H, W) uint8 in bands of rows, (num_classes, h, W).

    Tiles overlap by `OVERLAP` or more and are blended with weights that fall towards their edges;
    rows that no further tile touches are given out.
    """
    height, width = image.shape[-2:]
    # Where a tile is pooled as the whole image would be; tiles of 384 pixels can move by 192.
    step = 2 ** min(getattr(unwrap(net), "depth", 0), 6)
    rows, columns = _tile_starts(height, tile, step), _tile_starts(width, tile, step)
    shared = None  # sums and weights of the rows that the last row of tiles shares with this one
    for y, next_y in pairwise([*rows, height]):
        h = min(tile, height - y)
        sums, weights = None, torch.zeros(h, width, device=image.device)
        for x in columns:
            part = image[:, y : y + h, x : x + tile]
            (logits,) = predict_logits(net, part.unsqueeze(0), part.shape[-2:], tta)
            if sums is None:
                sums = torch.zeros(logits.shape[1], h, width, device=image.device)
            vertical = _tile_weights(y, y + h, height, image.device)
            window = vertical[:, None] * _tile_weights(x, x + part.shape[-1], width, image.device)
            sums[:, :, x : x + tile] += logits[0] * window
            weights[:, x : x + tile] += window
        if shared is not None:
            sums[:, : shared[0].shape[1]] += shared[0]
            weights[: len(shared[1])] += shared[1]
        done = next_y - y
        yield sums[:, :done] / weights[:done]
        shared = sums[:, done:].clone(), weights[done:].clone()


def _upsampled(bands: Iterator[Tensor], h: int, height: int, width: int) -> Iterator[Tensor]:
    """Bands of the rows of (C, h, w), in bands of those of (C, height, width).

    As `F.interpolate` upsamples bilinearly, to rounding, without the whole in memory.
    """
    position = ((torch.arange(height) + 0.5) * h / height - 0.5).clamp(0, h - 1)  # of source rows
    upper, fraction = position.long(), position.frac()
    kept, first, done = None, 0, 0  # source rows, the number of the first, and output rows
    for band in bands:
        kept = band if kept is None else torch.cat([kept, band], 1)
        there = first + kept.shape[1]
        stop = height if there == h else int((upper + 1 < there).sum())
        for out in range(done, stop, 256):
            rows = slice(out, min(out + 256, stop))
            above = (upper[rows] - first).to(kept.device)
            below = (above + 1).clamp(max=kept.shape[1] - 1)
            t = fraction[rows].to(kept.device).unsqueeze(1)
            mixed = torch.lerp(kept[:, above], kept[:, below], t)
            yield F.interpolate(mixed[None], (mixed.shape[1], width), mode="bilinear")[0]
        done = stop
        if done < height:  # forget the rows above those that the next output row lies between
            over = min(int(upper[done]) - first, kept.shape[1])
            kept, first = kept[:, over:], first + over


def _tile_starts(size: int, tile: int, step: int) -> list[int]:
    """Where tiles begin, at multiples of `step`, to cover `size` pixels evenly.

    Neighbours have at least `OVERLAP` in common.
    """
    if size <= tile:
        return [0]
    last = -(-(size - tile) // step)
    count = -(-last // ((tile - OVERLAP) // step)) + 1
    return [i * last // (count - 1) * step for i in range(count)]


def _tile_weights(start: int, stop: int, size: int, device: torch.device) -> Tensor:
    """How much the pixels `start` to `stop` of `size` count in their tile: (stop - start,) float32.

    The fourth power of the distance from the tile's edges, where its context ends; those that are
    the image's edges aside.
    """
    i = torch.arange(start, stop, device=device)
    before = i - start + 1 if start else torch.full_like(i, size)
    after = stop - i if stop < size else torch.full_like(i, size)
    return (torch.minimum(before, after) / size) ** 4


def check_view(scale: float, tile: int | None) -> None:
    """Raise ValueError for a scale or a tile that `predict` cannot use."""
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be above 0, not {scale}")
    if tile is not None and tile < 2 * OVERLAP:
        raise ValueError(f"tiles overlap by {OVERLAP} pixels: give tile at least {2 * OVERLAP}")


def predict(
    model: UNet,
    image: str | Path | Image.Image | Tensor,
    probabilities: bool = False,
    scale: float = 1.0,
    tile: int | None = None,
    tta: bool = False,
    precision: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """The class of every pixel of an image of any size.

    Args:
        model: as `load_model` returns it, or one that is being trained, of which a copy is
            folded. It sees the image downscaled by `model.downscale`, as in its training, and its
            logits are upsampled.
        image: a file or a Pillow image, which are made RGB and upright (see `to_rgb`); or a uint8
            tensor (3, H, W).
        probabilities: also return how probable each pixel's class is.
        scale: resize the image by this first: a network knows things at the size, in pixels, that
            they had in its training.
        tile: height and width, as the network sees them, of the tiles in which a large image is
            predicted; None chooses by its size (see `predict_rows`).
        tta: test-time augmentation: the mean over scales and mirrored images.
        precision: as in `pick_precision`.

    Returns:
        (H, W) uint8 train ids, on the CPU; with `probabilities`, also (H, W) float32, 0..1.

    Raises:
        FileNotFoundError, or ValueError for a file that is no image, one that 8-bit RGB cannot
        hold (see `to_rgb`), a tensor of another form, a tile that is too small, a scale of 0 or
        less, or a precision that the device lacks.
    """
    if isinstance(image, str | Path):
        image = read_image(image)
    elif isinstance(image, Image.Image):
        image = to_rgb(image)
    is_tensor = isinstance(image, Tensor)
    if not is_tensor or image.dtype != torch.uint8 or image.shape[:-2] != (3,) or not image.numel():
        found = f"{image.dtype} {tuple(image.shape)}" if is_tensor else type(image).__name__
        raise ValueError(
            "predict takes one RGB image, uint8 (3, H, W) with values 0..255, or a file or a "
            f"Pillow image, not {found}"
        )
    check_view(scale, tile)
    net = inference_net(model, precision)
    labels, confidence = [], []
    for logits in predict_rows(net, image, scale / model.downscale, tile, tta):
        labels.append(label_map(logits.unsqueeze(0))[0].cpu())
        if probabilities:
            confidence.append(logits.float().softmax(0).amax(0).cpu())
    return (torch.cat(labels), torch.cat(confidence)) if probabilities else torch.cat(labels)
