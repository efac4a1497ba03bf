"""The plan of a street: its cross-section, its colours, and how much goes on in it."""

from dataclasses import dataclass

from numpy.random import Generator

from streets.canvas import ASPHALT, SLABS
from streets.colours import AUTUMN, EVERGREENS, GREENS, PAVING, WINTER, Colour, pick, shade, tint

Sides = dict[int, float]  # one value for the left side, -1, and one for the right, 1

FAR = 170.0  # metres; where the street ends


@dataclass(frozen=True)
class Flora:
    """What grows in a street."""

    greens: tuple[Colour, ...]
    bare: float  # the share of trees without leaves
    conifers: float


@dataclass(frozen=True)
class Plan:
    """A street in metres; x = 0 is the camera, and distances of a side count outwards."""

    lane: float  # width
    own: int  # lanes in the camera's direction
    other: int  # lanes in the other
    rails: float | None  # x of the middle of a tram's track
    middle: float  # x of the line between the directions
    parked: dict[int, bool]  # whether cars park along a side
    kerb: Sides  # from the camera
    walk: Sides  # width of the sidewalk
    verge: Sides  # width of the grass beside the kerb, or 0
    rail: dict[int, bool]  # whether a railing stands along the kerb
    road: Colour
    paving: Colour
    surface: int  # the material of the sidewalks
    stone: Colour  # of the kerbs
    flora: Flora
    crossing: float | None  # z where a crossroad starts
    wide: float  # width of the crossroad
    end: bool  # whether houses close the view
    town: float  # 0..1, how much is built
    storeys: float  # of a house, about
    avenue: float  # 0..1, how many trees along the kerb
    crowd: float  # 0..1, how many people
    jam: float  # 0..1, how many vehicles
    clutter: float  # 0..1, how much furniture

    def is_on_crossing(self, z: float, before: float, after: float) -> bool:
        """Whether z lies on the crossroad, or less than so many metres before or after it."""
        start = self.crossing
        return start is not None and start - before < z < start + self.wide + after


def draw_plan(rng: Generator) -> Plan:
    """A street at random."""

    def happens(chance: float) -> bool:
        return rng.random() < chance

    lane = rng.uniform(2.6, 3.6)
    own, other = (1, 1) if happens(0.7) else (2, 1 + int(rng.random() * 2))
    rails = happens(0.14)
    parked = {side: happens(0.35) for side in (-1, 1)}
    left = lane * (0.5 + other) + (3.4 if rails else 0) + (2.3 if parked[-1] else 0.4)
    right = lane * (own - 0.5) + (2.3 if parked[1] else 0.6)
    shift = (rng.random() - 0.5) * 0.9
    grey = rng.uniform(45, 150)
    road = tint(rng, (grey, grey, grey * 1.02), 12)
    like_road = happens(0.35)  # a sidewalk of asphalt
    paving = shade(road, rng.uniform(0.7, 1.5)) if like_road else pick(rng, PAVING)
    return Plan(
        lane=lane,
        own=own,
        other=other,
        rails=-lane * 0.5 - 1.7 + shift if rails else None,
        middle=-lane * 0.5 + shift - (3.4 if rails else 0),
        parked=parked,
        kerb={-1: left - shift, 1: right + shift},
        walk={side: 1.4 + 4.5 * rng.random() ** 1.5 for side in (-1, 1)},
        verge={side: rng.uniform(0.8, 2.5) * happens(0.15) for side in (-1, 1)},
        rail={side: happens(0.2) for side in (-1, 1)},
        road=road,
        paving=tint(rng, paving),
        surface=ASPHALT if like_road and happens(0.7) else SLABS,
        stone=tint(rng, shade(pick(rng, PAVING), rng.uniform(0.5, 1.1))),
        flora=draw_flora(rng),
        crossing=3 + 57 * rng.random() if happens(0.45) else None,
        wide=rng.uniform(7, 20),
        end=happens(0.3),
        town=rng.random(),
        storeys=rng.uniform(1.5, 4.5),
        avenue=0.8 * rng.random() ** 1.2,
        crowd=rng.random() ** 1.5,
        jam=rng.random(),
        clutter=rng.random(),
    )


def draw_flora(rng: Generator) -> Flora:
    """What grows in a street, in a season at random."""
    dice = rng.random()
    if dice < 0.45:
        return Flora(GREENS + EVERGREENS, bare=0.05, conifers=0.1)
    if dice < 0.6:
        return Flora(AUTUMN + GREENS, bare=0.25, conifers=0.1)
    return Flora(WINTER + EVERGREENS, bare=0.6, conifers=0.15)
