"""The light of one hour and weather, drawn at random."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from streets.canvas import Spot

Tone = tuple[float, float, float]  # RGB; 1 is the light on a bright overcast day
Bounds = tuple[float, float]  # a number between these is drawn


class Hour(NamedTuple):
    """What scenes at one time of day have in common."""

    share: float  # of all scenes
    ambient: Tone  # the light from the sky
    sun: Tone
    zenith: Tone  # the sky high up
    horizon: Tone  # the sky low down, and the haze
    cloud: Tone
    clouds: Bounds  # -1 is none, 1 is all of the sky
    glare: Bounds = (1.0, 4.0)  # how much brighter than white the sky is
    height: Bounds | None = None  # of the sun, as a sine; None: it casts no shadows
    night: float = 0.0  # how much lamps count, 0..1


CLEAR = Hour(
    share=0.36,
    ambient=(0.44, 0.50, 0.60),
    sun=(1.05, 0.98, 0.84),
    zenith=(0.22, 0.44, 0.82),
    horizon=(0.74, 0.82, 0.90),
    cloud=(1.05, 1.05, 1.05),
    clouds=(-0.9, 0.4),
    height=(0.4, 0.95),
)
BACKLIT = Hour(  # the sun stands low, and the camera is set for the sky or for the shade
    share=0.16,
    ambient=(0.36, 0.38, 0.44),
    sun=(1.0, 0.84, 0.62),
    zenith=(0.52, 0.66, 0.86),
    horizon=(1.0, 0.92, 0.80),
    cloud=(1.1, 1.0, 0.9),
    clouds=(-0.6, 0.5),
    glare=(1.2, 6.0),
    height=(0.18, 0.45),
)
OVERCAST = Hour(
    share=0.36,
    ambient=(0.84, 0.86, 0.88),
    sun=(0.10, 0.10, 0.10),
    zenith=(0.74, 0.77, 0.81),
    horizon=(0.90, 0.91, 0.92),
    cloud=(0.60, 0.62, 0.66),
    clouds=(-0.8, 0.5),
    glare=(0.8, 5.0),
)
DUSK = Hour(
    share=0.08,
    ambient=(0.40, 0.42, 0.50),
    sun=(0.05, 0.05, 0.05),
    zenith=(0.34, 0.40, 0.52),
    horizon=(0.72, 0.66, 0.62),
    cloud=(0.30, 0.32, 0.38),
    clouds=(-0.2, 0.7),
    glare=(0.8, 4.0),
    night=0.35,
)
NIGHT = Hour(
    share=0.04,
    ambient=(0.26, 0.26, 0.32),
    sun=(0.04, 0.04, 0.04),
    zenith=(0.05, 0.07, 0.14),
    horizon=(0.18, 0.16, 0.18),
    cloud=(0.20, 0.18, 0.20),
    clouds=(-0.5, 0.5),
    glare=(0.6, 1.0),
    night=1.0,
)
HOURS = (CLEAR, BACKLIT, OVERCAST, DUSK, NIGHT)


@dataclass(frozen=True)
class Light:
    """What falls on a scene; colours are float32 [3, 1]."""

    ambient: np.ndarray
    sun: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    cloud: np.ndarray
    night: float
    clouds: float
    height: float  # of the sun, as a sine; 1 without sun
    cast: Spot | None  # the shift of the shadow of a point one metre high; None without sun
    haze: np.ndarray  # its colour
    density: float  # of the haze, per metre
    wet: float  # how much the road mirrors the sky, 0..1
    wind: np.float32  # where the clouds are


def draw_light(rng: Generator) -> Light:
    """The light of a scene at random."""
    hour = HOURS[rng.choice(len(HOURS), p=[hour.share for hour in HOURS])]
    glare, around = rng.uniform(*hour.glare), rng.random() * 2 * math.pi
    height = rng.uniform(*hour.height) if hour.height else 1.0
    length = min(math.sqrt(1 - height**2) / height, 4.0)
    hue = 1 + 0.08 * np.float32(rng.random((3, 1)) - 0.5)
    ambient, sun, zenith, horizon, cloud = np.float32(hour[1:6])[..., None]
    return Light(
        ambient=ambient * rng.uniform(0.7, 1.15),
        sun=sun * rng.uniform(0.6, 1.3),
        zenith=zenith * hue * glare,
        horizon=horizon * hue * glare,
        cloud=cloud * glare,
        night=hour.night,
        clouds=rng.uniform(*hour.clouds),
        height=height,
        cast=(math.cos(around) * length, math.sin(around) * length) if hour.height else None,
        haze=horizon * hue * min(glare, 1.2),
        density=0.0003 + 0.004 * rng.random() ** 4,
        wet=rng.random() ** 2 if rng.random() < 0.4 else 0.0,
        wind=np.float32(rng.random() * 512),
    )
