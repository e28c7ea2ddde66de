"""What a fleet is asked to do. How it is typed, and how it is done, does not belong here."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from soak_load import SPEECH

CHUNK_BYTES = SPEECH.stat().st_size
SLOW_BYTES_A_SECOND = 64_000.0


@dataclass(frozen=True)
class Troubles:
    """How often what goes wrong in the field does, each as a share from 0 to 1; 0: never."""

    drop_outs: float = 0.1  # of the recorders, each period
    outages: float = 0.3  # of the shops, all at once, every few periods
    hang_ups: float = 0.02  # of the uploads, broken by the client in mid-body
    lost_answers: float = 0.02  # of the uploads
    slow_links: float = 0.1  # of the recorders
    wrong_clocks: float = 0.1  # of the recorders
    reboots: float = 0.02  # of the recorders, each period


TROUBLES = tuple(item.name for item in fields(Troubles))


@dataclass(frozen=True)
class Plan:
    """What is to be done. The period, from one chunk of a recorder to its next, is the measure of
    all other times: how long a drop-out lasts, how long an agent pauses."""

    seconds: float
    every: float = 60.0  # the period, in seconds
    devices: int = 50
    troubles: Troubles = field(default_factory=Troubles)
    seed: int = 0

    @property
    def slow_bytes_a_second(self) -> float:
        """Of a slow link: it must be able to keep up with its recorder, and to catch up."""
        return max(SLOW_BYTES_A_SECOND, 2 * CHUNK_BYTES / self.every)

    @property
    def chunks(self) -> int:
        """About how many there will be."""
        return int(self.devices * (self.seconds / self.every + 1))
