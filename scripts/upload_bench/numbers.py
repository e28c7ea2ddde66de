"""What the numbers given to the parts may be, in words for who mistypes one.

Which numbers a part takes, and what they mean, does not belong here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable


def at_least(low: int) -> Callable[[str], int]:
    """A whole number."""

    def parse(value: str) -> int:
        if int(value) < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}")
        return int(value)

    return parse


def above_zero(value: str) -> float:
    """Any number above 0."""
    if not 0 < float(value) < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return float(value)


def numbers_at_least(low: int) -> Callable[[str], tuple[int, ...]]:
    """Whole numbers, with commas between them."""
    parse_one = at_least(low)

    def parse(value: str) -> tuple[int, ...]:
        return tuple(parse_one(part) for part in value.split(","))

    return parse
