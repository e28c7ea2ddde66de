"""This machine's clock, which dates the log, beside PostgreSQL's, which dates the rows."""

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from ingest_api.doctor.findings import Finding, fail, ok, warn

OLDEST_YEAR = 2026  # this service is no older
_CURE = "timedatectl set-ntp true"


def check_clock() -> Iterator[Finding]:
    yield judge_date(datetime.now(UTC))
    yield from _check_synchronization()


def judge_date(now: datetime) -> Finding:
    found = f"it is {now:%Y-%m-%d %H:%M} UTC"
    if now.year < OLDEST_YEAR:
        return fail("clock", f"{found}, says this machine, which cannot be", _CURE)
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
    """By what timedatectl says of NTPSynchronized: yes, no, or nothing where systemd is not."""
    if answer == "no":
        return warn("clock NTP", "this machine's clock is not kept right by NTP", _CURE)
    return ok("clock NTP", "is synchronized" if answer == "yes" else "is not known here")
