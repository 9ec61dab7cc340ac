"""Values of options that are numbers: read, and refused in words that the user can act on."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

_N = TypeVar("_N", int, float)


def positive(text: str) -> int:
    """A whole number from 1."""
    return _checked(_whole(text), text, lambda value: value >= 1, "less than 1")


def count(text: str) -> int:
    """A whole number from 0."""
    return _checked(_whole(text), text, lambda value: value >= 0, "less than 0")


def amount(text: str) -> float:
    """A number above 0."""
    return _checked(_number(text), text, lambda value: value > 0, "not above 0")


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    return _checked(_number(text), text, lambda value: 0 <= value <= 1, "not between 0 and 1")


def size(text: str) -> tuple[int, int]:
    """`WxH` -> width and height, px."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 1280x720")
    return int(width), int(height)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def _checked(value: _N, text: str, fits: Callable[[_N], bool], wrong: str) -> _N:
    if not fits(value):  # True of NaN too.
        raise argparse.ArgumentTypeError(f"{text} is {wrong}")
    return value
