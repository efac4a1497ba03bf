"""What the studies share: where the records are, and which run a recipe stands for."""

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from engine import Recipe
from engine.loaders import message
from runtime.checkpoint import MAY_CHANGE

RECORDS = Path(__file__).with_name("records")


def identity(recipe: Recipe) -> dict:
    """The fields that determine a run's result, as they are read back from JSON."""
    fields = {k: v for k, v in asdict(recipe).items() if k not in MAY_CHANGE}
    return json.loads(json.dumps(fields))


def is_of(recorded: dict, recipe: Recipe) -> bool:
    """Whether a record's `identity` is this recipe's.

    A field that is in one of them alone, since recipes changed, must have had its default.
    """
    try:
        recorded = Recipe.updated(recorded, RECORDS)
    except ValueError:  # of fields that are gone
        return False
    return {**identity(Recipe()), **recorded} == identity(recipe)


def digest(recipe: Recipe) -> str:
    """Eight hexadecimal digits that tell recipes of different results apart."""
    return hashlib.sha256(json.dumps(identity(recipe), sort_keys=True).encode()).hexdigest()[:8]


@contextmanager
def errors_shown() -> Iterator[None]:
    """End the program with one line for an error that a user can mend, and for Ctrl-C."""
    try:
        yield
    except (OSError, ValueError, FloatingPointError) as error:
        sys.exit(f"error: {message(error)}")
    except KeyboardInterrupt:
        sys.exit("stopped; run the same command to go on")
