"""Render the painted canvas: textures in perspective, sun and shadow, haze, lamps, camera.

`develop` takes a painted `canvas.Canvas` and the light of `daylight`. It works on flat arrays of N
pixels; the position of a pixel on its surface follows from the plane it lies on.
"""

import math
from functools import cache

import numpy as np
from PIL import Image, ImageFilter

from prepare.streets.canvas import ASPHALT, BARS, BRICK, FACADE, GRASS, GROUND, LEAVES, SKY, SLABS


def daylight(rng):
    """The light of one hour and weather: a dict of colours (float32 [3], 0..1) and numbers.

    ambient, sun, sky, haze, cloud: colours; height: of the sun, its sine; cast: the shadow of a
    point one metre high (see `Canvas`, sun); haze density: per metre; white: the white balance;
    exposure, contrast: factors; grain: of the noise, in grey values; night, clouds: how much."""

    def colour(*rgb):
        return np.array(rgb, np.float32)

    hour = rng.random()
    if hour < 0.50:  # clear day
        up = 0.5 + 0.5 * rng.random()
        light = dict(
            ambient=colour(0.50, 0.55, 0.64),
            sun=colour(0.95, 0.88, 0.74),
            height=up,
            sky=colour(0.22, 0.45, 0.85),
            haze=colour(0.72, 0.80, 0.90),
            night=0.0,
            cloud=colour(1.1, 1.1, 1.1),
            clouds=rng.random() * 0.9 - 0.5,
        )
    elif hour < 0.67:  # low sun
        light = dict(
            ambient=colour(0.46, 0.44, 0.54),
            sun=colour(1.15, 0.74, 0.42),
            height=0.25 + 0.2 * rng.random(),
            sky=colour(0.42, 0.46, 0.72),
            haze=colour(1.0, 0.76, 0.52),
            night=0.15,
            cloud=colour(1.1, 0.72, 0.56),
            clouds=rng.random() * 0.8 - 0.3,
        )
    elif hour < 0.92:  # overcast
        g = 0.62 + 0.3 * rng.random()
        light = dict(
            ambient=colour(0.82, 0.84, 0.87),
            sun=colour(0.12, 0.12, 0.12),
            height=1.0,
            sky=colour(0.62, 0.66, 0.72) * g,
            haze=colour(0.86, 0.88, 0.90) * g,
            night=0.05,
            cloud=colour(0.95, 0.96, 1.0) * g,
            clouds=0.3,
        )
    else:  # blue hour
        light = dict(
            ambient=colour(0.30, 0.34, 0.50),
            sun=colour(0.05, 0.05, 0.06),
            height=1.0,
            sky=colour(0.10, 0.16, 0.36),
            haze=colour(0.40, 0.36, 0.46),
            night=1.0,
            cloud=colour(0.30, 0.26, 0.40),
            clouds=rng.random() * 0.6 - 0.3,
        )
    around = rng.random() * 2 * math.pi
    low = math.sqrt(1 - light["height"] ** 2) / light["height"] if light["height"] < 1 else 0.3
    sunny = hour < 0.67
    light["cast"] = (math.cos(around) * low, math.sin(around) * low) if sunny else None
    light["haze density"] = 0.0008 + 0.008 * rng.random() ** 3
    light["white"] = 1 + 0.10 * np.float32(rng.random(3) - 0.5)
    light["exposure"] = (1.0 + 0.45 * rng.random()) * (1.35 if light["night"] == 1 else 1)
    light["contrast"] = 1.0 + 0.25 * rng.random()
    light["grain"] = 1.0 + 2.5 * rng.random() + 2 * light["night"]
    light["wind"] = np.float32(rng.random() * 512)
    return light


