"""Checks of single values: each returns the value as our file has it, or says why it has no equal."""

import math
from collections.abc import Callable
from typing import Any

from sr_engine.config.problems import show
from sr_engine.config.yaml12 import Value

Convert = Callable[[Value], Any]

# BasicSR and traiNNer read YAML 1.1, in which these are booleans.
_WORDS = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}


class NoEqualError(Exception):
    """A key or value without an equal here; the text is the reason, in one phrase."""


def same(value: Value) -> Value:
    """The value itself."""
    return value


def text(value: Value) -> str | None:
    """A string, or null."""
    if value is None or isinstance(value, str):
        return value
    raise NoEqualError(f"a text is expected, not {show(value)}")


def flag(value: Value) -> bool:
    """True or false, also in the words of YAML 1.1."""
    value = _WORDS.get(value.lower(), value) if isinstance(value, str) else value
    if isinstance(value, bool):
        return value
    raise NoEqualError(f"true or false is expected, not {show(value)}")


def whole(least: int = 0) -> Convert:
    """A whole number, also written as 5e3."""

    def convert(value: Value) -> int:
        value = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        raise NoEqualError(f"a whole number >= {least} is expected, not {show(value)}")

    return convert


def number(least: float = 0.0, below: float = float("inf")) -> Convert:
    """A number in [least, below)."""

    def convert(value: Value) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and least <= value < below:
            return value
        limit = f" and < {below:g}" if below != float("inf") else ""
        raise NoEqualError(f"a number >= {least:g}{limit} is expected, not {show(value)}")

    return convert


def numbers(count: int | None = None, most: float = float("inf")) -> Convert:
    """A list of numbers from 0 to `most`, of a length if one is given."""

    def convert(value: Value) -> list[float]:
        if isinstance(value, list) and value and count in (None, len(value)):
            return [number(0.0, math.nextafter(most, math.inf))(item) for item in value]
        what = "numbers" if count is None else f"{count} numbers"
        raise NoEqualError(f"a list of {what} is expected, not {show(value)}")

    return convert


def wholes(value: Value) -> list[int]:
    """A list of whole numbers."""
    if isinstance(value, list):
        return [whole()(item) for item in value]
    raise NoEqualError(f"a list of whole numbers is expected, not {show(value)}")


def plain(name: Value) -> str:
    """A type as it is compared: `PerceptualLoss`, `perceptualloss` and `perceptual_loss` are one."""
    return str(name).lower().replace("_", "")
