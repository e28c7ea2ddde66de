"""Processes and the machine end in mid-upload, in bad ways and in good ones."""

from __future__ import annotations

import time
from collections.abc import Callable

from deploy_test.lab import Lab
from deploy_test.site import Site

BEFORE_SECONDS = AFTER_SECONDS = 4
AWAY_SECONDS = 3


def reboot(lab: Lab) -> None:
    """systemctl reboot under 20 recorders: all comes back by itself, nothing is lost"""
    _fault(lab, "reboot: systemctl reboot", lambda site: site.machine.reboot(), rate=20.0)


def faults(lab: Lab) -> None:
    """kill -9 of gunicorn's master, systemctl stop, a power cut, in mid-upload: nothing is lost"""
    _fault(lab, "faults: kill -9 of gunicorn's master", _kill_master)
    _fault(lab, f"faults: systemctl stop, {AWAY_SECONDS} s, start", _stop_and_start)
    _fault(lab, "faults: a power cut", _cut_the_power)


def _fault(lab: Lab, name: str, strike: Callable[[Site], None], *, rate: float = 40.0) -> None:
    site = lab.installed_site()
    with lab.report.step(f"{name}, under the uploads of 20 recorders") as step:
        fleet = lab.fleet(rate=rate)
        with fleet.uploading():
            time.sleep(BEFORE_SECONDS)
            started = time.monotonic()
            strike(site)
            site.wait_until_healthy()
            step.saw(f"healthy again after {time.monotonic() - started:.1f} s")
            time.sleep(AFTER_SECONDS)
        step.saw(fleet.told(), f"silent for {fleet.tally.longest_silence:.1f} s")
        fleet.require_all_accepted()
        lab.evidence.require_all(site, step)


def _kill_master(site: Site) -> None:
    site.machine.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", "ingest-api")
    time.sleep(1)  # its workers answer for a moment


def _stop_and_start(site: Site) -> None:
    site.machine.run("systemctl", "stop", "ingest-api.socket", "ingest-api.service")
    time.sleep(AWAY_SECONDS)
    site.machine.run("systemctl", "start", "ingest-api.socket", "ingest-api.service")


def _cut_the_power(site: Site) -> None:
    site.machine.power_cut()
    site.machine.boot()
