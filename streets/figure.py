"""A figure of what Streets draws: `python -m streets.figure images/drawn-streets.png`."""

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from streets.canvas import ASPHALT, Camera, Canvas, Spot
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

TILE = (272, 112)  # of an element, width and height in pixels
SUMMER, WINTER, NORTH = (Flora(GREENS, *shares) for shares in ((0, 0), (1, 0), (0, 1)))
HEADS = (0.0, 0.5, 1.2, 2.4, math.pi)  # of the five that are shown, where they turn


def _ends(it: Solid) -> list[Spot]:
    return [(it.x - 1.6, it.z), (it.x + 1.6, it.z + 2)]


def _house(it: Solid, rng: np.random.Generator) -> None:
    side = 1 if it.x > 0 else -1
    house(it.canvas, rng, Lot(it.x - 4 * side, it.z, it.z + 12, side, SUMMER), tall=9, lit=0.6)


ELEMENTS = {  # metres from one to the next, how far away they stand, what draws one, its arguments
    "cars, vans": (4.5, 17, car),
    "buses": (8, 30, bus),
    "trams, trucks": (8, 34, lambda it, rng: (tram if it.x < 0 else truck)(it, rng)),
    "people": (1.2, 6.5, person),
    "bicycles": (2.2, 8, lambda it, rng: bicycle(it, rng, ridden=it.head != 0.5)),
    "motorcycles": (2.2, 8, lambda it, rng: motorcycle(it, rng, ridden=it.head != 0.5)),
    "signs": (2.0, 11, sign),
    "traffic lights": (3.4, 16, signal, 1),
    "lamps": (7, 34, lamp, -1),
    "posts": (1.2, 8, post, 1.1),
    "boxes": (1.6, 8, box),
    "leafy trees": (7, 34, tree, 8, 6, SUMMER),
    "bare trees": (7, 34, tree, 8, 6, WINTER),
    "conifers": (6, 34, tree, 9, 6, NORTH),
    "fences": (3.6, 13, lambda it, rng: draw_fence(it.canvas, rng, _ends(it))),
    "railings": (3.6, 9, lambda it, rng: draw_fence(it.canvas, rng, _ends(it), railing=True)),
    "walls": (3.6, 13, lambda it, rng: draw_border(it.canvas, rng, _ends(it), "wall", SUMMER)),
    "houses": (9, 22, _house),
}


def draw_element(turn: bool, apart: float, away: float, draw: Callable, *args: Any) -> np.ndarray:
    """Five of a kind on a road by day, uint8 [H, W, 3]; turn: whether to show all sides."""
    rng, light = np.random.default_rng(7), Light(np.random.default_rng(3))
    camera = Camera(TILE[0], u0=TILE[0] / 2, v0=TILE[1] * 0.45, height=1.6, roll=0.0, bend=0.0)
    canvas = Canvas(TILE, camera, light.cast, lamps_lit=False)
    canvas.strip((-400, 400), (2, 480), (96, 96, 98), ASPHALT, ROAD)
    for i, head in enumerate(HEADS):
        draw(Solid(canvas, (i - 2) * apart, away, head if turn else 0.0), rng, *args)
    response = Response(np.random.default_rng(2864), night=0)  # bright, with little noise
    return develop(canvas, light, response, rng)[0]


def draw_figure() -> Image.Image:
    """Scenes above, and below them each element."""
    size = (TILE[0], TILE[0] // 2)
    seeds = (0, 1, 3, 7, 8, 10, 11, 16, 17)  # of the default training split
    scenes = [draw_scene(np.random.default_rng([0, 0, seed]), size)[0] for seed in seeds]
    tiles = []
    for i, (name, element) in enumerate(ELEMENTS.items()):
        tile = Image.fromarray(draw_element(i < 6, *element))
        ImageDraw.Draw(tile).text((5, 3), name, fill=(0, 0, 0), stroke_width=2, stroke_fill="white")
        tiles.append(np.asarray(tile))
    rows = [part[i : i + 3] for part in (scenes, tiles) for i in range(0, len(part), 3)]
    return Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows]))


if __name__ == "__main__":
    draw_figure().quantize(80, dither=Image.Dither.NONE).save(sys.argv[1], optimize=True)
