"""Turn a painted canvas into a photograph: holes, textures in perspective, light, haze.

Arrays are flat, of one value for each of N = H x W pixels, where nothing else is said."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from streets import canvas as cv
from streets.canvas import GROUND, Canvas
from streets.exposure import Response, expose
from streets.light import Light
from streets.textures import Facade, facade, hole, noise, sample, texture

LAMPLIGHT = np.array([[1.0], [0.8], [0.45]], np.float32)
TEXTURED = (cv.PLAIN, cv.ASPHALT, cv.SLABS, cv.BRICK, cv.LEAVES, cv.GRASS, cv.GLOSS, cv.GLASS)


@dataclass
class Surfaces:
    """What each pixel shows, and where that lies."""

    rgb: np.ndarray  # float32 [3, N], 0..1: its colour in white light
    plane: np.ndarray  # int32
    material: np.ndarray  # uint8
    lit: np.ndarray  # float32, 0..1: the sunlight that falls on it
    glow: np.ndarray  # float32, 0..1: its own light
    u: np.ndarray  # float32: its direction, to the right, as a tangent
    v: np.ndarray  # downwards
    z: np.ndarray  # float32: its distance along the street, in metres
    s: np.ndarray  # float32: where it lies on its plane, in metres: along, or to the right
    t: np.ndarray  # up, or ahead


def develop(
    canvas: Canvas, light: Light, response: Response, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Turn the canvas into a photograph, uint8 [H, W, 3], and its labels, uint8 [H, W] (ids)."""
    shape = canvas.height, canvas.width
    numbers = np.asarray(canvas.image)
    labels = canvas.paints[:, 3].astype(np.uint8)[numbers[::2, ::2]]
    pixels = _surfaces(canvas, numbers)
    _add_textures(canvas, pixels, light, rng)
    lit = _illuminate(canvas, pixels, light)
    lit -= light.haze
    lit *= np.exp(-light.density * pixels.z)
    lit += light.haze
    is_sky = pixels.material == cv.SKY
    lit[:, is_sky] = sky(pixels.u[is_sky], pixels.v[is_sky], light)
    if canvas.wires.getbbox():
        lit *= 1 - np.asarray(canvas.wires, np.float32).ravel() / 255
    if light.night > 0.2:  # lamps spill into the air around them
        for light_, colour in zip(lit, pixels.rgb, strict=True):
            spill = np.uint8(np.clip(colour * pixels.glow, 0, 1) * 255).reshape(shape)
            spill = Image.fromarray(spill).filter(ImageFilter.BoxBlur(5 * canvas.height / 256))
            light_ += np.asarray(spill, np.float32).ravel() * (1.6 / 255 * light.night)
    radius = (pixels.u**2 + pixels.v**2).reshape(shape)
    image = lit.reshape(3, *shape)
    return expose(image, is_sky.reshape(shape), radius, response, rng), labels


