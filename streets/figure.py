"""A figure of what Streets draws: `python -m streets.figure images/drawn-streets.png`."""

import math
import sys
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from streets.canvas import ASPHALT, Camera, Canvas
from streets.colours import GREENS
from streets.develop import Response, develop
from streets.furniture import box, lamp, post, sign, signal
from streets.ground import ROAD
from streets.lots import Lot, draw_border, draw_fence, house
from streets.people import bicycle, motorcycle, person
from streets.plan import Flora, Light
from streets.plants import tree
from streets.scene import draw_scene
from streets.solids import Solid
from streets.vehicles import bus, car, tram, truck

SCENES = (0, 1, 3, 7, 8, 10, 11, 16, 17)  # of the default training split
TILE = (272, 112)  # of an element, width and height in pixels
SUMMER, WINTER, NORTH = (Flora(GREENS, *shares) for shares in ((0, 0), (1, 0), (0, 1)))
HEADS = (0.0, 0.5, 1.2, 2.4, math.pi)


def _border(it: Solid, rng: np.random.Generator, kind: str) -> None:
    ends = [(it.x - 1.6, it.z), (it.x + 1.6, it.z + 2)]
    if kind == "railing":
        draw_fence(it.canvas, rng, ends, railing=True)
    else:
        draw_border(it.canvas, rng, ends, kind, SUMMER)


def _house(it: Solid, rng: np.random.Generator) -> None:
    side = 1 if it.x > 0 else -1
    house(it.canvas, rng, Lot(it.x - 4 * side, it.z, it.z + 12, side, SUMMER), tall=9, lit=0.6)


def _tram_or_truck(it: Solid, rng: np.random.Generator) -> None:
    (tram if it.x < 0 else truck)(it, rng)


# what draws it, metres from one to the next, how far away they stand, further arguments of each
ELEMENTS = {
    "cars, vans": (car, 4.5, 17, [()] * 5),
    "buses": (bus, 8, 30, [()] * 5),
    "trams, trucks": (_tram_or_truck, 8, 34, [()] * 5),
    "people": (person, 1.2, 6.5, [()] * 5),
    "bicycles": (bicycle, 2.2, 8, [(i % 2 == 0,) for i in range(5)]),
    "motorcycles": (motorcycle, 2.2, 8, [(i % 2 == 0,) for i in range(5)]),
    "signs": (sign, 2.0, 11, [()] * 5),
    "traffic lights": (signal, 3.4, 14, [(side,) for side in (-1, 1, -1, 1, 1)]),
    "lamps": (lamp, 7, 34, [(side,) for side in (-1, 1, -1, 1, 1)]),
    "posts": (post, 1.2, 8, [(tall,) for tall in (0.8, 1.1, 1.4, 2.5, 0.9)]),
    "boxes": (box, 1.6, 8, [()] * 5),
    "leafy trees": (tree, 7, 34, [(8, 6, SUMMER)] * 5),
    "bare trees": (tree, 7, 34, [(8, 6, WINTER)] * 5),
    "conifers": (tree, 6, 34, [(9, 6, NORTH)] * 5),
    "fences": (_border, 3.6, 13, [("fence",)] * 5),
    "railings": (_border, 3.6, 13, [("railing",)] * 5),
    "walls": (_border, 3.6, 13, [("wall",)] * 5),
    "houses": (_house, 9, 22, [()] * 5),
}
TURNED = (car, bus, _tram_or_truck, person, bicycle, motorcycle)


def draw_element(draw: Callable, apart: float, away: float, more: list[tuple]) -> np.ndarray:
    """Five of a kind on a road by day, uint8 [H, W, 3]."""
    rng, light = np.random.default_rng(7), Light(np.random.default_rng(3))
    width, height = TILE
    camera = Camera(focal=width, u0=width / 2, v0=height * 0.45, height=1.6, roll=0.0, bend=0.0)
    canvas = Canvas(TILE, camera, light.cast, lamps_lit=False)
    canvas.strip((-400, 400), (2, 480), (96, 96, 98), ASPHALT, ROAD)
    for i, arguments in enumerate(more):
        head = HEADS[i] if draw in TURNED else 0.0
        draw(Solid(canvas, (i - 2) * apart, away, head), rng, *arguments)
    return develop(canvas, light, Response(np.random.default_rng(2), 0), rng)[0]


def draw_figure() -> Image.Image:
    """Scenes above, and below them each element."""
    size = (TILE[0], TILE[0] // 2)
    scenes = [draw_scene(np.random.default_rng([0, 0, seed]), size)[0] for seed in SCENES]
    tiles = []
    for name, element in ELEMENTS.items():
        tile = Image.fromarray(draw_element(*element))
        ImageDraw.Draw(tile).text((5, 3), name, fill=(0, 0, 0), stroke_width=2, stroke_fill="white")
        tiles.append(np.asarray(tile))
    rows = [part[i : i + 3] for part in (scenes, tiles) for i in range(0, len(part), 3)]
    return Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows]))


if __name__ == "__main__":
    draw_figure().quantize(80, dither=Image.Dither.NONE).save(sys.argv[1], optimize=True)