def develop(canvas, light, rng):
    """Turn the canvas into a photograph and its labels.

    light: see `daylight`.  Returns image uint8 [H, W, 3] and labels uint8 [H, W] (ids)."""
    w, h = canvas.width, canvas.height
    numbers = np.asarray(canvas.image)
    paints = np.array(canvas.paints, np.float32)
    table = np.full((len(paints), 4), 255, np.uint8)
    table[:, :3] = np.clip(paints[:, :3], 0, 255)
    smooth = table.view(np.uint32)[:, 0][numbers].view(np.uint8).reshape(2 * h, 2 * w, 4)
    smooth = Image.fromarray(smooth).reduce(2)  # four canvas pixels a pixel: smooth edges
    rgb = np.asarray(smooth)[..., :3].reshape(-1, 3).astype(np.float32) / 255
    which = np.ascontiguousarray(numbers[::2, ::2]).ravel()
    label = paints[:, 3].astype(np.uint8)[which]
    on = paints[:, 4].astype(np.int32)[which]
    material = paints[:, 5].astype(np.uint8)[which]
    sun, glow = paints[:, 6][which], paints[:, 7][which]

    planes = np.array(canvas.planes, np.float32)
    u = np.tile((np.arange(w, dtype=np.float32) - canvas.u0) / canvas.focal, h)
    v = np.repeat((np.arange(h, dtype=np.float32) + 0.5 - canvas.v0) / canvas.focal, w)
    a, c, p, q, r = (planes[:, i][on] for i in range(5))
    flat = on == GROUND
    z = 1 / np.maximum(np.where(flat, v / canvas.eye, a * u + c), 1 / 500)
    s = np.where(flat, z * u, z * (p * u + q) - r)
    t = np.where(flat, z, canvas.eye - v * z)
    step = z / canvas.focal  # metres a pixel

    for kind in (ASPHALT, SLABS, BRICK, BARS, LEAVES, GRASS):
        i = np.flatnonzero(material == kind)
        rgb[i] *= texture(kind, s[i], t[i], step[i])[:, None]
    i = np.flatnonzero(material == FACADE)
    if len(i):
        across = np.abs(p[i] * z[i] - (p[i] * u[i] + q[i]) * a[i] * z[i] ** 2) / canvas.focal
        wall = rgb[i]
        lamp = facade(wall, s[i], t[i], across + 1e-4, step[i], planes[:, 5:][on[i]], light)
        wall *= np.clip(0.72 + 0.07 * t[i], 0, 1)[:, None]  # less sky is seen from the ground
        rgb[i] = wall + lamp[:, None] * (np.array([1.0, 0.8, 0.45], np.float32) - wall)
        glow[i] = np.maximum(glow[i], lamp * 0.8)

    soft = h / 256
    shadow, contact = (
        np.asarray(m.filter(ImageFilter.GaussianBlur(k * soft)), np.float32).ravel() / 255
        for m, k in ((canvas.shadow, 1.2), (canvas.contact, 2.0))
    )
    sun = np.where(flat, sun * light["height"] * (1 - shadow), sun)
    rgb_lit = rgb * (
        light["ambient"] * (1 - 0.55 * contact * flat)[:, None] + light["sun"] * sun[:, None]
    )
    rgb_lit += rgb * (glow * (0.35 + 0.9 * light["night"]))[:, None]
    clear = np.exp(-z * light["haze density"])[:, None]
    rgb_lit = light["haze"] + (rgb_lit - light["haze"]) * clear
    i = np.flatnonzero(material == SKY)
    rgb_lit[i] = heaven(u[i], v[i], light)
    out = rgb_lit.reshape(h, w, 3)
    if light["night"] > 0.2:  # lamps spill into the air around them
        spill = np.uint8(np.clip(rgb * glow[:, None], 0, 1).reshape(h, w, 3) * 255)
        spill = Image.fromarray(spill).filter(ImageFilter.BoxBlur(5 * soft))
        out = out + np.asarray(spill, np.float32) / 255 * 1.6 * light["night"]
    return expose(out, u, v, light, rng), label.reshape(h, w)


def texture(kind, s, t, step):
    """How bright each pixel of a material is: N float32 about 1, at (s, t) metres."""
    fine = np.clip(0.05 / step, 0, 1)  # detail fades where a pixel covers more than the grain
    grain = sample(noise(0.5), s * 60, t * 60)
    blot = sample(noise(1.5, seed=1), s * 14, t * 14)
    if kind == ASPHALT:
        return 1 + 0.045 * fine * grain + 0.04 * blot
    if kind == SLABS:
        s, t = s / 0.8, t / 0.8
        joint = np.minimum(np.abs(s % 1 - 0.5), np.abs(t % 1 - 0.5)) < 0.04
        slab = sample(noise(0.0), np.floor(s + 0.5), np.floor(t + 0.5))
        return 1 + 0.03 * fine * grain + (0.08 * slab - 0.26 * joint) * np.clip(0.07 / step, 0, 1)
    if kind == BRICK:
        row = np.floor(t / 0.3)
        joint = (t / 0.3 - row < 0.14) | (((s / 0.7 + row * 0.5) % 1) < 0.06)
        brick = sample(noise(0.0), np.floor(s / 0.7 + row * 0.5), row)
        return 1 + 0.05 * blot + (0.08 * brick - 0.22 * joint) * np.clip(0.08 / step, 0.15, 1)
    if kind == BARS:
        gap = np.abs((s / 0.34) % 1 - 0.5) < 0.17
        rail = np.abs(t % 0.9 - 0.2) < 0.07
        return 1.05 - 0.5 * (gap & ~rail) * np.clip(0.12 / step, 0.25, 1) + 0.03 * grain
    if kind == LEAVES:
        return 1 + 0.13 * sample(noise(0.7, seed=2), s * 22, t * 22)
    return 1 + 0.14 * fine * grain + 0.09 * blot  # GRASS


