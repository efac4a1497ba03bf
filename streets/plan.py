"""The plan of a street: its cross-section, its colours, and how much goes on in it."""

from dataclasses import dataclass

from numpy.random import Generator

from streets.colours import AUTUMN, GREENS, PAVING, Colour, pick, tint

Sides = dict[int, float]  # one value for the left side, -1, and one for the right, 1

FAR = 170.0  # metres; where the street ends


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
    road: Colour
    paving: Colour
    green: Colour  # of leaves
    crossing: float | None  # z where a crossroad starts
    wide: float  # width of the crossroad
    end: bool  # whether houses close the view
    town: float  # 0..1, how much is built
    crowd: float  # 0..1, how many people
    jam: float  # 0..1, how many vehicles

    def is_on_crossing(self, z: float, before: float, after: float) -> bool:
        """Whether z lies on the crossroad, or less than so many metres before or after it."""
        start = self.crossing
        return bool(start) and start - before < z < start + self.wide + after


def draw_plan(rng: Generator) -> Plan:
    """A street at random."""
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
    return Plan(
        crossing=18 + 50 * rng.random() if rng.random() < 0.5 else None,
        lane=lane,
        own=own,
        other=other,
        rails=-lane * 0.5 - 1.7 + shift if rails else None,
        middle=-lane * 0.5 + shift - (3.4 if rails else 0),
        parked=parked,
        kerb={-1: left - shift, 1: right + shift},
        walk={side: 2.4 + 3.6 * rng.random() for side in (-1, 1)},
        verge={side: 1.6 * (rng.random() < 0.3) for side in (-1, 1)},
        road=road,
        paving=tint(rng, paving),
        wide=8 + 6 * rng.random(),
        end=rng.random() < 0.3,
        green=pick(rng, GREENS if rng.random() < 0.72 else AUTUMN),
        town=rng.random(),
        crowd=rng.random() ** 1.5,
        jam=0.25 + 0.75 * rng.random(),
    )
