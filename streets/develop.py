"""Turn a painted canvas into a photograph: textures in perspective, light, haze, the camera.

Arrays are flat, of one value for each of N = H x W pixels, where nothing else is said."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from streets.canvas import ASPHALT, BARS, BRICK, FACADE, GRASS, GROUND, LEAVES, SKY, SLABS, Canvas
from streets.light import Light
from streets.textures import Facade, facade, noise, sample, texture

LAMPLIGHT = np.array([1.0, 0.8, 0.45], np.float32)


@dataclass
class Surfaces:
    """What each pixel shows, and where that lies."""

    rgb: np.ndarray  # float32 [N, 3], 0..1: its colour in white light
    label: np.ndarray  # uint8: an id
    plane: np.ndarray  # int32
    material: np.ndarray  # uint8
    lit: np.ndarray  # float32, 0..1: the sunlight that falls on it
    glow: np.ndarray  # float32, 0..1: its own light
    u: np.ndarray  # float32: its direction, to the right, as a tangent
    v: np.ndarray  # downwards
    z: np.ndarray  # float32: its distance along the street, in metres


def develop(canvas: Canvas, light: Light, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Turn the canvas into a photograph, uint8 [H, W, 3], and its labels, uint8 [H, W] (ids)."""
    height, width = canvas.height, canvas.width
    pixels = _surfaces(canvas)
    _add_textures(canvas, pixels, light)
    lit = _illuminate(canvas, pixels, light)
    clear = np.exp(-pixels.z * light.density)[:, None]
    lit = light.haze + (lit - light.haze) * clear
    i = np.flatnonzero(pixels.material == SKY)
    lit[i] = heaven(pixels.u[i], pixels.v[i], light)
    image = lit.reshape(height, width, 3)
    if light.night > 0.2:  # lamps spill into the air around them
        spill = (pixels.rgb * pixels.glow[:, None]).reshape(height, width, 3)
        spill = Image.fromarray(np.uint8(np.clip(spill, 0, 1) * 255))
        spill = spill.filter(ImageFilter.BoxBlur(5 * height / 256))
        image = image + np.asarray(spill, np.float32) / 255 * 1.6 * light.night
    image = expose(image, pixels.u, pixels.v, light, rng)
    return image, pixels.label.reshape(height, width)


def _surfaces(canvas: Canvas) -> Surfaces:
    """Look the numbers of the canvas up."""
    height, width, camera = canvas.height, canvas.width, canvas.camera
    numbers, paints = np.asarray(canvas.image), np.array(canvas.paints, np.float32)
    table = np.full((len(paints), 4), 255, np.uint8)
    table[:, :3] = np.clip(paints[:, :3], 0, 255)
    rgb = table.view(np.uint32)[:, 0][numbers].view(np.uint8).reshape(*numbers.shape, 4)
    rgb = Image.fromarray(rgb).reduce(2)  # four canvas pixels a pixel: smooth edges
    number = np.ascontiguousarray(numbers[::2, ::2]).ravel()
    plane = paints[:, 4].astype(np.int32)[number]
    u = np.tile((np.arange(width, dtype=np.float32) - camera.u0) / camera.focal, height)
    v = np.arange(height, dtype=np.float32) + 0.5 - camera.v0
    v = np.repeat(v / camera.focal, width)
    facing = np.array([p[:2] for p in canvas.planes], np.float32)
    upright = facing[:, 0][plane] * u + facing[:, 1][plane]
    nearness = np.where(plane == GROUND, v / camera.height, upright)
    return Surfaces(
        rgb=np.asarray(rgb)[..., :3].reshape(-1, 3).astype(np.float32) / 255,
        label=paints[:, 3].astype(np.uint8)[number],
        plane=plane,
        material=paints[:, 5].astype(np.uint8)[number],
        lit=paints[:, 6][number],
        glow=paints[:, 7][number],
        u=u,
        v=v,
        z=1 / np.maximum(nearness, 1 / 500),
    )


