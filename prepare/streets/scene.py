"""One driving scene: how a street is laid out, who is in it, and what light falls on it.

`draw_scene` is what other files call. The street runs along z; each side of it is a row of lots
(houses, gardens, parks, walls); traffic, people and street furniture are in between. Objects are
sorted by which hides which, then painted from far to near.
"""

import math

import numpy as np
from PIL import Image

from prepare.streets import actors, vehicles
from prepare.streets.canvas import BODIES, Canvas, pick, shade, tint
from prepare.streets.photo import daylight, develop
from prepare.streets.town import lot, lots, pave, skyline

GREENS = ((74, 98, 46), (92, 112, 52), (56, 82, 44), (108, 116, 60), (70, 90, 66), (88, 104, 40))
AUTUMN = ((150, 104, 40), (128, 72, 36), (164, 128, 48), (110, 96, 50), (120, 104, 84))
PAVING = ((168, 160, 150), (140, 138, 136), (176, 150, 128), (120, 116, 114), (186, 184, 178))
LENGTH = {"car": 4.6, "truck": 8.8, "bus": 11.0, "tram": 22.0, "bicycle": 1.9, "motorcycle": 2.1}


def draw_scene(rng, size=(512, 256)):
    """Draw one street.

    rng: numpy Generator, the only source of chance.  size: (width, height) in pixels.
    Returns image uint8 [H, W, 3], fine and coarse labels, both uint8 [H, W] of Cityscapes ids."""
    w, h = size
    light = daylight(rng)
    focal = w * (0.85 + 0.2 * rng.random())
    u0, v0 = w * (0.5 + 0.16 * (rng.random() - 0.5)), h * (0.42 + 0.07 * rng.random())
    bend = 0.0 if rng.random() < 0.45 else (rng.random() - 0.5) * 0.005
    canvas = Canvas(size, focal, u0, v0, 1.15 + 0.4 * rng.random(), bend, light["cast"])
    street = plan(rng)
    things = []
    pave(canvas, rng, street)
    skyline(canvas, rng, street)
    for side in (-1, 1):
        lots(canvas, rng, street, side, things)
        furnish(canvas, rng, street, side, things)
    traffic(canvas, rng, street, things)
    for i in far_to_near([thing[:4] for thing in things]):
        things[i][4]()
    if rng.random() < 0.3:
        bonnet(canvas, rng)
    image, labels = develop(canvas, light, rng)
    return image, labels, coarsen(labels)


def plan(rng):
    """The cross-section and colours of a street: a dict of metres, colours and choices.

    Widths of the two sides are kept under -1 (left) and 1 (right); x = 0 is the camera."""
    lane = 2.9 + 0.4 * rng.random()
    own, other = (1, 1) if rng.random() < 0.7 else (2, 1 + int(rng.random() * 2))
    rails = rng.random() < 0.22
    parked = {-1: rng.random() < 0.45, 1: rng.random() < 0.45}
    left = lane * (0.5 + other) + (3.4 if rails else 0) + (2.3 if parked[-1] else 0.4)
    right = lane * (own - 0.5) + (2.3 if parked[1] else 0.6)
    shift = (rng.random() - 0.5) * 0.7
    grey = 70 + 70 * rng.random()
    road = tint(rng, (grey, grey, grey * 1.02), 14)
    paving = pick(rng, PAVING)
    crossing = 18 + 50 * rng.random() if rng.random() < 0.5 else None
    return dict(
        lane=lane,
        own=own,
        other=other,
        rails=-lane * 0.5 - 1.7 + shift if rails else None,
        middle=-lane * 0.5 + shift - (3.4 if rails else 0),
        shift=shift,
        parked=parked,
        kerb={-1: left - shift, 1: right + shift},
        walk={s: 2.4 + 3.6 * rng.random() for s in (-1, 1)},
        verge={s: 1.6 * (rng.random() < 0.3) for s in (-1, 1)},
        road=road,
        paving=tint(rng, paving),
        crossing=crossing,
        wide=8 + 6 * rng.random(),
        end=rng.random() < 0.3,
        green=pick(rng, GREENS if rng.random() < 0.72 else AUTUMN),
        town=rng.random(),
        crowd=rng.random() ** 1.5,
        jam=0.25 + 0.75 * rng.random(),
    )


