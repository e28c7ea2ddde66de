"""What the recorders were told, held against the rows and the files of the machine.

How it came about does not belong here.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

from lab.recorder import Attempt, Recorder
from soak_load import Acknowledged
from soak_verdict import Verdict, judge

from deploy_test.fleet import Fleet
from deploy_test.report import Failed, Step, require
from deploy_test.site import Site


class Evidence:
    """All that was uploaded since the first machine was made."""

    def __init__(self) -> None:
        self._fleets: list[Fleet] = []
        self._single: dict[bytes, Acknowledged] = {}
        self._unknown = 0  # sent, and of some the answer may be lost

    def at(self, moment: dict[bytes, Acknowledged]) -> Evidence:
        """When so much was acknowledged; all that came later may be there or not."""
        evidence = Evidence()
        evidence._single |= moment
        evidence._unknown = self._in_hand() + len(self.acknowledged()) - len(moment)
        return evidence

    def include(self, fleet: Fleet) -> None:
        self._fleets.append(fleet)

    def include_one(self, recorder: Recorder, attempt: Attempt) -> None:
        """An upload that was accepted, and is of no fleet."""
        answer = attempt.answer or {}
        self._single[hashlib.sha256(attempt.chunk.data).digest()] = Acknowledged(
            UUID(str(recorder.device_id)),
            attempt.chunk.start_ts,
            len(attempt.chunk.data),
            str(answer.get("chunk_id")),
            str(answer.get("stored_path")),
        )

    def include_unknown(self, number: int) -> None:
        """So many more rows may be there, of clients that kept no books."""
        self._unknown += number

    def acknowledged(self) -> dict[bytes, Acknowledged]:
        """By SHA-256."""
        told = dict(self._single)
        for fleet in self._fleets:
            told |= fleet.tally.acknowledged
        return told

    def judge(self, site: Site) -> Verdict:
        return judge(site.database_url, site.storage, self.acknowledged(), self._in_hand())

    def require_all(self, site: Site, step: Step) -> None:
        """Failed unless every acknowledged chunk is there, once and with its bytes, and `fsck`
        finds nothing either."""
        verdict = self.judge(site)
        step.saw(
            f"{verdict.acknowledged} acknowledged, {verdict.lost} lost, {verdict.double} double, "
            f"{verdict.rows_without_file} rows without their file"
        )
        if not verdict.holds:
            raise Failed(f"the verdict does not hold: {verdict}")
        checked = site.ingest("fsck", "--checksums", check=False)
        require(
            checked.returncode == 0,
            f"fsck exits {checked.returncode}: {checked.stdout[-500:]}{checked.stderr[-500:]}",
        )
        step.saw("fsck clean")

    def _in_hand(self) -> int:
        return sum(fleet.in_hand for fleet in self._fleets) + self._unknown
