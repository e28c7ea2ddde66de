"""How a recorder's agent uploads over a bad network: hangs up in mid-body, loses answers, sends
slowly, falls silent when it goes offline, opens a new connection after a reboot.

What is in the spool and when the device is online does not belong here: see device.py.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from random import Random

from lab.recorder import TIMEOUT_SECONDS, Attempt, Chunk, RecorderAgent, connect
from soak_load import HungUp

from fleet.device import Device, Recording
from fleet.endpoint import Endpoint
from fleet.plan import Plan
from fleet.sound import Sound
from fleet.tally import FleetTally

PIECE_BYTES = 4096
FIRST_PAUSE = 1 / 60  # of a period, doubled after each failure, up to a whole one


@dataclass(frozen=True)
class Field:
    """What all agents of a fleet have in common."""

    endpoint: Endpoint
    plan: Plan
    sounds: Sequence[Sound]
    tally: FleetTally


class FieldAgent(RecorderAgent):
    """One device's; `work` is for a thread of its own."""

    def __init__(self, device: Device, field: Field, random: Random) -> None:
        tally, endpoint = field.tally, field.endpoint
        super().__init__(device.recorder, endpoint.address, tally.record, tls=endpoint.tls)
        self._device, self._endpoint, self._tally = device, endpoint, tally
        self._sounds, self._random = field.sounds, random
        self._plan, self._troubles = field.plan, field.plan.troubles
        self._fair = False
        self._boots = 0
        self._failures = 0  # one after the other
        self._silent: HTTPConnection | None = None  # cut off without a word, so still open

    def work(self) -> None:
        """Deliver what is in the spool, and what comes into it, until there will be no more."""
        pause = 0.0
        while recording := self._device.wait_for_work(pause):
            attempt = self.attempt(recording.chunk(self.recorder, self._sounds))
            self._report(self.recorder, attempt)
            if attempt.accepted:
                self._examine(recording, attempt)
                self._device.delivered()
                self._failures, pause = 0, 0.0
            else:
                pause = self._pause_after(attempt)
                self._failures += 1
        self._connection.close()
        self._forget_silent()

    def fair_weather(self) -> None:
        """From now on nothing is broken on purpose."""
        self._fair = True

    def attempt(self, chunk: Chunk) -> Attempt:
        started = time.monotonic()
        attempt = super().attempt(chunk)
        if attempt.accepted:
            self._tally.took(time.monotonic() - started, slow=self._device.slow)
        return attempt

    def _examine(self, recording: Recording, attempt: Attempt) -> None:
        """Is what the service says it has what it was sent?"""
        sha256 = self._sounds[recording.sound].sha256_with(recording.tail(self.recorder))
        first = not self._failures
        self._tally.examine(self.recorder, recording, attempt, sha256=sha256, first=first)

    def _pause_after(self, attempt: Attempt) -> float:
        longest = self._plan.every * min(1.0, FIRST_PAUSE * 2.0 ** min(self._failures, 10))
        return longest * self._random.uniform(0.5, 1)  # not all of them at the same time

    def _exchange(self, body: bytes) -> tuple[int, bytes]:
        self._forget_silent()
        if self._boots != self._device.boots:
            self._boots = self._device.boots
            self._connection.close()
        draw = 1.0 if self._fair else self._random.random()
        if draw < self._troubles.hang_ups:
            self._tally.happened("hang-ups")
            self._send(body[: self._random.randrange(len(body))], len(body))
            raise HungUp("in mid-body")
        if draw < self._troubles.hang_ups + self._troubles.lost_answers:
            self._lose_answer(body)
        return super()._exchange(body)

    def _lose_answer(self, body: bytes) -> None:
        """Gone while the service works on it, or when its answer is on the way."""
        self._tally.happened("lost answers")
        self._send(body, len(body))
        if self._random.random() < 0.5:
            poll = select.poll()  # select() knows 1024 descriptors only
            poll.register(self._connection.sock, select.POLLIN)
            poll.poll(1000 * TIMEOUT_SECONDS)
        raise HungUp("before the answer")

    def _send(self, body: bytes | Iterable[bytes], content_length: int) -> None:
        if self._device.slow and isinstance(body, bytes):
            body = self._pieces(body)
        super()._send(body, content_length)

    def _pieces(self, body: bytes) -> Iterator[bytes]:
        """At the pace of a slow link."""
        for offset in range(0, len(body), PIECE_BYTES):
            if not self._device.online:
                self._fall_silent()
            yield body[offset : offset + PIECE_BYTES]
            time.sleep(PIECE_BYTES / self._plan.slow_bytes_a_second)

    def _fall_silent(self) -> None:
        """The network has gone: the service hears nothing more, not even that this is the end."""
        self._tally.happened("uploads cut off")
        self._silent = self._connection
        self._connection = connect(self._endpoint.address, self._endpoint.tls)
        raise HungUp("the network went in mid-body")

    def _forget_silent(self) -> None:
        if self._silent:
            self._silent.close()
            self._silent = None