def furnish(canvas, rng, street, side, things):
    """Add the objects of one sidewalk: trees, poles, signs, lights, parked bicycles, people.

    things: the list to add to, of (x0, x1, z0, z1, draw): a footprint, and what draws it."""

    def add(x, z, draw, *args, half=0.3):
        things.append((x - half, x + half, z - half, z + half, lot(draw, canvas, rng, x, z, *args)))

    kerb, walk, zc = street["kerb"][side], street["walk"][side], street["crossing"]
    near, wide = side * (kerb + 0.55), street["wide"]
    avenue, lamps = rng.random() < 0.6, 14 + 12 * rng.random()
    z, step = 5 + 6 * rng.random(), 5.5 + 6 * rng.random()
    while z < 110:
        if not (zc and zc - 3 < z < zc + wide + 3):
            dice = rng.random()
            if avenue and dice < 0.72:
                add(
                    side * (kerb + 0.9),
                    z,
                    actors.tree,
                    6 + 5 * rng.random(),
                    4.5 + 3.5 * rng.random(),
                    street["green"],
                )
            elif dice < 0.25 or dice > 0.93:
                add(near, z, actors.sign)
            elif dice < 0.38:
                add(near, z, actors.post, 0.9 + rng.random() * 2.2)
            elif dice < 0.6:
                for i in range(1 + int(rng.random() * 3)):
                    add(near + side * 0.1, z + i * 0.9, parked_cycle, street["paving"], half=0.35)
        z += step * (0.7 + 0.6 * rng.random())
    z = 4 + lamps * rng.random()
    while z < 120:
        add(near - side * 0.1, z, actors.lamp, side, half=0.12)
        z += lamps
    if zc:
        for z in (zc - 1.2, zc + wide + 1.2):
            if rng.random() < 0.85:
                lit = z < zc or rng.random() < 0.3
                add(near - side * 0.2, z, actors.signal, side, lit, half=0.15)
    elif rng.random() < 0.15:
        add(near - side * 0.2, 10 + 20 * rng.random(), actors.signal, side, half=0.15)
    for _ in range(int(1 + 16 * street["crowd"] * rng.random())):
        z, x = 5 + 50 * rng.random() ** 1.3, side * (kerb + 0.9 + (walk - 1.2) * rng.random())
        for i in range(1 + int(rng.random() * 2.4)):
            head = pick(rng, (0.0, math.pi, 0.3, 2.8, 1.5, -1.5))
            add(x + i * 0.6 * side, z + 0.3 * i, actors.person, head, half=0.25)


def parked_cycle(canvas, rng, x, z, ground):
    """Draw a bicycle, at times a motorcycle, left on the sidewalk."""
    if rng.random() < 0.3:
        actors.motorcycle(canvas, rng, x, z, (rng.random() - 0.5) * 2, False)
    else:
        actors.bicycle(canvas, rng, x, z, 1.57 + (rng.random() - 0.5) * 1.6, False, ground)


def traffic(canvas, rng, street, things):
    """Add the objects on the road to `things` (see `furnish`): vehicles, riders, pedestrians."""
    zc, wide, lane, mid = street["crossing"], street["wide"], street["lane"], street["middle"]

    def add(kind, x, z, head):
        half, deep = (0.4, 1) if kind in ("bicycle", "motorcycle") else (1.25, LENGTH[kind] / 2)
        half, deep = (deep, half) if abs(math.sin(head)) > 0.7 else (half, deep)
        draw, more = getattr(vehicles, kind, None) or getattr(actors, kind), ()
        if kind == "bicycle":
            more = (True, street["road"])
        elif kind == "motorcycle":
            more = (True,)
        things.append(
            (
                x - half,
                x + half,
                z - deep,
                z + deep,
                lot(draw, canvas, rng, x, z, head + (rng.random() - 0.5) * 0.05, *more),
            )
        )

    for side in (-1, 1):  # parked
        z = 3 + 9 * rng.random()
        while street["parked"][side] and z < 110:
            free = not (zc and zc - 8 < z < zc + wide + 4)
            if free and rng.random() < 0.3 + 0.6 * street["jam"]:
                kind = "truck" if rng.random() < 0.015 else "car"
                add(
                    kind,
                    side * (street["kerb"][side] - 1.15),
                    z + LENGTH[kind] / 2,
                    0 if side > 0 or rng.random() < 0.3 else math.pi,
                )
                z += LENGTH[kind]
            else:
                z += 5
            z += 0.8 + 1.2 * rng.random()
    lanes = [(mid + lane * (i + 0.5), 0.0, 9.0) for i in range(street["own"])]
    lanes += [(mid - lane * (i + 0.5), math.pi, 6.0) for i in range(street["other"])]
    for x, head, first in lanes:  # driving
        z = first + 50 * rng.random()
        while z < 120:
            kind = pick(rng, ("car",) * 30 + ("truck", "bus", "bus") + ("motorcycle",) * 3)
            add(kind, x + (rng.random() - 0.5) * 0.5, z + LENGTH[kind] / 2, head)
            z += LENGTH[kind] + 5 + 40 * rng.random() * (1.3 - street["jam"])
    for side, head in ((1, 0.0), (-1, math.pi)):  # bicycles keep to the side
        z = 8 + 40 * rng.random()
        while z < 60 and rng.random() < 0.5:
            x = side * (street["kerb"][side] - (2.3 if street["parked"][side] else 0) - 0.3)
            add("bicycle", x, z, head)
            z += 3 + 20 * rng.random()
    if street["rails"] is not None and rng.random() < 0.8:
        add("tram", street["rails"], 23 + 34 * rng.random(), pick(rng, (0.0, math.pi)))
    if zc:
        for head, z in ((math.pi / 2, zc + wide * 0.3), (-math.pi / 2, zc + wide * 0.72)):
            x = -30 + 12 * rng.random()
            while x < 30:
                kind = pick(rng, ("car",) * 7 + ("truck", "bus", "bicycle", "motorcycle"))
                if rng.random() < 0.42:
                    add(kind, x, z, head)
                x += LENGTH[kind] + 2 + 16 * rng.random()
        for _ in range(int(rng.random() * 5 * street["crowd"] + 0.5)):
            x = -street["kerb"][-1] + (street["kerb"][-1] + street["kerb"][1]) * rng.random()
            z = zc - 1.2 - 2.5 * rng.random()
            things.append(
                (
                    x - 0.25,
                    x + 0.25,
                    z - 0.25,
                    z + 0.25,
                    lot(actors.person, canvas, rng, x, z, pick(rng, (1.57, -1.57))),
                )
            )