def _rays(canvas: Canvas, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The directions of pixels (u, v) of the image, as tangents to the right and downwards."""
    camera = canvas.camera
    u, v, unit = u - camera.u0, v - camera.v0, camera.focal * (1 + camera.roll**2)
    return (u + camera.roll * v) / unit, (v - camera.roll * u) / unit


def _place(
    canvas: Canvas, on: np.ndarray, u: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where rays meet planes: z, and s and t as in `Surfaces`."""
    a, c, p, q, r = (column[on] for column in canvas.planes.T[:5])
    flat = on == GROUND
    z = 1 / np.maximum(np.where(flat, v / canvas.camera.height, a * u + c), 1 / 500)
    s = np.where(flat, z * u, z * (p * u + q) - r)
    return z, s, np.where(flat, z, canvas.camera.height - v * z)


def _look_through(canvas: Canvas, numbers: np.ndarray) -> np.ndarray:
    """The numbers of what is seen, int32 [2 H, 2 W]: those behind it where a material has holes."""
    material = canvas.paints[:, 5].astype(np.uint8)
    holed = np.flatnonzero(np.take(material >= cv.BARS, numbers, mode="clip"))
    if not len(holed):
        return numbers
    front, (rows, columns) = numbers.ravel()[holed], np.divmod(holed, numbers.shape[1])
    u, v = (np.float32(pixel) / 2 + np.float32(0.25) for pixel in (columns, rows))
    on = canvas.paints[:, 4].astype(np.int32)[front]
    z, s, t = _place(canvas, on, *_rays(canvas, u, v))
    holed = holed[hole(material[front], s, t, z / canvas.camera.focal, on)]
    numbers = numbers.copy()
    numbers.ravel()[holed] = np.asarray(canvas.behind).ravel()[holed]
    return numbers


def _surfaces(canvas: Canvas, numbers: np.ndarray) -> Surfaces:
    """Look the numbers of the canvas up: int32 [2 H, 2 W]."""
    numbers, paints = _look_through(canvas, numbers), canvas.paints
    table = np.full((len(paints), 4), 255, np.uint8)
    table[:, :3] = np.clip(paints[:, :3], 0, 255)
    rgb = np.take(table.view(np.uint32)[:, 0], numbers, mode="clip").view(np.uint8)
    rgb = Image.fromarray(rgb.reshape(*numbers.shape, 4)).reduce(2)  # smooth edges
    rgb = np.moveaxis(np.asarray(rgb)[..., :3], 2, 0).reshape(3, -1)
    number = np.ascontiguousarray(numbers[::2, ::2]).ravel()
    plane = paints[:, 4].astype(np.int32)[number]
    u = np.arange(canvas.width, dtype=np.float32)[None] + np.float32(0.5)
    v = np.arange(canvas.height, dtype=np.float32)[:, None] + np.float32(0.5)
    u, v = (ray.ravel() for ray in np.broadcast_arrays(*_rays(canvas, u, v)))
    z, s, t = _place(canvas, plane, u, v)
    return Surfaces(
        rgb=rgb.astype(np.float32) / 255,
        plane=plane,
        material=paints[:, 5].astype(np.uint8)[number],
        lit=paints[:, 6][number],
        glow=paints[:, 7][number],
        u=u,
        v=v,
        z=z,
        s=s,
        t=t,
    )


def _add_textures(canvas: Canvas, pixels: Surfaces, light: Light, rng: Generator) -> None:
    """Multiply the colours by the textures of their materials, in place."""
    s, t, z, step = pixels.s, pixels.t, pixels.z, pixels.z / canvas.camera.focal
    shift = pixels.plane * np.float32(13.7)  # no two walls have the same stains
    gain = np.ones_like(s)
    for kind in TEXTURED:
        i = np.flatnonzero(pixels.material == kind)
        if len(i):
            gain[i] = texture(kind, s[i] + shift[i], t[i], step[i], rng)
    pixels.rgb *= gain
    i = np.flatnonzero(pixels.material == cv.GLASS)
    mirrored = sample(noise(1.8, seed=5), s[i] * 30 + shift[i], t[i] * 60) * 0.4 + t[i] - 1.2
    pixels.rgb[:, i] += np.clip(mirrored, 0, 1) * 0.2 * np.clip(light.horizon, 0, 1.5)
    i = np.flatnonzero(pixels.material == cv.FACADE)
    if len(i):
        planes, on, u = canvas.planes, pixels.plane[i], pixels.u[i]
        a, _, p, q, _ = (planes[:, k][on] for k in range(5))
        along = np.abs(p * z[i] - (p * u + q) * a * z[i] ** 2) / canvas.camera.focal + 1e-4
        wall, style = pixels.rgb[:, i], Facade(*planes[:, 5:][on].T)
        lamp = facade(wall, s[i], t[i], (along, step[i]), style, light)
        wall *= np.clip(0.66 + 0.06 * t[i], 0, 1)  # less sky is seen from the ground
        pixels.rgb[:, i] = wall + lamp * (LAMPLIGHT - wall)
        pixels.glow[i] = np.maximum(pixels.glow[i], lamp * 0.8)


def _illuminate(canvas: Canvas, pixels: Surfaces, light: Light) -> np.ndarray:
    """The colours, float32 [3, N], under sun, sky and their own light."""
    flat, soft = pixels.plane == GROUND, canvas.height / 256
    shadow, contact = (
        np.asarray(mask.filter(ImageFilter.BoxBlur(k * soft)), np.float32).ravel() / 255
        for mask, k in ((canvas.shadow, 1.2), (canvas.contact, 2.0))
    )
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


def sky(u: np.ndarray, v: np.ndarray, light: Light) -> np.ndarray:
    """The colour of the sky towards (u, v): float32 [3, N]."""
    up = np.sqrt(np.clip(-v * 2.0, 0, 1))
    rgb = light.horizon + (light.zenith - light.horizon) * up
    tall = 1 / (np.maximum(-v, 0) + 0.06)
    cloud = sample(noise(1.6, seed=3), u * tall * 60 + light.wind, tall * 60)
    return rgb + (light.cloud - rgb) * (0.8 * np.clip(cloud * 0.5 + light.clouds, 0, 1))
