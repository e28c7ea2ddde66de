"""What the numbers on a command line may be, in words for whoever mistypes one: for argparse.

Which numbers a command takes, and what they mean, does not belong here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable


def at_least(low: int) -> Callable[[str], int]:
    """A whole number."""

    def parse(value: str) -> int:
        if not (number := _number(value)).is_integer():
            raise argparse.ArgumentTypeError("must be a whole number")
        if number < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}")
        return int(number)

    return parse


def numbers_at_least(low: int) -> Callable[[str], tuple[int, ...]]:
    """Whole numbers, with commas between them."""
    parse_one = at_least(low)

    def parse(value: str) -> tuple[int, ...]:
        return tuple(parse_one(part) for part in value.split(","))

    return parse


def above_zero(value: str) -> float:
    """Any number above 0."""
    if not 0 < (number := _number(value)) < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return number


def not_below_zero(value: str) -> float:
    """Any number from 0 on."""
    if not 0 <= (number := _number(value)) < float("inf"):
        raise argparse.ArgumentTypeError("must not be below 0")
    return number


def share(value: str) -> float:
    """From none of it to all."""
    if not 0 <= (number := _number(value)) <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return number


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a number") from None