def far_to_near(boxes):
    """The order in which to paint things so that each hides what is behind it.

    boxes: (x0, x1, z0, z1) footprints, seen from x = 0, z = 0.  Returns their indices."""
    if not boxes:
        return []
    box = np.array(boxes)
    x0, x1 = np.minimum(box[:, 0], box[:, 1]), np.maximum(box[:, 0], box[:, 1])
    z0, z1 = box[:, 2], box[:, 3]
    beyond = z0[:, None] >= z1[None] - 1e-6  # [i, j]: i is farther along the street than j
    right = (x0[:, None] >= x1[None]) & (x1[None] > 0)  # i is farther to the right
    left = (x1[:, None] <= x0[None]) & (x0[None] < 0)
    behind = beyond | ((right | left) & ~beyond.T)
    behind &= ~behind.T
    np.fill_diagonal(behind, False)
    waiting, order = behind.sum(axis=0).astype(float), []  # how many must still come before j
    far = z1 * 1e-6
    for _ in range(len(box)):
        i = int(np.argmin(waiting - far))
        order.append(i)
        waiting -= behind[i]
        waiting[i] = np.inf
    return order


def bonnet(canvas, rng):
    """Paint the camera car's own bonnet (id 1, which the benchmark ignores)."""
    canvas.begin(1, 0, 2, 0.6)
    w, h = canvas.image.size
    colour, top = tint(rng, pick(rng, BODIES)), h * (0.93 + 0.04 * rng.random())
    mid = w * (0.45 + 0.1 * rng.random())
    for k, y in ((0.9, 0), (1.1, 0.012 * h)):
        canvas.pen.polygon(
            [
                (mid + w * 0.62 * a, top + y + h * 0.09 * abs(a) ** 2.5)
                for a in np.linspace(-1, 1, 25).tolist()
            ]
            + [(w, h + 9), (0, h + 9)],
            fill=canvas.number(shade(colour, k)),
        )


def coarsen(labels):
    """Coarse labels, as quick annotation gives: inside large objects, away from all borders.

    labels: uint8 [H, W] ids.  Returns uint8 [H, W]: the same id, or 0 where nothing was drawn."""
    h, w = labels.shape
    cell = max(2, h // 64)
    grid = np.pad(labels, ((0, -h % cell), (0, -w % cell)), mode="edge")
    rows, cols = grid.shape[0] // cell, grid.shape[1] // cell
    cells = grid.reshape(rows, cell, cols, cell).transpose(0, 2, 1, 3).reshape(rows, cols, -1)
    mark = cells[..., 0]
    keep = (cells == mark[..., None]).all(axis=2)
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):  # away from the border, one cell
        near, same = np.roll(mark, step, axis), np.roll(keep, step, axis)
        edge = [slice(None)] * 2
        edge[axis] = 0 if step == 1 else -1
        same[tuple(edge)], near[tuple(edge)] = keep[tuple(edge)], mark[tuple(edge)]
        keep = keep & same & (near == mark)
    size = (cols * cell, rows * cell)
    soft = Image.fromarray(np.uint8(keep) * np.uint8(255)).resize(size, Image.Resampling.BICUBIC)
    inside = np.asarray(soft)[:h, :w] > 140
    return np.where(inside, labels, 0).astype(np.uint8)
