"""Exported networks in 8-bit integers, by ONNX Runtime: `python export_onnx.py --precision int8`.

Static quantisation with a scale for each output channel of a weight and for each feature map, as
Jacob et al. 2018 (https://arxiv.org/abs/1712.05877) and Wu et al. 2020
(https://arxiv.org/abs/2004.09602) describe it. The first convolution, which sees the image, and
the last one, which gives the logits, stay in floating point. Weights take 7 of their 8 bits: with
all 8, processors with AVX2 but without VNNI would saturate sums of two products in 16 bits, in
silence.
"""

import logging
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_io.image_io import read_image
from dataset import resize
from model import UNet
from streets.scene import draw_scene

# Where a feature map's range ends: 0.005 % of the values seen, at each end, are beyond it.
PERCENTILE = 99.99
MOST_PIXELS = 2**19  # of an image that ranges are taken from: 1024 x 512, as of Cityscapes' recipe
SCENES = 16  # of Streets' training split, 512x256, that ranges are taken from without other images
QUANTIZED = ["Conv", "Relu", "MaxPool", "Concat", "DepthToSpace"]


def calibration_images(
    model: UNet, files: list[Path], size: tuple[int, int] | None = None
) -> list[Tensor]:
    """uint8 (3, h, w) as the network sees them: of `files`, or drawn scenes where there are none.

    Downscaled as in the network's training and to at most `MOST_PIXELS` pixels, since all feature
    maps of an image are kept; or of `size`, height and width, if given.

    Raises as `read_image`.
    """
    scenes = (draw_scene(np.random.default_rng([0, 0, i]))[0] for i in range(SCENES))
    drawn = (torch.from_numpy(scene.transpose(2, 0, 1).copy()) for scene in scenes)
    images, shrunk = [], 0
    for image in map(read_image, files) if files else drawn:
        factor = max(model.downscale, (image[0].numel() / MOST_PIXELS) ** 0.5)
        shrunk += factor > model.downscale and not size
        images.append(resize(image, size or [max(int(n / factor), 1) for n in image.shape[-2:]]))
    if shrunk:
        print(f"{shrunk} of {len(images)} images were shrunk to {MOST_PIXELS:,} pixels, for memory")
    return images


def quantize(source: Path, path: Path, images: list[Tensor]) -> None:
    """Write the network of `source`, float32, in int8 to `path`; ranges are those on `images`."""
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        """One image at a time, since all feature maps of all of them do not fit into memory."""

        def __len__(self) -> int:
            return len(images)

        def set_range(self, start_index: int, end_index: int) -> None:
            self.batches = iter(images[start_index:end_index])

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.batches, None)
            return None if image is None else {"images": image.unsqueeze(0).numpy()}

    convs = [node.name for node in onnx.load(source).graph.node if node.op_type == "Conv"]
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of a preparation that this graph does not need
    try:
        with redirect_stdout(StringIO()):
            quantization.quantize_static(
                source,
                path,
                Reader(),
                op_types_to_quantize=QUANTIZED,
                per_channel=True,
                reduce_range=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=[convs[0], convs[-1]],
                calibrate_method=quantization.CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1},
            )
    finally:
        logging.disable(before)
