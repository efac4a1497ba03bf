"""One driving scene: the light, the camera, the street, its things and its labels.

The street runs along z; each side of it is a row of lots (houses, gardens, parks); traffic, people
and street furniture are in between. Things are sorted by which hides which, then painted from far
to near.
"""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from streets.canvas import Canvas
from streets.colours import PAINTS, shade, tinted
from streets.develop import Response, develop
from streets.furniture import furnish
from streets.ground import pave
from streets.lots import add_lots, hang_wires, skyline
from streets.plan import SIDES, Light, Plan, draw_camera
from streets.solids import Things
from streets.vehicles import add_traffic

OWN_VEHICLE = 1  # the label id of the camera car, which the benchmark ignores


def draw_scene(
    rng: Generator, size: tuple[int, int] = (512, 256)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one street.

    rng: the only source of chance; size: (width, height) in pixels.
    Returns the image, uint8 [H, W, 3], and the fine and the coarse labels, both uint8 [H, W] of
    Cityscapes ids."""
    light, camera = Light(rng), draw_camera(rng, size)
    lamps_lit = rng.random() < 0.2 + light.night
    canvas = Canvas(size, camera, light.cast, lamps_lit)
    plan, things = Plan(rng), Things(canvas, rng)
    pave(canvas, rng, plan)
    skyline(canvas, rng, plan)
    for side in SIDES:
        add_lots(rng, plan, side, things)
        furnish(rng, plan, side, things)
    add_traffic(rng, plan, things)
    things.paint()
    hang_wires(canvas, rng, plan)
    if rng.random() < 0.2:
        draw_bonnet(canvas, rng)
    image, labels = develop(canvas, light, Response(rng, light.night), rng)
    if rng.random() < 0.5:  # where one drives on the left
        image, labels = image[:, ::-1], labels[:, ::-1]
    return image, labels, coarsen(labels)


def draw_bonnet(canvas: Canvas, rng: Generator) -> None:
    """Paint the bonnet of the camera car."""
    canvas.begin(OWN_VEHICLE, 0, 2, 0.6)
    width, height = canvas.image.size
    colour, top = tinted(rng, PAINTS), height * (0.93 + 0.04 * rng.random())
    middle = width * (0.45 + 0.1 * rng.random())
    for factor, start in ((0.9, top), (1.1, top + 0.012 * height)):
        edge = [
            (middle + width * 0.62 * a, start + height * 0.09 * abs(a) ** 2.5)
            for a in np.linspace(-1, 1, 25).tolist()
        ]
        corners = [*edge, (width, height + 9), (0, height + 9)]
        canvas.pen.polygon(corners, fill=canvas.number(shade(colour, factor)))


def coarsen(labels: np.ndarray) -> np.ndarray:
    """Coarse labels, as quick annotation gives: inside large objects, away from all borders.

    labels: uint8 [H, W] ids.  Returns uint8 [H, W]: the same id, or 0 where nothing was drawn."""
    height, width = labels.shape
    cell = max(2, height // 64)
    grid = np.pad(labels, ((0, -height % cell), (0, -width % cell)), mode="edge")
    rows, columns = grid.shape[0] // cell, grid.shape[1] // cell
    extremes = []  # of the ids in each cell; first along its columns, which is faster
    for extreme in (np.min, np.max):
        bands = extreme(grid.reshape(rows, cell, -1), axis=1)
        extremes.append(Image.fromarray(extreme(bands.reshape(rows, columns, cell), axis=2)))
    low, high = extremes
    # whether a cell and those around it are all of one object
    keep = np.equal(low.filter(ImageFilter.MinFilter(3)), high.filter(ImageFilter.MaxFilter(3)))
    size = (columns * cell, rows * cell)
    soft = Image.fromarray(np.uint8(keep) * np.uint8(255)).resize(size, Image.Resampling.BICUBIC)
    inside = np.asarray(soft)[:height, :width] > 140
    return np.where(inside, labels, 0).astype(np.uint8)
