"""The verdict on a service that is the fleet's own: by its commands, and then, with the service
dead, by soak's comparison of every row and every file with what the clients were told.

How the uploads came about does not belong here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from lab.service import Site, SiteError
from soak_verdict import judge

from fleet.tally import FleetTally
from fleet.verdict import Verdict

FSCK = ("fsck", "--checksums", "--grace=150s", "--json")  # the shortest grace that it takes
FSCK_FOUND = 1


def add_commands(verdict: Verdict, site: Site) -> None:
    """What the commands say while the service runs. SiteError when one cannot be run."""
    *findings, last = _flask_ingest(site, *FSCK, allowed=FSCK_FOUND)
    verdict.details["fsck"] = last["summary"]
    for finding in findings:
        verdict.is_wrong(f"fsck: {finding}")
    [queue] = _flask_ingest(site, "queue", "--json")
    verdict.details["queue"] = queue["states"]
    [devices] = _flask_ingest(site, "list-devices", "--json")
    verdict.details["devices_seen"] = sum(device["last_seen_at"] is not None for device in devices)
    verdict.asked.append("flask ingest fsck --checksums, queue, list-devices")


def add_comparison(verdict: Verdict, site: Site, tally: FleetTally) -> None:
    """Ends the service: what it has acknowledged must not depend on what it would still do."""
    site.kill_service()
    in_hand = tally.chunks - len(tally.acknowledged)
    found = judge(site.database_url, site.storage, tally.acknowledged, in_hand)
    verdict.lost, verdict.double = found.lost, found.double
    verdict.damaged, verdict.from_nowhere = found.rows_without_file, found.rows_from_nowhere
    for example in found.examples:
        verdict.note(example)
    queued = sum(verdict.details["queue"].values())
    if {queued, verdict.details["fsck"]["rows"]} != {found.rows}:
        verdict.is_wrong(f"the commands count {verdict.details}, and there are {found.rows} rows")
    verdict.asked.append(f"{found.rows} rows and files compared with what the recorders were told")


def _flask_ingest(site: Site, *arguments: str, allowed: int = 0) -> list[Any]:
    """The lines of JSON that a command prints."""
    result = subprocess.run(
        [sys.executable, "-m", "flask", "ingest", *arguments],
        env=site.environ(),
        cwd=site.folder,  # where no .env is
        start_new_session=True,  # a Ctrl-C is for us: we end when the verdict is there
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode not in {0, allowed}:
        raise SiteError(f"flask ingest {' '.join(arguments)}: {result.stderr or result.stdout}")
    return [json.loads(line) for line in result.stdout.splitlines()]
