"""How the benchmarks' commands end: in words or JSON, with an exit status, and, when a signal ends
them, with nothing left behind.

What is measured, and how that is told, is not known here.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import fields
from http.client import HTTPException
from types import FrameType
from typing import Any, NoReturn

import psycopg
from lab.postgres import PostgresError
from lab.service import SiteError

from bench_tools.client import Refused

KEPT, BROKEN, NOT_RUN = range(3)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INSIST_SECONDS = 0.5
_NOT_MEASURABLE = (SiteError, PostgresError, Refused, psycopg.Error, HTTPException, OSError)


def exit_status(measure: Callable[[], bool]) -> int:
    """Of a command that measures, and says whether it is as promised."""
    for signum in SIGNALS:
        signal.signal(signum, _interrupt)
    try:
        return KEPT if measure() else BROKEN
    except _NOT_MEASURABLE as error:
        print(f"the benchmark could not run: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return NOT_RUN


def plan_from(options: argparse.Namespace, plan: type[Any]) -> Any:
    """A dataclass, with what was said on the command line; what has no option is as always."""
    names = [field.name for field in fields(plan) if hasattr(options, field.name)]
    return plan(**{name: getattr(options, name) for name in names})


def conclude(parts: dict[str, dict[str, Any]], *, as_json: bool, **facts: Any) -> bool:
    """Say whether all parts are as promised; as JSON, with all that they found."""
    kept = all(part["kept"] for part in parts.values())
    if as_json:
        print(json.dumps({"kept": kept, **facts, **parts}))
    else:
        print("AS PROMISED" if kept else "NOT AS PROMISED")
    return kept


def show(line: str) -> None:
    """Of how far it is."""
    print(line, file=sys.stderr, flush=True)


def _interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)  # a second one must not cut off the tidying
    signal.signal(signal.SIGALRM, _insist)
    signal.setitimer(signal.ITIMER_REAL, INSIST_SECONDS, INSIST_SECONDS)
    raise KeyboardInterrupt


def _insist(_signum: int, _frame: FrameType | None) -> None:
    """Python drops what is raised in its hooks of a fork, and here much is forked. If there is no
    exception on its way, it was dropped."""
    if sys.exc_info()[0] is None:
        raise KeyboardInterrupt
