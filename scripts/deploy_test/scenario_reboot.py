"""The machine is rebooted while recorders upload."""

from __future__ import annotations

import time

from deploy_test.lab import Lab

BEFORE_SECONDS = AFTER_SECONDS = 5


def reboot(lab: Lab) -> None:
    """systemctl reboot under 20 recorders: all comes back by itself, nothing is lost"""
    site = lab.installed_site()
    with lab.report.step("reboot: under the uploads of 20 recorders") as step:
        fleet = lab.fleet()
        with fleet.uploading():
            time.sleep(BEFORE_SECONDS)
            started = time.monotonic()
            site.machine.reboot()
            site.wait_until_healthy()
            step.saw(f"healthy again after {time.monotonic() - started:.1f} s")
            time.sleep(AFTER_SECONDS)
        step.saw(fleet.told(), f"silent for {fleet.tally.longest_silence:.1f} s")
        fleet.require_all_accepted()
        lab.evidence.require_all(site, step)
