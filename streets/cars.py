"""Cars and vans; (x, z), head: as in `solids.Solid`."""

from typing import NamedTuple

from numpy.random import Generator

from streets.canvas import GLASS, Canvas
from streets.colours import CHROME, DARK, PAINTS, PANE, Colour, pick, shade, tint
from streets.solids import Solid

CAR = 26
PLATES = ((226, 226, 216), (226, 226, 216), (214, 190, 60), (60, 60, 62))


class CarShape(NamedTuple):
    """The outline of a car seen from its side, in metres; the belt is where its windows start.

    Along the car 0 is the middle; `back` and `front` are those of the cabin."""

    long: float
    wide: float
    belt: float
    roof: float
    bonnet: float  # how high it ends in front
    back: tuple[float, float]  # at the belt, at the roof
    front: tuple[float, float]
    doors: int = 2  # windows on a side

    def scaled(self, size: float) -> "CarShape":
        """The same, `size` times as large."""
        lengths = (value * size for value in self[:5])
        spans = (tuple(value * size for value in span) for span in self[5:7])
        return CarShape(*lengths, *spans, self.doors)


CARS = (  # as often as in the streets of Europe
    CarShape(4.5, 1.78, 0.92, 1.43, 0.76, (-1.75, -1.05), (1.05, 0.3)),  # saloon
    CarShape(3.9, 1.72, 0.95, 1.48, 0.78, (-1.85, -1.5), (1.0, 0.25)),  # hatchback
    CarShape(3.6, 1.62, 0.96, 1.52, 0.82, (-1.72, -1.5), (1.05, 0.4)),  # city car
    CarShape(4.0, 1.75, 0.98, 1.54, 0.82, (-1.9, -1.62), (1.1, 0.35)),  # hatchback
    CarShape(4.6, 1.80, 0.98, 1.50, 0.78, (-2.2, -1.9), (1.1, 0.3)),  # estate
    CarShape(4.3, 1.78, 1.02, 1.66, 0.90, (-2.05, -1.85), (1.35, 0.6)),  # people carrier
    CarShape(4.5, 1.86, 1.10, 1.74, 1.02, (-2.15, -1.8), (0.95, 0.35)),  # off-roader
    CarShape(4.8, 1.94, 1.18, 2.05, 1.00, (-2.36, -2.3), (1.7, 1.05), doors=1),  # van
    CarShape(5.4, 2.00, 1.25, 2.45, 1.05, (-2.66, -2.6), (1.9, 1.25), doors=1),  # van
)


def car(canvas: Canvas, rng: Generator, x: float, z: float, head: float) -> None:
    """Draw a car or a van."""
    if not canvas.sees(x, z, 4):
        return
    canvas.begin(CAR, x, z, 0.4 + 0.5 * rng.random())
    it, body = Solid(canvas, x, z, head), tint(rng, pick(rng, PAINTS))
    shape = pick(rng, CARS).scaled(rng.uniform(0.94, 1.06))
    half, wide, near = shape.long / 2, shape.wide / 2, canvas.scale(z) > 24
    it.stand(half, wide, shape.roof, (-half + 0.3, half - 0.3))
    outline = _outline(rng, shape, body)
    outline = outline if near else outline[:1] + outline[2::2]
    profile, colours = [point[:3] for point in outline], [point[3] for point in outline]
    side = it.extrude(profile, colours, shade(body, rng.uniform(0.8, 1.0)))
    axles = (-half * 0.6, half * 0.62)
    if near and side:
        _side(it, shape, body, side * wide)
        for along in axles:
            it.disc(along, 0.33, 0.39, side * wide, shade(body, 0.25))
    if near:
        _ends(it, rng, shape, body)
    for along in axles:
        it.wheel(along, 0.31, side * wide)


def _outline(
    rng: Generator, shape: CarShape, body: Colour
) -> list[tuple[float, float, float, Colour | None]]:
    """The outline of a car from the rear over the roof to the front.

    Of each point: along, up, half width, and the colour of what follows."""
    half, wide, belt, roof, bonnet = shape.long / 2, shape.wide / 2, *shape[2:5]
    (back, roof_back), (front, roof_front) = shape.back, shape.front
    bumper, bright = shade(body, 1.0 if rng.random() < 0.6 else 0.35), shade(body, 1.12)
    clear, hump = rng.uniform(0.16, 0.3), roof + 0.05 * rng.random()
    return [
        (-half + 0.12, clear, wide * 0.9, bumper),
        (-half, 0.42, wide * 0.97, bumper),
        (-half, 0.62, wide, body),
        (min(back, -half + 0.06), belt, wide * 0.96, bright),
        (back, belt + 0.02, wide * 0.93, PANE),
        (roof_back, roof - 0.05, wide * 0.76, body),
        (roof_back + 0.3, roof, wide * 0.72, bright),
        ((roof_back + roof_front) / 2, hump, wide * 0.70, bright),
        (roof_front - 0.2, roof, wide * 0.72, bright),
        (roof_front, roof - 0.05, wide * 0.76, PANE),
        (front, belt, wide * 0.93, bright),
        (half - 0.25, bonnet, wide * 0.92, body),
        (half - 0.04, bonnet - 0.14, wide * 0.95, body),
        (half, 0.45, wide * 0.97, bumper),
        (half - 0.1, clear, wide * 0.9, None),
    ]


def _side(it: Solid, shape: CarShape, body: Colour, wide: float) -> None:
    """Draw the windows, the sill and a door's seam on the side at `wide`."""
    low, high, half = shape.belt + 0.03, shape.roof - 0.1, shape.long / 2
    (back, roof_back), (front, roof_front) = shape.back, shape.front
    parts = ((0.0, 0.5), (0.5, 1.0)) if shape.doors > 1 else ((0.62, 1.0),)
    for part in parts:
        below = [back + 0.15 + (front - back - 0.27) * p for p in part]
        above = [roof_back + (roof_front - roof_back) * p for p in part]
        corners = [(below[0] + 0.04, low, wide * 0.96), (above[0] + 0.04, high, wide * 0.8)]
        corners += [(above[1] - 0.04, high, wide * 0.8), (below[1] - 0.04, low, wide * 0.96)]
        it.face(corners, PANE, material=GLASS)
    it.slab((-half + 0.1, half - 0.1), (0.2, 0.3), wide, shade(body, 0.4))
    seam = (back + front) / 2
    it.slab((seam, seam + 0.02), (0.35, shape.belt), wide, shade(body, 0.6))


def _ends(it: Solid, rng: Generator, shape: CarShape, body: Colour) -> None:
    """Draw the lamps, plate, grille and bumper of the end that is seen."""
    half, wide, low = shape.long / 2, shape.wide / 2, rng.uniform(0.52, 0.68)
    end = it.lamps(half, wide, (low, low + rng.uniform(0.1, 0.3)), rng.uniform(0.55, 0.8))
    plate = 0.45 if rng.random() < 0.5 else low
    it.panel(end * 1.003, (plate, plate + 0.12), (-0.27, 0.27), pick(rng, PLATES))
    if end > 0:
        it.panel(end * 1.002, (0.36, 0.5), (-wide * 0.6, wide * 0.6), DARK)
    elif rng.random() < 0.3:
        strip = (shape.belt - 0.12, shape.belt - 0.08)
        it.panel(end * 1.002, strip, (-wide * 0.5, wide * 0.5), CHROME)
    it.panel(end * 1.001, (0.24, 0.3), (-wide * 0.9, wide * 0.9), shade(body, 0.3))
