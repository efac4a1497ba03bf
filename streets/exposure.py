"""The camera's response: metering, white balance, tone curve, blur, noise."""

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from streets.textures import noise

SHOULDER = 1.35  # how soon the response saturates


@dataclass(frozen=True)
class Response:
    """What a camera makes of the light."""

    bright: float  # the mean that it aims at, 0..1, of all but the sky
    white: np.ndarray  # balance, float32 [3, 1, 1]
    contrast: float
    saturation: float  # 1 leaves colours as they are
    veil: float  # light that strays in the lens, 0..1
    vignette: float
    grain: float  # deviation of the noise, in grey values
    blur: float  # deviation in pixels of an image 256 high
    shake: int  # pixels by which such an image moves while the shutter is open, sideways
    quality: int  # of JPEG; 0 leaves the image alone


def draw_response(rng: Generator, night: float) -> Response:
    """A camera at random; night: 0..1, how dark it is."""
    return Response(
        bright=rng.uniform(0.14, 0.50) if night < 1 else rng.uniform(0.08, 0.25),
        white=1 + 0.12 * np.float32(rng.random((3, 1, 1)) - 0.5),
        contrast=rng.uniform(0.95, 1.6),
        saturation=rng.uniform(0.35, 1.25),
        veil=0.06 * rng.random() ** 2,
        vignette=0.5 * rng.random(),
        grain=0.5 + 5 * rng.random() ** 2 + 3 * night,
        blur=0.8 * rng.random() if rng.random() < 0.4 else 0.0,
        shake=int(2 + 2 * rng.random()) if rng.random() < 0.1 else 1,
        quality=int(rng.uniform(25, 95)) if rng.random() < 0.3 else 0,
    )


def expose(
    image: np.ndarray, is_sky: np.ndarray, radius: np.ndarray, response: Response, rng: Generator
) -> np.ndarray:
    """The photograph, uint8 [H, W, 3]; rng: of its noise.

    image: float32 [3, H, W], the light from each direction, changed; is_sky: bool [H, W]; radius:
    float32 [H, W], the square of the distance from the middle of the lens, as a tangent."""
    ground = image[:, ::3, ::3][:, ~is_sky[::3, ::3]]
    mean = max(float(ground.mean()), 1e-3) if ground.size else 1.0
    aim = -math.log1p(-response.bright) / SHOULDER  # what the curve below takes to `bright`
    image *= response.white * (-SHOULDER * aim / mean)
    image *= 1 - response.vignette * radius
    image -= SHOULDER * response.veil
    dark = np.exp(image, out=image)  # film and sensors saturate softly: 1 - exp(-k x)
    grey, strength = dark.mean(0), 255 * response.contrast
    level = 255 * (response.bright + (1 - response.bright) * response.contrast)
    image *= -strength * response.saturation
    image += level - grey * (strength * (1 - response.saturation))
    grain = noise(0.0, 1024, seed=4).ravel()
    start = int(rng.integers(0, grain.size // 2))
    image += np.resize(grain[start:], image.size).reshape(image.shape) * response.grain
    shake = round(response.shake * image.shape[1] / 256)
    if shake > 1:
        image = sum(np.roll(image, i, axis=2) for i in range(shake)) / np.float32(shake)
    image = np.moveaxis(np.clip(image, 0, 255, out=image).astype(np.uint8), 0, 2)
    photo = Image.fromarray(np.ascontiguousarray(image))
    if response.blur:
        photo = photo.filter(ImageFilter.GaussianBlur(response.blur * photo.height / 256))
    if response.quality:
        file = io.BytesIO()
        photo.save(file, "jpeg", quality=response.quality)
        photo = Image.open(file)
    return np.asarray(photo)
