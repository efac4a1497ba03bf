"""What a scene is like as a whole, drawn at random: its light, its camera and its street."""

import math
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from streets.canvas import ASPHALT, SLABS, Camera
from streets.colours import AUTUMN, EVERGREENS, GREENS, PAVING, WINTER, Colour, pick, shade, tint

FAR = 170.0  # metres; where the street ends
SIDES = (-1, 1)  # of a street: left, right

# The share of scenes, how much lamps count, and bounds of: how much of the sky is cloud (-1: none,
# 1: all), how much brighter than white it is, the sun's height as a sine (None: no shadows).
HOURS = (
    (0.36, 0.0, (-0.9, 0.4), (1.0, 4.0), (0.4, 0.95)),  # clear
    (0.16, 0.0, (-0.6, 0.5), (1.2, 6.0), (0.18, 0.45)),  # backlit: the sun stands low
    (0.36, 0.0, (-0.8, 0.5), (0.8, 5.0), None),  # overcast
    (0.08, 0.35, (-0.2, 0.7), (0.8, 4.0), None),  # dusk
    (0.04, 1.0, (-0.5, 0.5), (0.6, 1.0), None),  # night
)
# RGB in percent of the light on a bright overcast day: of the light from the sky and from the sun,
# of the sky high up and low down, of clouds.
TONES = (
    ((44, 50, 60), (105, 98, 84), (22, 44, 82), (74, 82, 90), (105, 105, 105)),
    ((36, 38, 44), (100, 84, 62), (52, 66, 86), (100, 92, 80), (110, 100, 90)),
    ((84, 86, 88), (10, 10, 10), (74, 77, 81), (90, 91, 92), (60, 62, 66)),
    ((40, 42, 50), (5, 5, 5), (34, 40, 52), (72, 66, 62), (30, 32, 38)),
    ((26, 26, 32), (4, 4, 4), (5, 7, 14), (18, 16, 18), (20, 18, 20)),
)


class Light:
    """What falls on a scene; colours are float32 [3, 1]."""

    def __init__(self, rng: Generator) -> None:
        hour = rng.choice(len(HOURS), p=[share for share, *_ in HOURS])
        _, self.night, clouds, bright, high = HOURS[hour]
        ambient, sun, zenith, horizon, cloud = np.float32(np.array(TONES[hour]) / 100)[..., None]
        glare, around = rng.uniform(*bright), rng.random() * 2 * math.pi
        self.height = rng.uniform(*high) if high else 1.0  # of the sun, as a sine
        length = min(math.sqrt(1 - self.height**2) / self.height, 4.0)
        # the shift (x, z) of the shadow of a point one metre high; None without sun
        self.cast = (math.cos(around) * length, math.sin(around) * length) if high else None
        hue = 1 + 0.08 * np.float32(rng.random((3, 1)) - 0.5)
        self.ambient = ambient * rng.uniform(0.7, 1.15)
        self.sun = sun * rng.uniform(0.6, 1.3)
        self.zenith, self.horizon = zenith * hue * glare, horizon * hue * glare
        self.cloud, self.clouds = cloud * glare, rng.uniform(*clouds)
        self.haze = horizon * hue * min(glare, 1.2)
        self.density = 0.0003 + 0.004 * rng.random() ** 4  # of the haze, per metre
        self.wet = rng.random() ** 2 if rng.random() < 0.4 else 0.0  # how much the road mirrors
        self.wind = np.float32(rng.random() * 512)  # where the clouds are


def draw_camera(rng: Generator, size: tuple[int, int]) -> Camera:
    """A camera at random: its lens, where it stands and where it looks."""
    width, height = size
    straight, aside = rng.random() < 0.4, 0.16 if rng.random() < 0.7 else 0.6
    return Camera(
        focal=width * rng.uniform(0.55, 1.25),
        u0=width * (0.5 + aside * (rng.random() - 0.5)),
        v0=height * rng.uniform(0.36, 0.60),
        height=rng.uniform(1.1, 1.9),
        roll=0.0 if rng.random() < 0.5 else rng.uniform(-0.035, 0.035),
        bend=0.0 if straight else rng.uniform(-0.004, 0.004),
    )


class Flora(NamedTuple):
    """What grows in a street."""

    greens: tuple[Colour, ...]
    bare: float  # the share of trees without leaves
    conifers: float


class Plan:
    """A street, in metres; x = 0 is the camera, and distances of a side count outwards."""

    def __init__(self, rng: Generator) -> None:
        def happens(chance: float) -> bool:
            return rng.random() < chance

        self.lane = rng.uniform(2.6, 3.6)  # width
        # lanes in the camera's direction, in the other
        self.own, self.other = (1, 1) if happens(0.7) else (2, 1 + int(rng.random() * 2))
        tram = 3.4 if happens(0.14) else 0  # the width of its track
        self.parked = {side: happens(0.35) for side in SIDES}  # whether cars park there
        left = self.lane * (0.5 + self.other) + tram + (2.3 if self.parked[-1] else 0.4)
        right = self.lane * (self.own - 0.5) + (2.3 if self.parked[1] else 0.6)
        shift = (rng.random() - 0.5) * 0.9
        self.kerb = {-1: left - shift, 1: right + shift}  # from the camera
        self.middle = -self.lane * 0.5 + shift - tram  # x of the line between the directions
        self.rails = -self.lane * 0.5 - 1.7 + shift if tram else None  # x of the tram
        grey = rng.uniform(45, 150)
        self.road = tint(rng, (grey, grey, grey * 1.02), 12)
        like_road = happens(0.35)  # a sidewalk of asphalt
        paving = shade(self.road, rng.uniform(0.7, 1.5)) if like_road else pick(rng, PAVING)
        self.walk = {side: 1.4 + 4.5 * rng.random() ** 1.5 for side in SIDES}  # width of sidewalks
        # width of the grass beside the kerb, or 0; whether there is a railing
        self.verge = {side: rng.uniform(0.8, 2.5) * happens(0.15) for side in SIDES}
        self.rail = {side: happens(0.2) for side in SIDES}
        self.paving = tint(rng, paving)
        self.surface = ASPHALT if like_road and happens(0.7) else SLABS  # of the sidewalks
        self.stone = tint(rng, shade(pick(rng, PAVING), rng.uniform(0.5, 1.1)))  # of the kerbs
        season = rng.random()
        if season < 0.45:
            self.flora = Flora(GREENS + EVERGREENS, bare=0.05, conifers=0.1)
        elif season < 0.6:
            self.flora = Flora(AUTUMN + GREENS, bare=0.25, conifers=0.1)
        else:
            self.flora = Flora(WINTER + EVERGREENS, bare=0.6, conifers=0.15)
        self.crossing = 3 + 57 * rng.random() if happens(0.45) else None  # z of a crossroad
        self.wide = rng.uniform(7, 20)  # of the crossroad
        self.end = happens(0.3)  # whether houses close the view
        # 0..1: how much is built; storeys of a house, about
        self.town, self.storeys = rng.random(), rng.uniform(1.5, 4.5)
        # 0..1: how many trees along the kerb, people, vehicles; how much furniture
        self.avenue, self.crowd = 0.8 * rng.random() ** 1.2, rng.random() ** 1.5
        self.jam, self.clutter = rng.random(), rng.random()

    def is_on_crossing(self, z: float, before: float, after: float) -> bool:
        """Whether z lies on the crossroad, or less than so many metres before or after it."""
        start = self.crossing
        return start is not None and start - before < z < start + self.wide + after
