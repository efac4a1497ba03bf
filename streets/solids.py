"""Solids with coordinates of their own: what vehicles, cycles and people are made of."""

import math
from collections.abc import Sequence

from streets.canvas import GLASS, GLOSS, Canvas, Point, Spot
from streets.colours import PANE, RED, SHADE, TYRE, WHITE, Colour

Profile = Sequence[tuple[float, float, float]]  # along, up, half width


class Solid:
    """A thing at (x, z) that points to `head`, in radians: 0 is away from the camera.

    pi / 2 is to the right. Its own coordinates are (along, up, across), in metres."""

    def __init__(self, canvas: Canvas, x: float, z: float, head: float = 0.0) -> None:
        self.canvas, self.x, self.z = canvas, x, z
        self.sin, self.cos = math.sin(head), math.cos(head)

    def at(self, along: float, up: float, across: float) -> Point:
        """The point (x, y, z) of the street at own coordinates."""
        return (
            self.x + along * self.sin + across * self.cos,
            up,
            self.z + along * self.cos - across * self.sin,
        )

    def footprint(self, half: float, wide: float) -> list[Spot]:
        """The corners, on the ground, of what is `half` long and `wide` broad to each side."""
        corners = (self.at(a, 0, w) for a in (-half, half) for w in (-wide, wide))
        return [(x, z) for x, _, z in corners]

    def bar(self, path: Profile, radius: float, colour: Colour, **paint) -> None:
        """Draw a round bar through points given in own coordinates."""
        self.canvas.tube([self.at(*point) for point in path], radius, colour, **paint)

    def ball(self, point: Point, wide: float, tall: float, colour: Colour, **paint) -> None:
        """Draw an ellipse around a point given in own coordinates."""
        self.canvas.ball(self.at(*point), wide, tall, colour, **paint)

    def face(self, corners: Profile, colour: Colour, **paint) -> None:
        """Draw a polygon given in own coordinates."""
        self.canvas.poly([self.at(*corner) for corner in corners], colour, **paint)

    def panel(
        self,
        along: float,
        up: tuple[float, float],
        across: tuple[float, float],
        colour: Colour,
        glow: float = 0.0,
    ) -> None:
        """Draw an upright rectangle across: lamps, plates, windscreens; none at along = 0."""
        if along:
            (y0, y1), (w0, w1) = up, across
            corners = [(along, y0, w0), (along, y1, w0), (along, y1, w1), (along, y0, w1)]
            self.face(corners, colour, glow=glow)

    def slab(
        self, along: tuple[float, float], up: tuple[float, float], across: float, colour: Colour
    ) -> None:
        """Draw an upright rectangle along a side: windows, doors; none at across = 0."""
        if across:
            (a0, a1), (y0, y1) = along, up
            self.face(
                [(a0, y0, across), (a0, y1, across), (a1, y1, across), (a1, y0, across)], colour
            )

    def disc(self, along: float, up: float, radius: float, across: float, colour: Colour) -> None:
        """Draw an upright disc along a side."""
        angles = [i * math.pi / 7 for i in range(14)]
        rim = [(along + radius * math.cos(t), up + radius * math.sin(t), across) for t in angles]
        self.face(rim, colour)

    def wheel(self, along: float, radius: float, across: float) -> None:
        """Draw a wheel seen from its side; none at across = 0."""
        if across:
            self.disc(along, radius, radius, across, TYRE)
            if self.canvas.scale(self.z) > 24:
                self.disc(along, radius, radius * 0.6, across, (118, 120, 124))

    def lamps(
        self, half: float, wide: float, up: tuple[float, float], inner: float = 0.68
    ) -> float:
        """Draw the lamps of the end that is seen: red at the back, white in front.

        inner: where they start, as a part of half the width.
        Returns where along the end is: -half, half, or 0 when neither is seen."""
        x0, _, z0 = self.at(0, 0, 0)
        x1, _, z1 = self.at(1, 0, 0)
        x = x0 + self.canvas.camera.bend * z0 * z0
        behind = (x1 - x0) * x + (z1 - z0) * z0  # how far back the camera is
        if abs(behind) < half:
            return 0
        end = math.copysign(half * 1.004, -behind)
        colour, glow = (RED, 0.55) if behind > 0 else (WHITE, 0.9)
        if not self.canvas.lamps_lit:
            colour, glow = ((140, 24, 26) if behind > 0 else (170, 174, 176)), 0.0
        for side in (-1, 1):
            self.panel(end, up, (side * wide * inner, side * wide * 0.95), colour, glow)
        return end

    def stand(self, half: float, wide: float, tall: float, axles: Sequence[float]) -> None:
        """Cast the shadow of a vehicle; draw the wheels that show between it and the road."""
        self.canvas.cast(self.footprint(half, wide), tall)
        for along in axles:
            self.panel(along, (0.1, 0.35), (-wide * 0.85, wide * 0.85), SHADE)
            for side in (-1, 1):
                self.panel(along, (0, 0.5), (side * (wide - 0.28), side * (wide - 0.04)), TYRE)

    def extrude(self, profile: Profile, colours: Sequence[Colour | None], flank: Colour) -> int:
        """Draw a profile extruded across, as far as the camera sees it.

        colours: one for each edge of the profile, None to leave it out; flank: that of the sides.
        Returns which side the camera sees: -1, 1, or 0 when it looks straight at an end."""
        faces = []
        for start, end, colour in zip(profile, [*profile[1:], profile[0]], colours, strict=True):
            corners = [(*start[:2], start[2]), (*end[:2], end[2])]
            corners += [(*end[:2], -end[2]), (*start[:2], -start[2])]
            quad = [self.at(*corner) for corner in corners]
            if colour and self._is_seen(*quad[:3]):
                faces.append((quad[0][2] + quad[1][2], quad, colour))
        for _, quad, colour in sorted(faces, key=lambda face: -face[0]):
            self.canvas.poly(quad, colour, material=GLASS if colour == PANE else GLOSS)
        for side in (-1, 1):
            w = side * profile[0][2]
            if self._is_seen(self.at(side, 0, w), self.at(side, 1, w), self.at(-side, 1, w)):
                self.face([(a, y, side * w) for a, y, w in profile], flank, material=GLOSS)
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
