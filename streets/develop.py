"""Turn a painted canvas into a photograph: holes, textures in perspective, light, haze, a camera.

Arrays are flat and float32, of one value for each of N = H x W pixels, where nothing else is said.
"""

import io
import math

import numpy as np
from numpy import ndarray
from numpy.random import Generator
from PIL import Image, ImageFilter

from streets.canvas import BARS, FACADE, GLASS, GROUND, SKY, Canvas
from streets.plan import Light
from streets.textures import GRAIN, Facade, facade, hole, noise, sample, texture

LAMPLIGHT = np.array([[1.0], [0.8], [0.45]], np.float32)
SHOULDER = 1.35  # how soon the response of the camera saturates


class Response:
    """What a camera at random makes of the light; night: 0..1, how dark it is."""

    def __init__(self, rng: Generator, night: float) -> None:
        # the mean that it aims at, 0..1, of all but the sky
        self.bright = rng.uniform(0.14, 0.50) if night < 1 else rng.uniform(0.08, 0.25)
        self.white = 1 + 0.12 * np.float32(rng.random((3, 1, 1)) - 0.5)  # balance
        self.contrast = rng.uniform(0.95, 1.6)
        self.saturation = rng.uniform(0.35, 1.25)  # 1 leaves colours as they are
        self.veil = 0.06 * rng.random() ** 2  # light that strays in the lens, 0..1
        self.vignette = 0.5 * rng.random()
        self.grain = 0.5 + 5 * rng.random() ** 2 + 3 * night  # deviation, in grey values
        # pixels of an image 256 high: deviation of the blur, way while the shutter is open
        self.blur = 0.8 * rng.random() if rng.random() < 0.4 else 0.0
        self.shake = int(2 + 2 * rng.random()) if rng.random() < 0.1 else 1
        self.quality = int(rng.uniform(25, 95)) if rng.random() < 0.3 else 0  # of JPEG; 0: none


class Surfaces:
    """What each pixel of a canvas shows, and where that lies; numbers: its image, [2 H, 2 W]."""

    def __init__(self, canvas: Canvas, numbers: ndarray) -> None:
        numbers, paints = _look_through(canvas, numbers), canvas.paints
        table = np.full((len(paints), 4), 255, np.uint8)
        table[:, :3] = np.clip(paints[:, :3], 0, 255)
        rgb = np.take(table.view(np.uint32)[:, 0], numbers, mode="clip").view(np.uint8)
        rgb = Image.fromarray(rgb.reshape(*numbers.shape, 4)).reduce(2)  # smooth edges
        rgb = np.moveaxis(np.asarray(rgb)[..., :3], 2, 0).reshape(3, -1)
        number = np.ascontiguousarray(numbers[::2, ::2]).ravel()
        self.rgb = rgb.astype(np.float32) / 255  # [3, N], 0..1: its colour in white light
        self.plane = paints[:, 4].astype(np.int32)[number]  # int32
        self.material = paints[:, 5].astype(np.uint8)[number]  # uint8
        self.lit = paints[:, 6][number]  # the sunlight that falls on it, 0..1
        self.glow = paints[:, 7][number]  # its own light, 0..1
        u = np.arange(canvas.width, dtype=np.float32)[None] + np.float32(0.5)
        v = np.arange(canvas.height, dtype=np.float32)[:, None] + np.float32(0.5)
        # its direction, to the right and downwards, as a tangent
        self.u, self.v = (ray.ravel() for ray in np.broadcast_arrays(*_rays(canvas, u, v)))
        self.z, self.s, self.t = _meet(canvas, self.plane, self.u, self.v)
        self.step = self.z / canvas.camera.focal  # metres that it covers


def develop(
    canvas: Canvas, light: Light, response: Response, rng: Generator
) -> tuple[ndarray, ndarray]:
    """Turn the canvas into a photograph, uint8 [H, W, 3], and its labels, uint8 [H, W] (ids)."""
    shape = canvas.height, canvas.width
    numbers = np.asarray(canvas.image)
    labels = canvas.paints[:, 3].astype(np.uint8)[numbers[::2, ::2]]
    pixels = Surfaces(canvas, numbers)
    _add_textures(canvas, pixels, light, rng)
    lit = _illuminate(canvas, pixels, light)
    lit -= light.haze
    lit *= np.exp(-light.density * pixels.z)
    lit += light.haze
    is_sky = pixels.material == SKY
    lit[:, is_sky] = sky(pixels.u[is_sky], pixels.v[is_sky], light)
    if canvas.wires.getbbox():
        lit *= 1 - np.asarray(canvas.wires, np.float32).ravel() / 255
    if light.night > 0.2:  # lamps spill into the air around them
        for channel, colour in zip(lit, pixels.rgb, strict=True):
            spill = np.uint8(np.clip(colour * pixels.glow, 0, 1) * 255).reshape(shape)
            spill = blurred(Image.fromarray(spill), 5)
            channel += spill * (1.6 / 255 * light.night)
    radius = (pixels.u**2 + pixels.v**2).reshape(shape)
    image = lit.reshape(3, *shape)
    return expose(image, is_sky.reshape(shape), radius, response, rng), labels


def blurred(mask: Image.Image, radius: float) -> ndarray:
    """The values of a mask, 0..255, blurred by so many pixels of an image 256 high."""
    blur = ImageFilter.BoxBlur(radius * mask.height / 256)
    return np.asarray(mask.filter(blur), np.float32).ravel()


