"""The canvas: each shape of a scene is painted once, with a number instead of a colour.

The canvas holds one number per pixel, at twice the size of the image. Two tables say what a number
means: its *paint* (colour, label, material, light) and the *plane* that it lies on. Label and
colour are looked up from the same number, which is why the labels are exact.

Coordinates are in metres: x to the right, y up from the road, z along the street; the camera is at
(0, height, 0). Images are in pixels: u to the right, v down.
"""

import math
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from streets.colours import Colour

Point = tuple[float, float, float]  # x, y, z
Spot = tuple[float, float]  # x, z on the ground
Span = tuple[float, float]  # from, to
Paint = Colour | int  # a colour, or the number of a paint

NEAR = 1.5  # metres; nothing is drawn nearer than this
PLAIN, ASPHALT, SLABS, FACADE, BRICK, LEAVES, GRASS, GLOSS, GLASS, SKY = range(10)  # materials
BARS, TWIGS, SPOKES = range(10, 13)  # materials with holes, through which one sees what is behind
PLANE, PAINT, NO_STYLE = 15, 8, (0.0,) * 10  # the lengths of a plane, a paint; of a plain wall
OPAQUE = (0, *(255,) * 255)  # of the levels of a stamp
GROUND = 0  # the number of the one horizontal plane
SKY_ID = 23  # the label id of what nothing is painted over


class Camera(NamedTuple):
    """The camera, and the bend of the street that it looks along."""

    focal: float  # length in pixels of the image
    u0: float  # the vanishing point in pixels of the image
    v0: float
    height: float  # metres
    roll: float  # radians; how far the horizon sinks to the right
    bend: float  # 1/metres: a point (x, z) of the straight street is drawn at x + bend * z**2


