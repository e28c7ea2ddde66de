"""Steps with a verdict each. What they do does not belong here."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

import psycopg


class Failed(Exception):
    """Something is not as it has to be; the message says what was seen instead."""


# What a step may meet of a machine that does not do what it should. Anything else is a mistake in
# these tests, and ends them.
_TROUBLE = (Failed, subprocess.SubprocessError, OSError, HTTPException, psycopg.Error, ValueError)


def require(condition: object, otherwise: str) -> None:
    """Failed unless the condition holds."""
    if not condition:
        raise Failed(otherwise)


@dataclass
class Step:
    """One thing that was tried."""

    name: str  # `scenario: what has to be`
    passed: bool = True
    seconds: float = 0.0
    seen: list[str] = field(default_factory=list)

    def saw(self, *what: str) -> None:
        """Add to what the line of this step tells."""
        self.seen += what

    def facts(self) -> dict[str, Any]:
        return {
            "step": self.name,
            "passed": self.passed,
            "seen": "; ".join(self.seen),
            "seconds": round(self.seconds, 1),
        }


class Report:
    """The steps of a run, told as they end."""

    def __init__(self, *, quiet: bool) -> None:
        self.steps: list[Step] = []
        self._out = sys.stderr if quiet else sys.stdout  # with --json, stdout is for the JSON

    @property
    def passed(self) -> bool:
        return all(step.passed for step in self.steps)

    def say(self, line: str) -> None:
        print(line, file=self._out, flush=True)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time what happens inside. Trouble becomes a FAIL, and the next step is tried."""
        step, started = Step(name), time.monotonic()
        try:
            yield step
        except _TROUBLE as error:
            step.passed = False
            step.saw(_tell(error))
        step.seconds = time.monotonic() - started
        self.steps.append(step)
        self.say(line(step))


def line(step: Step) -> str:
    """A step as a line of the table."""
    verdict = "PASS" if step.passed else "FAIL"
    return (
        f"{verdict}  {step.seconds:6.1f} s  {step.name}: {'; '.join(step.seen) or 'as it should'}"
    )


def _tell(error: Exception) -> str:
    if isinstance(error, Failed):
        return str(error)
    if isinstance(error, subprocess.CalledProcessError):
        said = f"{error.stdout or ''}{error.stderr or ''}".strip()
        last = str(error.cmd[-1]).splitlines()[-1]
        return f"... {last[-60:]} exits {error.returncode}: {said[-1500:]}"
    return f"{type(error).__name__}: {error}"
