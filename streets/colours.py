"""Colours, RGB in 0..255, and how a scene picks and varies them."""

from collections.abc import Sequence
from typing import TypeVar

from numpy.random import Generator

Colour = tuple[float, float, float]
Option = TypeVar("Option")


def palette(colours: str) -> tuple[Colour, ...]:
    """Colours in the notation of CSS: "c81a16 faf4dc" is ((200, 26, 22), (250, 244, 220))."""
    return tuple(tuple(bytes.fromhex(colour)) for colour in colours.split())


PAINTS = palette(  # of cars, and of much else; greys are as frequent as on the roads
    "d4d6d8 a8acb0 70747a 2c2e32 1e222c 1c346c 3c60a0 96181c c43424 224e3a 604632 beb08c "
    "d6b028 828c78 561e2c e2e4e6 181a1e 14161a 383c44 888c92 b6babe 42464c 262c3e 781e22"
)
CLOTHES = palette(
    "1e2026 343842 283458 606268 96282c beb8ac 40563c 785438 aa783c 466e96 c85a3c 6e3c6e "
    "dededa d2be46 16161a 24242a 2c2826 3c3c40 1c2232 463e36 322c32 222824"
)
WALLS = palette(
    "c4b296 aa9478 96604c 7c463a cec8bc 969694 707072 baa068 a08476 848e94 60544c d6bea8 "
    "808c74 b0785c 58606c"
)
METALS = palette("54585a 3c3e40 7e8080 465048")
FENCES = WALLS + PAINTS[:6] + palette("6e5236") * 3
ROOFS = palette("703e30 4a484c 825640 3c3a3c")
GREENS = palette("4a622e 5c7034 38522c 6c743c 465a42 586828")
AUTUMN = palette("966828 804824 a48030 6e6032 786854")
EVERGREENS = palette("283422 34402c 3e4828 2e362e 222a1e")
WINTER = palette("5c5448 4e463c 6e6654 565842 423c36")
EARTH = palette("786c4c 968c68 847e74 685c4a a49c88")
PAVING = palette("a8a096 8c8a88 b09680 787472 bab8b2")
PALE, INK, SHADE = palette("ebebe6 28282c 121214")
PANE, TYRE, CHROME, DARK = palette("2e3640 1a1a1c 96989c 343438")
RED, WHITE, AMBER = palette("c81a16 faf4dc f0a532")


def pick(rng: Generator, options: Sequence[Option]) -> Option:
    """One of the options, at random."""
    return options[int(rng.random() * len(options))]


def tint(rng: Generator, colour: Colour, by: float = 22) -> Colour:
    """The colour, somewhat changed: each value by up to about `by`, within 0..255."""
    change = (rng.random(4) - 0.5) * by
    brighter = change[3] * 1.5
    return tuple(min(255, max(0, c + change[i] + brighter)) for i, c in enumerate(colour))


def tinted(rng: Generator, options: Sequence[Colour], by: float = 22) -> Colour:
    """One of the colours at random, somewhat changed: see `tint`."""
    return tint(rng, pick(rng, options), by)


def shade(colour: Colour, factor: float) -> Colour:
    """The colour, `factor` times as bright."""
    return tuple(value * factor for value in colour)