class Canvas:
    """An image of numbers, the camera that projects onto it, and the tables of the numbers.

    size: (width, height) of the final image in pixels; sun: the shift (x, z), in metres, of the
    shadow of a point one metre high, or None without sun; lamps_lit: whether lamps are on. `label`,
    `on` (the number of a plane) and `lit` (sunlight, 0..1) are those of what is painted next.
    """

    def __init__(
        self, size: tuple[int, int], camera: Camera, sun: Spot | None, lamps_lit: bool
    ) -> None:
        self.width, self.height = size
        self.camera, self.sun, self.lamps_lit = camera, sun, lamps_lit
        self.image = Image.new("I", (2 * self.width, 2 * self.height), 0)
        self.behind = self.image.copy()  # what is seen through the holes of a material
        self.pen = ImageDraw.Draw(self.image)
        self.shadow = Image.new("L", size, 0)  # where the sun does not reach the ground
        self.contact = Image.new("L", size, 0)  # where the sky does not: under cars, along walls
        self.wires = Image.new("L", size, 0)  # overhead: they are in the image, not in the labels
        self._planes, self._paints = array("f"), array("f")
        self.plane(((0, 1), (1, 1)))  # GROUND; its numbers are not used
        self.label, self.on, self.lit = SKY_ID, GROUND, 1.0
        self.number((255, 255, 255), material=SKY)

    def plane(self, ends: Sequence[Spot], style: Sequence[float] = ()) -> int:
        """Add the upright plane through two spots; returns its number.

        style: 10 numbers for the plane's material (see `textures.Facade`)."""
        (xa, za), (xb, zb) = ((x + self.camera.bend * z * z, z) for x, z in ends)
        run = math.hypot(xb - xa, zb - za)
        tx, tz = (xb - xa) / run, (zb - za) / run
        distance = tz * xa - tx * za  # the plane is tz * x - tx * z = distance
        if abs(distance) <= 0.05:
            distance = math.copysign(0.05, distance)
        self._planes.extend((tz / distance, -tx / distance, tx, tz, xa * tx + za * tz))
        self._planes.extend(style or NO_STYLE)
        return len(self._planes) // PLANE - 1

    def begin(self, label: int, x: float, z: float, lit: float = 1.0) -> None:
        """Start an object of label id `label` that faces the camera at (x, z)."""
        self.label, self.lit = label, lit
        self.on = self.plane(((x - 1, z), (x + 1, z)))

    def number(
        self, paint: Paint, material: int = PLAIN, glow: float = 0.0, lit: float | None = None
    ) -> int:
        """Add a colour to the paints, and return its number; glow, lit: its own light, sunlight.

        A number is returned as it is."""
        if isinstance(paint, int):
            return paint
        lit = self.lit if lit is None else lit
        self._paints.extend((*paint, self.label, self.on, material, lit, glow))
        return len(self._paints) // PAINT - 1

    @property
    def planes(self) -> np.ndarray:
        """float32 [planes, 15]: z = 1 / (a u + c) for a ray (u, v); the direction (p, q) and the
        start r of the coordinate along the plane: a, c, p, q, r, and the style."""
        return np.frombuffer(self._planes, np.float32).reshape(-1, PLANE)

    @property
    def paints(self) -> np.ndarray:
        """float32 [numbers, 8]: red, green, blue, label, plane, material, lit, glow."""
        return np.frombuffer(self._paints, np.float32).reshape(-1, PAINT)

    def project(self, points: Iterable[Point]) -> list[tuple[float, float]]:
        """(u, v) of points, in pixels of the canvas, which has two for each of the image."""
        camera, flat = self.camera, []
        u0, v0, focal, roll = 2 * camera.u0, 2 * camera.v0, 2 * camera.focal, camera.roll
        bend, height = camera.bend, camera.height
        for x, y, z in points:
            z = z if z > NEAR else NEAR
            u, v = (x + bend * z * z) * focal / z, (height - y) * focal / z
            flat.append((u0 + u - roll * v, v0 + v + roll * u))
        return flat

    def scale(self, z: float) -> float:
        """Canvas pixels per metre at depth z."""
        return 2 * self.camera.focal / max(z, NEAR)

    def sees(self, x: float, z: float, around: float) -> bool:
        """Whether what stands at (x, z), and reaches `around` metres, may be in the picture."""
        if z < NEAR:
            return True
        ((u, _),), reach = self.project([(x, self.camera.height, z)]), around * self.scale(z)
        return u + reach > 0 and u - reach < self.image.width

    def poly(self, points: Sequence[Point], paint: Paint, **kind: Any) -> None:
        """Paint the polygon through points.  kind: further arguments of `number`."""
        number, corners = self.number(paint, **kind), self.project(points)
        if self._has_holes(number):
            us, vs = zip(*corners, strict=True)
            left, top = max(int(min(us)), 0), max(int(min(vs)), 0)
            right = min(int(max(us)) + 2, self.image.width)
            bottom = min(int(max(vs)) + 2, self.image.height)
            if left < right and top < bottom:
                mask = Image.new("L", (right - left, bottom - top))
                ImageDraw.Draw(mask).polygon([(u - left, v - top) for u, v in corners], fill=255)
                self._keep((left, top, right, bottom), mask)
        self.pen.polygon(corners, fill=number)

    def _has_holes(self, number: int) -> bool:
        return self._paints[number * PAINT + 5] >= BARS

    def _keep(self, box: tuple[int, int, int, int], mask: Image.Image) -> None:
        """Keep what a material with holes is about to hide: in a box, where a mask says so."""
        self.behind.paste(self.image.crop(box), box[:2], mask)

    def upright(self, ends: Sequence[Spot], up: Span, paint: Paint, **kind: Any) -> None:
        """Paint an upright rectangle between two spots."""
        (xa, za), (xb, zb), (bottom, top) = *ends, up
        corners = [(xa, bottom, za), (xa, top, za), (xb, top, zb), (xb, bottom, zb)]
        self.poly(corners, paint, **kind)

    def stamp(
        self, levels: Image.Image, numbers: Sequence[int], at: Point, wide: float, tall: float
    ) -> None:
        """Paint a pattern, `wide` x `tall` metres, centred on a point.

        levels: of mode L; 0 paints nothing, and i paints numbers[i - 1], of which only the last may
        have holes."""
        ((u, v),), scale = self.project([at]), self.scale(at[2])
        left, right = round(u - wide * scale / 2), round(u + wide * scale / 2)
        top, bottom = round(v - tall * scale / 2), round(v + tall * scale / 2)
        u0, u1 = max(left, 0), min(right, self.image.width)
        v0, v1 = max(top, 0), min(bottom, self.image.height)
        if u0 >= u1 or v0 >= v1:
            return
        across, down = levels.width / (right - left), levels.height / (bottom - top)
        part = ((u0 - left) * across, (v0 - top) * down, (u1 - left) * across, (v1 - top) * down)
        piece = levels.resize((u1 - u0, v1 - v0), Image.Resampling.NEAREST, part)
        painted = np.take(np.array([0, *numbers], np.int32), np.asarray(piece))
        mask = piece.point(OPAQUE)
        if self._has_holes(numbers[-1]):
            self._keep((u0, v0, u1, v1), mask)
        self.image.paste(Image.fromarray(painted), (u0, v0), mask)

    def strip(
        self, x: Span, z: Span, paint: Paint, material: int = PLAIN, label: int | None = None
    ) -> None:
        """Paint the piece of ground that spans x and z, along the bend.

        label: that of this piece and of what follows."""
        near, far, steps = max(z[0], NEAR), z[1], 2
        if far <= near:
            return
        if abs(self.camera.bend) >= 1e-5:
            steps = max(2, int(6 * math.log(far / near)) + 2)
        depths = [near * (far / near) ** (i / (steps - 1)) for i in range(steps)]
        points = [(x[0], 0, d) for d in depths] + [(x[1], 0, d) for d in reversed(depths)]
        self.on, self.label = GROUND, self.label if label is None else label
        self.pen.polygon(self.project(points), fill=self.number(paint, material))

    def cast(self, footprint: Sequence[Spot], tall: float) -> None:
        """Cast the shadow of an upright block that stands on some spots, `tall` metres high."""
        self.darken(self.contact, footprint, 200)
        if self.sun:
            dx, dz = self.sun[0] * tall, self.sun[1] * tall
            self.darken(self.shadow, [*footprint, *((x + dx, z + dz) for x, z in footprint)], 255)

    def darken(self, layer: Image.Image, spots: Iterable[Spot], dark: int) -> None:
        """Darken the ground between spots, in `shadow` or `contact`; dark: how much, 0..255."""
        outline = hull(self.project((x, 0, z) for x, z in spots))
        ImageDraw.Draw(layer).polygon([(u / 2, v / 2) for u, v in outline], fill=dark)

    def wire(self, start: Point, end: Point, sag: float) -> None:
        """Hang a wire between two points; it sags by some metres."""
        path = []
        for k in (i / 8 for i in range(9)):
            x, y, z = (a + (b - a) * k for a, b in zip(start, end, strict=True))
            path.append((x, y - 4 * sag * k * (1 - k), z))
        path = [(u / 2, v / 2) for u, v in self.project(path)]
        ImageDraw.Draw(self.wires).line(path, fill=170)


def hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The convex hull of points in a plane, in order: Andrew's monotone chain."""
    points, outline = sorted(set(points)), []
    for run in (points, points[::-1]):
        half = []
        for u, v in run:
            while len(half) > 1:
                (ua, va), (ub, vb) = half[-2], half[-1]
                if (ub - ua) * (v - va) > (vb - va) * (u - ua):
                    break
                half.pop()
            half.append((u, v))
        outline += half[:-1] or half
    return outline
