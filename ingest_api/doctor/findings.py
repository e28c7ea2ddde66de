"""The result of a check: one line of the doctor's report. Knows nothing of what is checked."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARN = "warn"  # uploads are kept as promised, but somebody should act
    FAIL = "fail"  # uploads are refused, could be lost after a 200, or reach no worker


@dataclass(frozen=True)
class Finding:
    """What was checked, what was found, and what to do about it (empty: nothing)."""

    name: str
    level: Level
    message: str
    advice: str = ""


def ok(name: str, message: str) -> Finding:
    return Finding(name, Level.OK, message)


def warn(name: str, message: str, advice: str) -> Finding:
    return Finding(name, Level.WARN, message, advice)


def fail(name: str, message: str, advice: str) -> Finding:
    return Finding(name, Level.FAIL, message, advice)


def one_line(error: Exception) -> str:
    """Return an error's text, which libpq spreads over several lines, in one."""
    lines = (line.strip() for line in str(error).splitlines())
    return "; ".join(filter(None, lines)) or type(error).__name__