def _rays(canvas: Canvas, u: ndarray, v: ndarray) -> tuple[ndarray, ndarray]:
    """The directions of pixels (u, v) of the image, as tangents to the right and downwards."""
    camera = canvas.camera
    u, v, unit = u - camera.u0, v - camera.v0, camera.focal * (1 + camera.roll**2)
    return (u + camera.roll * v) / unit, (v - camera.roll * u) / unit


def _meet(canvas: Canvas, on: ndarray, u: ndarray, v: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """Where rays meet planes, in metres: z along the street, and a place on the plane.

    The place is along and up or, on the ground, to the right and ahead."""
    a, c, p, q, r = (column[on] for column in canvas.planes.T[:5])
    flat = on == GROUND
    z = 1 / np.maximum(np.where(flat, v / canvas.camera.height, a * u + c), 1 / 500)
    s = np.where(flat, z * u, z * (p * u + q) - r)
    return z, s, np.where(flat, z, canvas.camera.height - v * z)


def _look_through(canvas: Canvas, numbers: ndarray) -> ndarray:
    """The numbers of what is seen, int32 [2 H, 2 W]: those behind it where a material has holes."""
    numbers, material = numbers.copy(), canvas.paints[:, 5].astype(np.uint8)
    holed = np.flatnonzero(np.take(material >= BARS, numbers, mode="clip"))
    front, (rows, columns) = numbers.ravel()[holed], np.divmod(holed, numbers.shape[1])
    u, v = (np.float32(pixel) / 2 + np.float32(0.25) for pixel in (columns, rows))
    on = canvas.paints[:, 4].astype(np.int32)[front]
    z, s, t = _meet(canvas, on, *_rays(canvas, u, v))
    holed = holed[hole(material[front], s, t, z / canvas.camera.focal, on)]
    numbers.ravel()[holed] = np.asarray(canvas.behind).ravel()[holed]
    return numbers


def _add_textures(canvas: Canvas, pixels: Surfaces, light: Light, rng: Generator) -> None:
    """Multiply the colours by the textures of their materials, in place."""
    s, t, z, step = pixels.s, pixels.t, pixels.z, pixels.step
    shift = pixels.plane * np.float32(13.7)  # no two walls have the same stains
    gain = np.ones_like(s)
    for kind in GRAIN:
        i = np.flatnonzero(pixels.material == kind)
        if len(i):
            gain[i] = texture(kind, s[i] + shift[i], t[i], step[i], rng)
    pixels.rgb *= gain
    i = np.flatnonzero(pixels.material == GLASS)
    mirrored = sample(noise(1.8, seed=5), s[i] * 30 + shift[i], t[i] * 60) * 0.4 + t[i] - 1.2
    pixels.rgb[:, i] += np.clip(mirrored, 0, 1) * 0.2 * np.clip(light.horizon, 0, 1.5)
    i = np.flatnonzero(pixels.material == FACADE)
    a, _, p, q, _, *style = canvas.planes[pixels.plane[i]].T
    along = np.abs(p * z[i] - (p * pixels.u[i] + q) * a * z[i] ** 2) / canvas.camera.focal + 1e-4
    wall = pixels.rgb[:, i]
    lamp = facade(wall, s[i], t[i], (along, step[i]), Facade(*style), light)
    wall *= np.clip(0.66 + 0.06 * t[i], 0, 1)  # less sky is seen from the ground
    pixels.rgb[:, i] = wall + lamp * (LAMPLIGHT - wall)
    pixels.glow[i] = np.maximum(pixels.glow[i], lamp * 0.8)


def _illuminate(canvas: Canvas, pixels: Surfaces, light: Light) -> ndarray:
    """The colours, [3, N], under sun, sky and their own light."""
    flat = pixels.plane == GROUND
    shadow, contact = blurred(canvas.shadow, 1.2) / 255, blurred(canvas.contact, 2.0) / 255
    sun = pixels.lit * np.where(flat, light.height * (1 - shadow), 1)
    lit = light.ambient * (1 - 0.6 * contact * flat)
    lit += light.sun * sun
    if pixels.glow.any():
        lit += pixels.glow * (0.35 + 0.9 * light.night)
    lit *= pixels.rgb
    if light.wet:  # a wet road mirrors the sky, the more the flatter one looks at it
        i = np.flatnonzero(flat)
        mirrored = 0.35 * light.wet * np.exp(-6 * np.maximum(pixels.v[i], 0))
        lit[:, i] = lit[:, i] * (1 - 0.4 * light.wet) + mirrored * light.horizon * 0.5
    return lit


def sky(u: ndarray, v: ndarray, light: Light) -> ndarray:
    """The colour of the sky towards (u, v): [3, N]."""
    up = np.sqrt(np.clip(-v * 2.0, 0, 1))
    rgb = light.horizon + (light.zenith - light.horizon) * up
    tall = 1 / (np.maximum(-v, 0) + 0.06)
    cloud = sample(noise(1.6, seed=3), u * tall * 60 + light.wind, tall * 60)
    return rgb + (light.cloud - rgb) * (0.8 * np.clip(cloud * 0.5 + light.clouds, 0, 1))


def expose(
    image: ndarray, is_sky: ndarray, radius: ndarray, response: Response, rng: Generator
) -> ndarray:
    """The photograph, uint8 [H, W, 3]; rng: of its noise.

    image: [3, H, W], the light from each direction, changed; is_sky: bool [H, W]; radius: [H, W],
    the square of the distance from the middle of the lens, as a tangent."""
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
