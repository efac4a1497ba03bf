"""The canvas: each shape of a scene is painted once, with a number instead of a colour.

The canvas holds one number per pixel, at twice the size of the image. Two tables say what a number
means: its *paint* (colour, label, material, light) and the *plane* it lies on. Label and colour
are looked up from the same number, which is why the labels are exact. `photo.py` turns the numbers
into a photograph: textures in perspective, sun and shadow, haze, night lights, noise.

Coordinates are in metres: x to the right, y up from the road, z along the street; the camera is at
(0, height, 0). Images are in pixels: u to the right, v down.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

NEAR = 1.5  # metres; nothing is drawn nearer than this
PLAIN, ASPHALT, SLABS, FACADE, BRICK, BARS, LEAVES, GRASS, SKY = range(9)  # materials
GROUND = 0  # the number of the one horizontal plane
# fmt: off
BODIES = (
    (212, 214, 216), (168, 172, 176), (112, 116, 122), (44, 46, 50), (30, 34, 44), (28, 52, 108),
    (60, 96, 160), (150, 24, 28), (196, 52, 36), (34, 78, 58), (96, 70, 50), (190, 176, 140),
    (214, 176, 40), (130, 140, 120), (86, 30, 44),
)
# fmt: on


class Canvas:
    """An image of numbers, the camera that projects onto it, and the tables of the numbers.

    Args:
        size: (width, height) of the final image in pixels.
        focal, u0, v0: focal length and vanishing point in pixels.
        height: of the camera, in metres.
        bend: the street's curvature, in 1/metres; a point of the straight street at (x, z) is
            drawn at x + bend * z**2.
        sun: the shift (x, z), in metres, of the shadow of a point one metre high, or None when
            the sky is overcast.
    """

    def __init__(self, size, focal, u0, v0, height, bend, sun):
        self.width, self.height = size
        self.focal, self.u0, self.v0 = focal, u0, v0
        self.eye, self.bend, self.sun = height, bend, sun
        self.image = Image.new("I", (2 * self.width, 2 * self.height), 0)
        self.pen = ImageDraw.Draw(self.image)
        self.shadow = Image.new("L", size, 0)  # where the sun does not reach the ground
        self.contact = Image.new("L", size, 0)  # where the sky does not: under cars, along walls
        self.planes, self.paints = [], []
        self.plane(((0, 1), (1, 1)))  # GROUND; its numbers are not used
        self.label, self.on, self.lit = 23, GROUND, 1.0  # defaults of `number`
        self.number((255, 255, 255), material=SKY)

    def plane(self, ends, style=()):
        """Add the upright plane through two (x, z) points; returns its number.

        style: up to 8 numbers for the plane's material (see `photo.facade`)."""
        (xa, za), (xb, zb) = ((x + self.bend * z * z, z) for x, z in ends)
        run = math.hypot(xb - xa, zb - za)
        tx, tz = (xb - xa) / run, (zb - za) / run
        d = tz * xa - tx * za  # the plane is tz * x - tx * z = d
        d = d if abs(d) > 0.05 else math.copysign(0.05, d)
        style = (*style, *(0,) * (8 - len(style)))
        self.planes.append((tz / d, -tx / d, tx, tz, xa * tx + za * tz, *style))
        return len(self.planes) - 1

    def begin(self, label, x, z, lit=1.0):
        """Start an object of label id `label` that faces the camera at (x, z)."""
        self.label, self.lit = label, lit
        self.on = self.plane(((x - 1, z), (x + 1, z)))

    def number(self, colour, material=PLAIN, glow=0.0, lit=None, on=None):
        """Add a paint; returns its number.

        colour: 3 values in 0..255; glow: light of its own, 0..1; lit: sunlight it gets, 0..1."""
        r, g, b = colour
        self.paints.append(
            (
                r,
                g,
                b,
                self.label,
                self.on if on is None else on,
                material,
                self.lit if lit is None else lit,
                glow,
            )
        )
        return len(self.paints) - 1

    def project(self, x, y, z):
        """(u, v) of a point, in pixels of the canvas, which has two for each of the image."""
        z = z if z > NEAR else NEAR
        k = 2 * self.focal / z
        return 2 * self.u0 + (x + self.bend * z * z) * k, 2 * self.v0 + (self.eye - y) * k

    def scale(self, z):
        """Canvas pixels per metre at depth z."""
        return 2 * self.focal / max(z, NEAR)

    def poly(self, points, colour, **paint):
        """Paint the polygon through 3-d points.  colour: RGB, or a number from `number`."""
        n = colour if isinstance(colour, int) else self.number(colour, **paint)
        self.pen.polygon([self.project(*p) for p in points], fill=n)

    def tube(self, points, radius, colour, **paint):
        """Paint a round bar of `radius` metres through 3-d points."""
        n = colour if isinstance(colour, int) else self.number(colour, **paint)
        wide = max(1, round(2 * radius * self.scale(points[0][2])))
        self.pen.line([self.project(*p) for p in points], fill=n, width=wide)

    def ball(self, x, y, z, rx, ry, colour, **paint):
        """Paint an ellipse that faces the camera, of half axes rx, ry in metres."""
        n = colour if isinstance(colour, int) else self.number(colour, **paint)
        u, v = self.project(x, y, z)
        k = self.scale(z)
        self.pen.ellipse((u - rx * k, v - ry * k, u + rx * k, v + ry * k), fill=n)

    def stamp(self, levels, numbers, x, y, z, wide, tall):
        """Paint a pattern of levels: a uint8 array, where 0 paints nothing and i numbers[i - 1].

        It is `wide` x `tall` metres and centred on (x, y, z)."""
        u, v = self.project(x, y, z)
        k = self.scale(z)
        box = [
            round(u - wide * k / 2),
            round(v - tall * k / 2),
            round(u + wide * k / 2),
            round(v + tall * k / 2),
        ]
        cut = [
            max(box[0], 0),
            max(box[1], 0),
            min(box[2], self.image.width),
            min(box[3], self.image.height),
        ]
        if cut[0] >= cut[2] or cut[1] >= cut[3]:
            return
        rows = (np.arange(cut[1], cut[3]) - box[1]) * levels.shape[0] // (box[3] - box[1])
        cols = (np.arange(cut[0], cut[2]) - box[0]) * levels.shape[1] // (box[2] - box[0])
        piece = levels[rows[:, None], cols]
        table = np.array([0, *numbers], np.int32)
        self.image.paste(
            Image.fromarray(table[piece]),
            cut[:2],
            Image.fromarray((piece > 0).view(np.uint8) * np.uint8(255)),
        )

    def strip(self, x0, x1, z0, z1, colour, material=PLAIN, label=None):
        """Paint the piece of ground from x0 to x1 and from z0 to z1, along the bend."""
        if z1 <= NEAR or z1 <= z0:
            return
        z0 = max(z0, NEAR)
        steps = 2 if abs(self.bend) < 1e-5 else max(2, int(6 * math.log(z1 / z0)) + 2)
        zs = [z0 * (z1 / z0) ** (i / (steps - 1)) for i in range(steps)]
        self.label = self.label if label is None else label
        n = colour if isinstance(colour, int) else self.number(colour, material, on=GROUND)
        points = [(x0, 0, z) for z in zs] + [(x1, 0, z) for z in reversed(zs)]
        self.pen.polygon([self.project(*p) for p in points], fill=n)

    def cast(self, footprint, tall, dark=255):
        """Cast the shadow of an upright block that stands on (x, z) points, `tall` metres high.

        tall = 0 only darkens the ground itself; dark: how much, up to 255."""
        flat = [self.project(x, 0, z) for x, z in footprint]
        if tall:
            pen = ImageDraw.Draw(self.contact)
            pen.polygon([(u / 2, v / 2) for u, v in hull(flat)], fill=200)
        if self.sun:
            sx, sz = self.sun[0] * tall, self.sun[1] * tall
            flat += [self.project(x + sx, 0, z + sz) for x, z in footprint]
            ImageDraw.Draw(self.shadow).polygon([(u / 2, v / 2) for u, v in hull(flat)], fill=dark)


def hull(points):
    """The convex hull of 2-d points, in order."""
    points = sorted(set(points))
    if len(points) < 3:
        return points * 2
    halves = []
    for run in (points, points[::-1]):
        half = []
        for p in run:
            while len(half) > 1 and (
                (half[-1][0] - half[-2][0]) * (p[1] - half[-2][1])
                <= (half[-1][1] - half[-2][1]) * (p[0] - half[-2][0])
            ):
                half.pop()
            half.append(p)
        halves += half[:-1]
    return halves


def pick(rng, options):
    """One of the options (a tuple), at random; rng: numpy Generator."""
    return options[int(rng.random() * len(options))]


def tint(rng, colour, by=22):
    """The colour, somewhat changed: each value by up to about `by`, within 0..255."""
    d = (rng.random(4) - 0.5) * by
    return tuple(min(255, max(0, c + d[i] + d[3] * 1.5)) for i, c in enumerate(colour))


def shade(colour, k):
    """The colour, k times as bright."""
    return tuple(c * k for c in colour)
