"""From a checkpoint to label maps: the forward pass of both `predict` and `engine.evaluate`."""

import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from data_io.image_io import jpeg_damage, read_image, to_rgb
from dataset import resize
from folding import for_prediction
from model import UNet, check_settings
from runtime.checkpoint import load_checkpoint
from runtime.cpu import keep_freed_memory
from runtime.distributed import data_parallel, unwrap
from runtime.precision import Autocast, pick_precision
from tiling import BAND, OVERLAP, blend_tiles, upsample_bands
from utils import CITYSCAPES, Classes, label_map

TTA_SCALES = 0.75, 1.0, 1.25
MAX_UNTILED = 2**21  # pixels of an image that is predicted in one piece: 2048 x 1024
MAX_SCALE = 8  # of `predict`; beyond it are percentages, and images that fill the memory
TILE = 896  # height and width, in pixels, of the tiles of a larger one: 12 megapixels in 2.5 GiB


def load_model(path: str | Path, device: str | torch.device = "cpu") -> UNet:
    """The network of a checkpoint on `device`, in evaluation mode.

    Raises as `load_checkpoint`, and ValueError if its parts do not fit each other.
    """
    checkpoint = load_checkpoint(path)
    check_settings(checkpoint["settings"], path)
    try:
        model = _network(checkpoint)
    except (AttributeError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: its weights do not fit its settings {checkpoint['settings']} ({error}): "
            "restore it from a copy, or take another"
        ) from error
    if not has_finite_weights(model):
        raise ValueError(f"{path}: its weights are not all finite numbers: take an earlier one")
    return model.eval().to(device)


def _network(checkpoint: dict) -> UNet:
    settings, recipe = checkpoint["settings"], checkpoint["recipe"]
    with torch.device("meta"):  # takes no memory, whatever the settings ask for
        try:
            trial = UNet(**settings)
        except RuntimeError:  # its constructor reads a number of a tensor, which `meta` has not
            pass
        else:
            trial.load_state_dict(checkpoint["model"], assign=True)
    model = UNet(**settings)
    model.load_state_dict(checkpoint["model"])
    # Checkpoints from before classes were saved are of Cityscapes' 19.
    classes = checkpoint.get("classes", asdict(CITYSCAPES))
    model.classes = Classes(**classes) if classes else None
    if model.classes and len(model.classes) != model.settings["num_classes"]:
        raise ValueError(f"it names {len(model.classes)} classes")
    for name in settings.keys() & recipe.keys():
        if settings[name] != recipe[name]:  # of padding, the weights themselves would not tell
            raise ValueError(f"{name} is {recipe[name]!r} by its recipe")
    model.downscale = recipe.get("downscale")
    if not isinstance(model.downscale, int) or model.downscale < 1:
        raise ValueError(f"its recipe's downscale is {model.downscale!r}")
    iou = checkpoint.get("metrics", {}).get("iou", {})
    names = model.classes.names if model.classes else ()
    model.known = [i for i, name in enumerate(names) if iou.get(name) is not None]
    return model


def has_finite_weights(model: nn.Module) -> bool:
    """Whether no weight and no statistic of batch norm is infinite or NaN."""
    batch_norm = nn.modules.batchnorm._BatchNorm
    norms = [module for module in model.modules() if isinstance(module, batch_norm)]
    tensors = [*model.parameters(), *(buffer for norm in norms for buffer in norm.buffers())]
    return all(bool(value.isfinite().all()) for value in tensors)


def inference_net(model: nn.Module, precision: str = "auto") -> nn.Module:
    """What predicts for a network: what `for_prediction` gives, under autocast, on all GPUs.

    It computes in evaluation mode, whatever mode `model` is in.
    """
    keep_freed_memory()
    model = unwrap(model)
    weight = next(model.parameters())
    # A network that was made .half() or .bfloat16() computes in that, which autocast would mix up.
    precision = "fp32" if weight.itemsize == 2 else pick_precision(precision, weight.device)
    return data_parallel(Autocast(for_prediction(model, precision), precision))


def check_normalized(_: nn.Module, args: tuple, kwargs: dict) -> None:
    """A forward pre-hook, with keywords, of networks that leave this project.

    Raises ValueError for images that are neither uint8 nor floats of -2..2, and for floats of 0..1,
    as photographs often are.
    """
    images = args[0] if args else kwargs.get("images", torch.empty(0))
    if images.dtype == torch.uint8 or not images.numel():
        return
    low, high = (float(value) for value in images.detach().aminmax())
    is_normalized = images.is_floating_point() and low >= -2.05 and high <= 2.05
    if not is_normalized or (low >= 0 and high <= 1):
        raise ValueError(
            f"the images are {images.dtype} from {low:.3g} to {high:.3g}: give uint8, 0..255, as "
            "they come from a file, which always works, or floats of -2..2 that went through "
            "`model.normalize` (those of a bright crop alone may look like photographs of 0..1)"
        )


