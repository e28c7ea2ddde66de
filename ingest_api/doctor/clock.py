"""This machine's clock, which dates the log, and PostgreSQL's, which dates the rows."""

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from ingest_api.doctor.findings import Finding, fail, ok, warn

OLDEST_YEAR = 2026  # the service did not exist before
_CURE = "timedatectl set-ntp true"


def check_clock() -> Iterator[Finding]:
    yield judge_date(datetime.now(UTC))
    yield from _check_synchronization()


def judge_date(now: datetime) -> Finding:
    found = f"says {now:%Y-%m-%d %H:%M} UTC"
    if now.year < OLDEST_YEAR:
        return fail("clock", f"{found}, which cannot be right", _CURE)
    return ok("clock", found)


def judge_difference(difference: timedelta) -> Finding:
    name, seconds = "clock difference", abs(difference.total_seconds())
    found = f"this machine's clock and PostgreSQL's are {seconds:.3f} s apart"
    if seconds > 60:
        return fail(name, found, f"on both machines: {_CURE}")
    if seconds > 2:
        return warn(name, found, f"on both machines: {_CURE}")
    return ok(name, found)


def _check_synchronization() -> Iterator[Finding]:
    program = shutil.which("timedatectl")
    if not program:
        return
    command = [program, "show", "--property=NTPSynchronized", "--value"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        yield judge_synchronization("")
    else:
        yield judge_synchronization(answer.stdout.strip())


def judge_synchronization(answer: str) -> Finding:
    """Judge timedatectl's NTPSynchronized: yes, no, or empty without systemd."""
    if answer == "no":
        return warn("clock NTP", "this machine's clock is not synchronized by NTP", _CURE)
    return ok("clock NTP", "is synchronized" if answer == "yes" else "is not known without systemd")
