"""What stands on the street, with coordinates of its own, and the order in which to paint it."""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.random import Generator

from streets.canvas import GLASS, GLOSS, Canvas, Paint, Point, Span
from streets.colours import PANE, RED, SHADE, TYRE, WHITE, Colour

Path = Sequence[Point]  # points in own coordinates: along, up, across
Box = tuple[float, float, float, float]  # a footprint: from and to x, from and to z


class Solid:
    """A thing at (x, z) that points to `head`, in radians: 0 is away from the camera.

    pi / 2 is to the right. Its own coordinates are (along, up, across), in metres."""

    def __init__(self, canvas: Canvas, x: float, z: float, head: float = 0.0) -> None:
        self.canvas, self.x, self.z, self.head = canvas, x, z, head
        self.sin, self.cos = math.sin(head), math.cos(head)

    def begin(self, label: int, lit: float = 1.0) -> None:
        """Start painting it, with a label id; lit: the sunlight it gets, 0..1."""
        self.canvas.begin(label, self.x, self.z, lit)

    def at(self, along: float, up: float, across: float) -> Point:
        """The point (x, y, z) of the street at own coordinates."""
        x = self.x + along * self.sin + across * self.cos
        return x, up, self.z + along * self.cos - across * self.sin

    def cast(self, half: float, wide: float, tall: float) -> None:
        """Cast the shadow of what is `half` long and `wide` broad to each side."""
        corners = (self.at(a, 0, w) for a in (-half, half) for w in (-wide, wide))
        self.canvas.cast([(x, z) for x, _, z in corners], tall)

    def bar(self, path: Path, radius: float, paint: Paint, **kind: Any) -> None:
        """Draw a round bar through points; paint, kind: as in `Canvas.poly`."""
        canvas, points = self.canvas, [self.at(*point) for point in path]
        width = max(1, round(2 * radius * canvas.scale(points[0][2])))
        canvas.pen.line(canvas.project(points), fill=canvas.number(paint, **kind), width=width)

    def ball(self, point: Point, wide: float, tall: float, paint: Paint, **kind: Any) -> None:
        """Draw an ellipse that faces the camera, of half axes `wide` and `tall`."""
        at = self.at(*point)
        ((u, v),), scale = self.canvas.project([at]), self.canvas.scale(at[2])
        box = (u - wide * scale, v - tall * scale, u + wide * scale, v + tall * scale)
        self.canvas.pen.ellipse(box, fill=self.canvas.number(paint, **kind))

    def face(self, corners: Path, paint: Paint, **kind: Any) -> None:
        """Draw a polygon."""
        self.canvas.poly([self.at(*corner) for corner in corners], paint, **kind)

    def rect(
        self, along: float | Span, up: Span, across: float | Span, paint: Paint, **kind
    ) -> None:
        """Draw an upright rectangle across, such as a plate, or along a side, such as a door.

        along, across: one of them is a span. Nothing is drawn where the other one is 0, which
        stands for an end or a side that is not seen."""
        if along and across:
            a0, a1 = along if isinstance(along, tuple) else (along, along)
            w0, w1 = across if isinstance(across, tuple) else (across, across)
            corners = [(a0, up[0], w0), (a0, up[1], w0), (a1, up[1], w1), (a1, up[0], w1)]
            self.face(corners, paint, **kind)

    def disc(self, along: float, radius: float, up: float, across: float, paint: Paint) -> None:
        """Draw an upright disc along a side; none at across = 0."""
        if across:
            rim = [(along + radius * a, up + radius * b, across) for a, b in circle(14)]
            self.face(rim, paint)

    def wheel(self, along: float, radius: float, across: float) -> None:
        """Draw a wheel seen from its side; none at across = 0."""
        self.disc(along, radius, radius, across, TYRE)
        if self.canvas.scale(self.z) > 24:
            self.disc(along, radius * 0.6, radius, across, (118, 120, 124))

    def lamps(self, half: float, wide: float, up: Span, inner: float = 0.68) -> float:
        """Draw the lamps of the end that is seen: red at the back, white in front.

        inner: where they start, as a part of half the width.
        Returns where along the end is: -half, half, or 0 when neither is seen."""
        x = self.x + self.canvas.camera.bend * self.z * self.z
        behind = self.sin * x + self.cos * self.z  # how far back the camera is
        if abs(behind) < half:
            return 0
        end = math.copysign(half * 1.004, -behind)
        colour, glow = (RED, 0.55) if behind > 0 else (WHITE, 0.9)
        if not self.canvas.lamps_lit:
            colour, glow = ((140, 24, 26) if behind > 0 else (170, 174, 176)), 0.0
        for side in (-1, 1):
            self.rect(end, up, (side * wide * inner, side * wide * 0.95), colour, glow=glow)
        return end

    def stand(self, half: float, wide: float, tall: float, axles: Sequence[float]) -> None:
        """Cast the shadow of a vehicle; draw the wheels that show between it and the road."""
        self.cast(half, wide, tall)
        for along in axles:
            self.rect(along, (0.1, 0.35), (-wide * 0.85, wide * 0.85), SHADE)
            for side in (-1, 1):
                self.rect(along, (0, 0.5), (side * (wide - 0.28), side * (wide - 0.04)), TYRE)

    def extrude(
        self, profile: Sequence[tuple[float, float, float, Colour | None]], flank: Colour
    ) -> int:
        """Draw a profile extruded across, as far as the camera sees it.

        profile: along, up, half width, and the colour of what follows, None to leave it out;
        flank: the colour of the sides.
        Returns which side the camera sees: -1, 1, or 0 when it looks straight at an end."""
        faces = []
        after = [*profile[1:], profile[0]]
        for (a, y, w, colour), (b, v, r, _) in zip(profile, after, strict=True):
            quad = [self.at(a, y, w), self.at(b, v, r), self.at(b, v, -r), self.at(a, y, -w)]
            if colour and self._is_seen(*quad[:3]):
                faces.append((quad[0][2] + quad[1][2], quad, colour))
        for _, quad, colour in sorted(faces, key=lambda face: -face[0]):
            self.canvas.poly(quad, colour, material=GLASS if colour == PANE else GLOSS)
        for side in (-1, 1):
            w = side * profile[0][2]
            if self._is_seen(self.at(side, 0, w), self.at(side, 1, w), self.at(-side, 1, w)):
                self.face([(a, y, side * w) for a, y, w, _ in profile], flank, material=GLOSS)
                return side
        return 0

    def _is_seen(self, *corners: Point) -> bool:
        """Whether the camera sees the face of three corners whose normal points inwards."""
        camera = self.canvas.camera
        (px, py, pz), (qx, qy, qz), (rx, ry, rz) = (
            (x + camera.bend * z * z, y - camera.height, z) for x, y, z in corners
        )
        ux, uy, uz, vx, vy, vz = qx - px, qy - py, qz - pz, rx - qx, ry - qy, rz - qz
        return (uy * vz - uz * vy) * px + (uz * vx - ux * vz) * py + (ux * vy - uy * vx) * pz > 0


