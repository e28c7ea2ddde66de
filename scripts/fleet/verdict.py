"""What a verdict is, and the two questions that any service is asked for it. How each chunk is
looked for does not belong here: see verdict_site.py and verdict_http.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from fleet.endpoint import Api
from fleet.registry import last_seen
from fleet.tally import FleetTally

EXAMPLES = 20
SEEN_LATE = timedelta(minutes=2)
"""How far behind a device's last upload its last_seen_at may be: PostgreSQL's clock and the
service's may be those of two machines."""


@dataclass
class Verdict:
    """Counts, each of which must be 0, with examples; and how they were come by."""

    lost: int = 0  # acknowledged, but not there or not the same
    double: int = 0  # stored twice
    damaged: int = 0  # stored, but the file is not there or has other bytes
    from_nowhere: int = 0  # stored, but no recorder sent it
    wrong: int = 0  # the service has said or says what is not so
    unseen: int = 0  # devices that uploaded and were not noticed
    examples: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)  # sentences
    details: dict[str, Any] = field(default_factory=dict)  # what the commands printed

    @property
    def holds(self) -> bool:
        found = self.lost, self.double, self.damaged, self.from_nowhere, self.wrong, self.unseen
        return not any(found)

    def note(self, line: str) -> None:
        """Keep an example of what is wrong."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(line)

    def is_wrong(self, line: str) -> None:
        self.wrong += 1
        self.note(f"wrong: {line}")


def begin(tally: FleetTally, api: Api) -> Verdict:
    """With what the clients found by themselves, what /health says, and who was seen."""
    verdict = Verdict()
    for line in tally.wrong:
        verdict.is_wrong(line)
    status, answer = api.ask("GET", "/health")
    if status != 200:
        verdict.is_wrong(f"/health says {status} {answer}")
    seen = last_seen(api)
    for device_id, answered in tally.last_answers.items():
        at = seen.get(device_id)
        if at is None or at < datetime.fromisoformat(answered) - SEEN_LATE:
            verdict.unseen += 1
            verdict.note(f"unseen: {device_id}, last answered at {answered}, last seen at {at}")
    verdict.asked.append("/health, and last_seen_at of each device in the admin API")
    return verdict