def _add_textures(canvas: Canvas, pixels: Surfaces, light: Light) -> None:
    """Multiply the colours by the textures of their materials, in place."""
    planes, on, u, z = np.array(canvas.planes, np.float32), pixels.plane, pixels.u, pixels.z
    a, _, p, q, r = (planes[:, i][on] for i in range(5))  # see `Canvas.plane`
    flat = on == GROUND
    s = np.where(flat, z * u, z * (p * u + q) - r)
    t = np.where(flat, z, canvas.camera.height - pixels.v * z)
    step = z / canvas.camera.focal
    for kind in (ASPHALT, SLABS, BRICK, BARS, LEAVES, GRASS):
        i = np.flatnonzero(pixels.material == kind)
        pixels.rgb[i] *= texture(kind, s[i], t[i], step[i])[:, None]
    i = np.flatnonzero(pixels.material == FACADE)
    if len(i):
        along = np.abs(p[i] * z[i] - (p[i] * u[i] + q[i]) * a[i] * z[i] ** 2)
        along = along / canvas.camera.focal + 1e-4
        wall, style = pixels.rgb[i], Facade(*planes[:, 5:][on[i]].T)
        lamp = facade(wall, s[i], t[i], (along, step[i]), style, light.sky, light.night)
        wall *= np.clip(0.72 + 0.07 * t[i], 0, 1)[:, None]  # less sky is seen from the ground
        pixels.rgb[i] = wall + lamp[:, None] * (LAMPLIGHT - wall)
        pixels.glow[i] = np.maximum(pixels.glow[i], lamp * 0.8)


def _illuminate(canvas: Canvas, pixels: Surfaces, light: Light) -> np.ndarray:
    """The colours, float32 [N, 3], under sun, sky and their own light."""
    flat, soft = pixels.plane == GROUND, canvas.height / 256
    shadow, contact = (
        np.asarray(mask.filter(ImageFilter.GaussianBlur(k * soft)), np.float32).ravel() / 255
        for mask, k in ((canvas.shadow, 1.2), (canvas.contact, 2.0))
    )
    sun = np.where(flat, pixels.lit * light.height * (1 - shadow), pixels.lit)
    ambient = light.ambient * (1 - 0.55 * contact * flat)[:, None]
    lit = pixels.rgb * (ambient + light.sun * sun[:, None])
    return lit + pixels.rgb * (pixels.glow * (0.35 + 0.9 * light.night))[:, None]


def heaven(u: np.ndarray, v: np.ndarray, light: Light) -> np.ndarray:
    """The colour of the sky towards (u, v): float32 [N, 3]."""
    up = np.clip(-v * 2.4, 0, 1)[:, None]
    rgb = light.haze + (light.sky - light.haze) * up**0.7
    tall = 1 / (np.maximum(-v, 0) + 0.06)
    cloud = sample(noise(1.6, seed=3), u * tall * 60 + light.wind, tall * 60)
    cover = np.clip(cloud * 0.5 + light.clouds, 0, 1)[:, None] * 0.7
    return rgb + (light.cloud - rgb) * cover


def expose(
    image: np.ndarray, u: np.ndarray, v: np.ndarray, light: Light, rng: Generator
) -> np.ndarray:
    """The camera: vignette, white balance, exposure, contrast and noise.

    image: float32 [H, W, 3], 0 is black, 1 is bright.  Returns uint8 [H, W, 3]."""
    height, width, _ = image.shape
    image = image * (light.white * light.exposure)
    image *= (1 - 0.35 * (u * u + v * v)).reshape(height, width, 1)
    image = 1 - np.exp(-1.35 * np.maximum(image, 0))  # film saturates softly
    image = 0.5 + (image - 0.5) * light.contrast
    grain = noise(0.0, seed=4).ravel()
    start = rng.integers(0, grain.size)
    grain = np.resize(np.roll(grain, -int(start)), image.size).reshape(image.shape)
    return np.uint8(np.clip(image * 255 + grain * light.grain, 0, 255))