@cache
def circle(corners: int) -> list[tuple[float, float]]:
    """The corners of a regular polygon, as far as 1 from (0, 0); the first is (1, 0)."""
    angles = [2 * math.pi * i / corners for i in range(corners)]
    return [(math.cos(angle), math.sin(angle)) for angle in angles]


class Things:
    """What is to be painted from far to near, once all is known."""

    def __init__(self, canvas: Canvas, rng: Generator) -> None:
        self.canvas, self.rng = canvas, rng
        self._things: list[tuple[Box, Callable[[], None]]] = []

    def add(self, x: Span, z: Span, draw: Callable, *args: Any) -> None:
        """Add what stands on a footprint that spans x and z: draw(*args) draws it."""
        self._things.append(((*x, *z), partial(draw, *args)))

    def add_at(
        self, x: float, z: float, draw: Callable, *args, reach: Span = (0.3, 0.3), head: float = 0.0
    ) -> None:
        """Add what stands at (x, z), if it may be seen: draw(solid, rng, *args) draws it.

        reach: how far its footprint reaches to each side, and along."""
        half, deep = reach
        if any(self.canvas.sees(x, depth, half + 4) for depth in (z - deep, z, z + deep)):
            solid = Solid(self.canvas, x, z, head)
            self.add((x - half, x + half), (z - deep, z + deep), draw, solid, self.rng, *args)

    def paint(self) -> None:
        """Paint them all."""
        for i in far_to_near([box for box, _ in self._things]):
            self._things[i][1]()


def far_to_near(boxes: Sequence[Box]) -> list[int]:
    """The order in which to paint things so that each hides what is behind it.

    boxes: seen from x = 0, z = 0.  Returns their indices."""
    xa, xb, z0, z1 = np.reshape(boxes, (-1, 4)).T
    x0, x1 = np.minimum(xa, xb), np.maximum(xa, xb)
    beyond = z0[:, None] >= z1 - 1e-6  # [i, j]: i is farther along the street than j
    right = (x0[:, None] >= x1) & (x1 > 0)  # i is farther to the right
    left = (x1[:, None] <= x0) & (x0 < 0)
    behind = beyond | ((right | left) & ~beyond.T)
    behind &= ~behind.T
    np.fill_diagonal(behind, False)
    waiting, order = behind.sum(axis=0).astype(float), []  # how many must still come before j
    for _ in boxes:
        i = int(np.argmin(waiting - z1 * 1e-6))
        order.append(i)
        waiting -= behind[i]
        waiting[i] = np.inf
    return order
