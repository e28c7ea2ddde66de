"""How a device uploads over a bad network: it hangs up in mid-body, loses answers, sends slowly,
falls silent when it goes offline, opens a new connection after a reboot.

What is in the spool and when the device is online is in device.py.
"""

import select
import time
from collections.abc import Callable, Iterable, Iterator
from http.client import HTTPConnection
from random import Random

from lab.recorder import TIMEOUT_SECONDS, RecorderAgent, connect
from soak.device import Device, Plan
from support.ledger import Ledger
from support.load import HungUp

PIECE_BYTES = 4096
FIRST_PAUSE = 1 / 60  # of a period, doubled after each failure, up to a whole one


class FieldAgent(RecorderAgent):
    """The agent of one device; `work` is for a thread of its own."""

    def __init__(
        self,
        device: Device,
        address: tuple[str, int],
        plan: Plan,
        ledger: Ledger,
        *,
        happened: Callable[[str], None],
    ) -> None:
        super().__init__(device.recorder, address, ledger.record)
        self._device, self._address, self._plan = device, address, plan
        self._happened = happened
        self._random = Random(f"{plan.seed}+{device.recorder.device_id}")
        self._fair = False
        self._boots = 0
        self._silent: HTTPConnection | None = None  # cut off without a word, so still open

    def work(self) -> None:
        """Deliver what is in the spool, and what comes into it, until there will be no more."""
        pause, failures = 0.0, 0
        while recording := self._device.wait_for_work(pause):
            attempt = self.attempt(recording.chunk(self.recorder))
            self._report(self.recorder, attempt)
            if attempt.accepted:
                self._device.delivered()
                pause, failures = 0.0, 0
            else:
                longest = self._plan.period * min(1.0, FIRST_PAUSE * 2.0 ** min(failures, 10))
                pause = longest * self._random.uniform(0.5, 1)  # not all at the same time
                failures += 1
        self._connection.close()
        self._forget_silent()

    def fair_weather(self) -> None:
        """From now on break nothing on purpose."""
        self._fair = True

    def _exchange(self, body: bytes) -> tuple[int, bytes]:
        self._forget_silent()
        if self._boots != self._device.boots:
            self._boots = self._device.boots
            self._connection.close()
        draw = 1.0 if self._fair else self._random.random()
        if draw < self._plan.hang_ups:
            self._happened("hang-up")
            self._send(body[: self._random.randrange(len(body))], len(body))
            raise HungUp("in mid-body")
        if draw < self._plan.hang_ups + self._plan.lost_answers:
            self._lose_answer(body)
        return super()._exchange(body)

    def _lose_answer(self, body: bytes) -> None:
        """Hang up while the service works on it, or when its answer is on the way."""
        self._happened("lost answer")
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
        """Yield the body at the pace of a slow link."""
        for offset in range(0, len(body), PIECE_BYTES):
            if not self._device.online:
                self._fall_silent()
            yield body[offset : offset + PIECE_BYTES]
            time.sleep(PIECE_BYTES / self._plan.slow_bytes_a_second)

    def _fall_silent(self) -> None:
        """Lose the network: the service hears nothing more, not even that this is the end."""
        self._happened("upload cut off")
        self._silent = self._connection
        self._connection = connect(self._address)
        raise HungUp("offline in mid-body")

    def _forget_silent(self) -> None:
        if self._silent:
            self._silent.close()
            self._silent = None
