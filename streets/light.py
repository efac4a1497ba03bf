"""The light of one hour and weather, drawn at random."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from streets.canvas import Spot

Tone = tuple[float, float, float]  # RGB, 0..1


@dataclass(frozen=True)
class Hour:
    """What the light of a time of day has in common. Spans are (least, width)."""

    until: float  # the share of scenes up to this one
    ambient: Tone
    sun: Tone
    sky: Tone
    haze: Tone
    cloud: Tone
    night: float
    clouds: tuple[float, float] | None = None
    height: tuple[float, float] | None = None


HOURS = (
    Hour(  # a clear day
        until=0.50,
        ambient=(0.50, 0.55, 0.64),
        sun=(0.95, 0.88, 0.74),
        sky=(0.22, 0.45, 0.85),
        haze=(0.72, 0.80, 0.90),
        cloud=(1.1, 1.1, 1.1),
        night=0.0,
        clouds=(-0.5, 0.9),
        height=(0.5, 0.5),
    ),
    Hour(  # low sun
        until=0.67,
        ambient=(0.46, 0.44, 0.54),
        sun=(1.15, 0.74, 0.42),
        sky=(0.42, 0.46, 0.72),
        haze=(1.0, 0.76, 0.52),
        cloud=(1.1, 0.72, 0.56),
        night=0.15,
        clouds=(-0.3, 0.8),
        height=(0.25, 0.2),
    ),
    Hour(  # overcast
        until=0.92,
        ambient=(0.82, 0.84, 0.87),
        sun=(0.12, 0.12, 0.12),
        sky=(0.62, 0.66, 0.72),
        haze=(0.86, 0.88, 0.90),
        cloud=(0.95, 0.96, 1.0),
        night=0.05,
    ),
    Hour(  # the blue hour
        until=1.0,
        ambient=(0.30, 0.34, 0.50),
        sun=(0.05, 0.05, 0.06),
        sky=(0.10, 0.16, 0.36),
        haze=(0.40, 0.36, 0.46),
        cloud=(0.30, 0.26, 0.40),
        night=1.0,
        clouds=(-0.3, 0.6),
    ),
)


@dataclass(frozen=True)
class Light:
    """What falls on a scene, and what the camera makes of it; colours are float32 [3], 0..1."""

    ambient: np.ndarray
    sun: np.ndarray
    sky: np.ndarray
    haze: np.ndarray
    cloud: np.ndarray
    night: float  # 0..1: how much lamps count
    clouds: float  # how much they cover
    height: float  # of the sun: its sine
    cast: Spot | None  # the shift of the shadow of a point one metre high; None without sun
    density: float  # of the haze, per metre
    white: np.ndarray  # the white balance
    exposure: float
    contrast: float
    grain: float  # of the noise, in grey values
    wind: np.float32  # where the clouds are


def draw_light(rng: Generator) -> Light:
    """The light of a scene at random."""

    def within(span: tuple[float, float]) -> float:
        return span[0] + span[1] * rng.random()

    dice = rng.random()
    hour = next(hour for hour in HOURS if dice < hour.until)
    height = within(hour.height) if hour.height else 1.0
    bright = within((0.62, 0.3)) if hour.clouds is None else 1.0  # how thick an overcast sky is
    clouds = within(hour.clouds) if hour.clouds else 0.3
    sky, haze, cloud = (np.float32(tone) * bright for tone in (hour.sky, hour.haze, hour.cloud))
    around = rng.random() * 2 * math.pi
    low = math.sqrt(1 - height**2) / height
    return Light(
        ambient=np.float32(hour.ambient),
        sun=np.float32(hour.sun),
        sky=sky,
        haze=haze,
        cloud=cloud,
        night=hour.night,
        clouds=clouds,
        height=height,
        cast=(math.cos(around) * low, math.sin(around) * low) if hour.height else None,
        density=0.0008 + 0.008 * rng.random() ** 3,
        white=1 + 0.10 * np.float32(rng.random(3) - 0.5),
        exposure=(1.0 + 0.45 * rng.random()) * (1.35 if hour.night == 1 else 1),
        contrast=1.0 + 0.25 * rng.random(),
        grain=1.0 + 2.5 * rng.random() + 2 * hour.night,
        wind=np.float32(rng.random() * 512),
    )