def facade(rgb, s, t, across, up, style, light):
    """Windows, frames, floors and shops on building walls.

    rgb: N x 3 float32 in 0..1, changed in place; s, t: metres along and up the wall; across, up:
    metres a pixel; style: N x 8: [pitch, floor, window width, window height, shop height, seed,
    frame tone, brick].  Returns N float32: the windows' own light, 0..1."""
    pitch, floor, wide, tall, shop, seed, tone, brick = style.T
    edge = sample(noise(1.0), s * 30, t * 30) * 0.03 + 1
    courses = np.abs((t / 0.25) % 1 - 0.5) * 2
    edge -= brick * 0.16 * (courses < 0.25) * np.clip(0.12 / up, 0, 1)
    rgb *= edge[:, None]
    upper = t > shop
    col, row = s / pitch, np.where(upper, (t - shop) / np.maximum(floor, 1), 0.5)
    cell, storey = np.floor(col), np.floor(row)
    x = np.abs(col - cell - 0.5) * pitch
    y = np.where(upper, np.abs(row - storey - 0.5) * floor, np.abs(t - shop * 0.45))
    wide = np.where(upper, wide, pitch * 0.86)
    tall = np.where(upper, tall, shop * 0.78)
    chance = sample(noise(0.0), cell * 37 + seed, storey * 91 + seed * 3)

    def inside(w, h):
        return (np.clip((w / 2 - x) / across + 0.5, 0, 1) * np.clip((h / 2 - y) / up + 0.5, 0, 1))[
            :, None
        ]

    far = np.clip(2 - 2.5 * across / pitch, 0, 1)[:, None]  # too far to tell windows apart
    rgb += inside(wide + 0.28, tall + 0.28) * far * (tone[:, None] - 0.5) * 0.5
    glass = inside(wide, tall) * (0.25 + 0.75 * far)
    pane = np.array([0.13, 0.16, 0.20]) + np.clip(0.10 + 0.12 * chance, 0, 0.6)[:, None] * (
        (light["sky"] + light["sky"].mean()) * 0.55
    )
    rgb += glass * (pane - rgb)
    rgb *= 1 - 0.25 * (np.abs(t - shop) < 0.15 + up / 2)[:, None] * far  # the ledge above the shop
    return (glass * far)[:, 0] * (chance > 0.55 - 0.4 * (~upper)) * light["night"]


def heaven(u, v, light):
    """The colour of the sky, N x 3, towards (u, v)."""
    up = np.clip(-v * 2.4, 0, 1)[:, None]
    rgb = light["haze"] + (light["sky"] - light["haze"]) * up**0.7
    tall = 1 / (np.maximum(-v, 0) + 0.06)
    cloud = sample(noise(1.6, seed=3), u * tall * 60 + light["wind"], tall * 60)
    cover = np.clip(cloud * 0.5 + light["clouds"], 0, 1)[:, None] * 0.7
    return rgb + (light["cloud"] - rgb) * cover


def expose(out, u, v, light, rng):
    """The camera: vignette, white balance, exposure, contrast and noise.

    out: float32 [H, W, 3], 0 is black, 1 is bright.  Returns uint8 [H, W, 3]."""
    h, w, _ = out.shape
    out = out * (light["white"] * light["exposure"])
    out *= (1 - 0.35 * (u * u + v * v)).reshape(h, w, 1)
    out = 1 - np.exp(-1.35 * np.maximum(out, 0))  # film saturates softly
    out = 0.5 + (out - 0.5) * light["contrast"]
    grain = noise(0.0, seed=4).ravel()
    start = rng.integers(0, grain.size)
    grain = np.resize(np.roll(grain, -int(start)), h * w * 3).reshape(h, w, 3)
    return np.uint8(np.clip(out * 255 + grain * light["grain"], 0, 255))


@cache
def noise(power, side=512, seed=0):
    """A tile of noise that repeats seamlessly, side x side float32, mean 0, deviation 1.

    power: how fast the spectrum falls; 0 is grain, 1 is clouds of every size, 2 is smooth."""
    rng = np.random.default_rng(seed)
    fx, fy = np.fft.rfftfreq(side)[None], np.fft.fftfreq(side)[:, None]
    fall = np.hypot(fx, fy)
    fall[0, 0] = np.inf
    wave = np.fft.rfft2(rng.standard_normal((side, side))) / fall**power
    tile = np.fft.irfft2(wave, (side, side))
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)


def sample(tile, s, t):
    """The values of a tile, which repeats endlessly, at (s, t) in texels; any shape."""
    mask = tile.shape[0] - 1
    return tile.ravel()[((t.astype(np.int32) & mask) * tile.shape[0]) + (s.astype(np.int32) & mask)]