@torch.inference_mode()
def predict_logits(
    net: nn.Module, images: Tensor, size: tuple[int, int], tta: bool = False
) -> Iterator[Tensor]:
    """The logits of each image of a batch, (1, num_classes, *size).

    They are upsampled bilinearly if the images are of another size, one by one, since a batch's
    logits at Cityscapes' full resolution are gigabytes. Logits that are upsampled or averaged are
    float32, others of the precision that the network computes in.

    Args:
        net: as `inference_net` returns it.
        images: (N, 3, H, W) uint8, on the network's device.
        size: height and width.
        tta: test-time augmentation, the mean over `TTA_SCALES`, each also mirrored.
    """
    if not tta:
        for logits in net(images, full_image=True).split(1):
            yield _resized(logits, size)
        return
    for image in images.split(1):
        total = 0
        for scale in TTA_SCALES:
            height, width = (max(round(n * scale), 1) for n in image.shape[-2:])
            # PyTorch 2.6 has no antialiasing on Apple's GPUs.
            source = image.cpu() if image.device.type == "mps" else image
            view = resize(source, (height, width)).to(image.device)
            total = total + _resized(net(view, full_image=True), size).float()
            total = total + _resized(net(view.flip(-1), full_image=True).flip(-1), size).float()
        yield total / (2 * len(TTA_SCALES))


def _resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits.float(), size, mode="bilinear")


def predict_rows(
    net: nn.Module, image: Tensor, scale: float, tile: int | None, tta: bool = False
) -> Iterator[Tensor]:
    """The logits of an image of any size in bands of rows, (num_classes, h, W).

    A large image is predicted in tiles and upsampled in bands, so that memory is bounded by a row
    of tiles. The dtype is that of `predict_logits`; tiles give float32.

    Args:
        net: as `inference_net` returns it.
        image: (3, H, W) uint8.
        scale: resize the image by this for the network; the logits are upsampled to (H, W).
        tile: height and width of the tiles, in pixels that the network sees; None takes the full
            image where it has at most `MAX_UNTILED` of these, else `TILE`.
        tta: as in `predict_logits`.
    """
    height, width = image.shape[-2:]
    h, w = (max(int(n * scale + 1e-6), 1) for n in (height, width))
    image = resize(image, [h, w]).to(next(net.parameters()).device)
    if tile is None and max(height * width, h * w) <= MAX_UNTILED:
        yield _logits_of(net, image, (height, width), tta)
        return
    if tile is None:
        tile = max(h, w) if h * w <= MAX_UNTILED else TILE
    # Tiles begin where they are pooled as the full image would be; ones of 384 pixels move by 192.
    step = 2 ** min(getattr(unwrap(net), "depth", 0), 6)
    bands = blend_tiles(lambda part: _logits_of(net, part, part.shape[-2:], tta), image, tile, step)
    yield from bands if (h, w) == (height, width) else upsample_bands(bands, h, height, width)


def _logits_of(net: nn.Module, image: Tensor, size: tuple[int, int], tta: bool) -> Tensor:
    """(3, H, W) uint8 -> (num_classes, *size)."""
    (logits,) = predict_logits(net, image.unsqueeze(0), size, tta)
    return logits[0]


def check_view(scale: float, tile: int | None) -> None:
    """Raise ValueError for a scale or a tile that `predict` cannot use."""
    if not 0 < scale <= MAX_SCALE:
        raise ValueError(f"scale is a factor above 0 and at most {MAX_SCALE}, not {scale:g}")
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
        model: as `load_model` returns it, or one that is being trained, which stays as it is. It
            sees the image downscaled by `model.downscale`, as in its training, and its logits are
            upsampled.
        image: a file or a Pillow image, which are made RGB and upright (see `to_rgb`); or a uint8
            tensor (3, H, W). Warns of a JPEG whose data are damaged.
        probabilities: also return the probability of each pixel's class.
        scale: resize the image by this first, at most by `MAX_SCALE`: a network knows things at
            the size, in pixels, that they had in its training.
        tile, tta: as in `predict_rows`.
        precision: as in `pick_precision`.

    Returns (H, W) uint8 train ids, on the CPU; with `probabilities`, also (H, W) float32, 0..1.

    Raises FileNotFoundError, or ValueError for a file that is no image, one that 8-bit RGB cannot
    hold (see `to_rgb`), a tensor of another form, a tile that is too small, a scale that is not
    above 0 and at most `MAX_SCALE`, or a precision that the device lacks.
    """
    if isinstance(image, str | Path):
        path, image = image, read_image(image)
        if damage := jpeg_damage(path):
            warnings.warn(damage, stacklevel=2)
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
    model = unwrap(model)
    net = inference_net(model, precision)
    labels, confidence = [], []
    for logits in predict_rows(net, image, scale / model.downscale, tile, tta):
        labels.append(label_map(logits.unsqueeze(0))[0].cpu())
        if probabilities:
            parts = (part.float().softmax(0).amax(0).cpu() for part in logits.split(BAND, 1))
            confidence += parts
        del logits  # room for the next band
    return (torch.cat(labels), torch.cat(confidence)) if probabilities else torch.cat(labels)
