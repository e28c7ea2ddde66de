"""What a check says: one line of the doctor's report. What is checked is not known here."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much it matters."""

    OK = "ok"
    WARN = "warn"  # uploads are kept as promised; still, somebody should look
    FAIL = "fail"  # uploads are refused, could be lost after a 200, or reach no worker


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, what was found, and what to do (empty: nothing)."""

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
    """What an error says, which libpq spreads over several lines."""
    lines = (line.strip() for line in str(error).splitlines())
    return "; ".join(filter(None, lines)) or type(error).__name__
