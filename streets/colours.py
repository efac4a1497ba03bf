"""Colours, RGB in 0..255, and how a scene picks and varies them."""

from collections.abc import Sequence
from typing import TypeVar

from numpy.random import Generator

Colour = tuple[float, float, float]
Option = TypeVar("Option")

# fmt: off
PAINTS = (  # of cars, and of much else that is painted; greys are as frequent as on the roads
    (212, 214, 216), (168, 172, 176), (112, 116, 122), (44, 46, 50), (30, 34, 44), (28, 52, 108),
    (60, 96, 160), (150, 24, 28), (196, 52, 36), (34, 78, 58), (96, 70, 50), (190, 176, 140),
    (214, 176, 40), (130, 140, 120), (86, 30, 44), (226, 228, 230), (24, 26, 30), (20, 22, 26),
    (56, 60, 68), (136, 140, 146), (182, 186, 190), (66, 70, 76), (38, 44, 62), (120, 30, 34),
)
CLOTHES = (
    (30, 32, 38), (52, 56, 66), (40, 52, 88), (96, 98, 104), (150, 40, 44), (190, 184, 172),
    (64, 86, 60), (120, 84, 56), (170, 120, 60), (70, 110, 150), (200, 90, 60), (110, 60, 110),
    (222, 222, 218), (210, 190, 70), (22, 22, 26), (36, 36, 42), (44, 40, 38), (60, 60, 64),
    (28, 34, 50), (70, 62, 54), (50, 44, 50), (34, 40, 36),
)
WALLS = (
    (196, 178, 150), (170, 148, 120), (150, 96, 76), (124, 70, 58), (206, 200, 188),
    (150, 150, 148), (112, 112, 114), (186, 160, 104), (160, 132, 118), (132, 142, 148),
    (96, 84, 76), (214, 190, 168), (128, 140, 116), (176, 120, 92), (88, 96, 108),
)
# fmt: on
TROUSERS = CLOTHES[:9]
SKIN = ((232, 190, 160), (206, 160, 128), (160, 112, 82), (110, 74, 54), (222, 178, 150))
HAIR = ((30, 24, 20), (70, 48, 30), (130, 96, 52), (176, 150, 100), (120, 118, 116), (50, 36, 60))
METALS = ((84, 88, 90), (60, 62, 64), (126, 128, 128), (70, 80, 72))
FENCES = WALLS + PAINTS[:6] + ((110, 82, 54),) * 3
ROOFS = ((112, 62, 48), (74, 72, 76), (130, 86, 64), (60, 58, 60))
GREENS = ((74, 98, 46), (92, 112, 52), (56, 82, 44), (108, 116, 60), (70, 90, 66), (88, 104, 40))
AUTUMN = ((150, 104, 40), (128, 72, 36), (164, 128, 48), (110, 96, 50), (120, 104, 84))
EVERGREENS = ((40, 52, 34), (52, 64, 44), (62, 72, 40), (46, 54, 46), (34, 42, 30))
WINTER = ((92, 84, 72), (78, 70, 60), (110, 102, 84), (86, 88, 66), (66, 60, 54))
EARTH = ((120, 108, 76), (150, 140, 104), (132, 126, 116), (104, 92, 74), (164, 156, 136))
PAVING = ((168, 160, 150), (140, 138, 136), (176, 150, 128), (120, 116, 114), (186, 184, 178))
PALE, INK, SOOT, BLACK = (235, 235, 230), (40, 40, 44), (40, 40, 42), (30, 28, 28)
PANE, TYRE, CHROME, DARK = (46, 54, 64), (26, 26, 28), (150, 152, 156), (52, 52, 56)
SHADE = (18, 18, 20)
RED, WHITE, AMBER = (200, 26, 22), (250, 244, 220), (240, 165, 50)


def pick(rng: Generator, options: Sequence[Option]) -> Option:
    """One of the options, at random."""
    return options[int(rng.random() * len(options))]


def tint(rng: Generator, colour: Colour, by: float = 22) -> Colour:
    """The colour, somewhat changed: each value by up to about `by`, within 0..255."""
    change = (rng.random(4) - 0.5) * by
    brighter = change[3] * 1.5
    return tuple(min(255, max(0, c + change[i] + brighter)) for i, c in enumerate(colour))


def shade(colour: Colour, factor: float) -> Colour:
    """The colour, `factor` times as bright."""
    return tuple(value * factor for value in colour)
