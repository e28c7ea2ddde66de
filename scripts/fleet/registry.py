"""The fleet's devices in a service's admin API: registered before, disabled after. What they do in
between does not belong here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from itertools import islice
from random import Random
from types import TracebackType
from typing import Any
from uuid import UUID, uuid4

from lab.recorder import Recorder

from fleet.endpoint import API, Api, FleetError
from ingest_api.tokens import generate_token

DEVICES = f"{API}/admin/devices"
MARK = "f1ee7"
"""All ids of a fleet begin with it (fleet, in hex), so that an operator can tell them."""
MOST_REGISTERS = 4  # of a shop


class Registry:
    """A context: inside of it the devices may upload. They cannot be deleted over HTTP, nor can
    their chunks, so they are disabled at the end, if the service is one that goes on."""

    def __init__(self, api: Api, count: int, seed: int, *, disable: bool) -> None:
        self._api, self._disable = api, disable
        self._ids = islice(_identities(Random(seed)), count)
        self.recorders: list[Recorder] = []
        self.left_open: list[UUID] = []  # those that could not be disabled

    def __enter__(self) -> Registry:
        try:
            for point_id, register_id in self._ids:
                self._register(Recorder(_new_id(), point_id, register_id, generate_token()))
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._disable_all()
        if error and self.left_open:
            error.add_note(f"{len(self.left_open)} devices could not be disabled")

    def _register(self, recorder: Recorder) -> None:
        ids = {name: getattr(recorder, name) for name in ("device_id", "point_id", "register_id")}
        status, answer = self._api.ask("POST", DEVICES, ids | {"token_plain": recorder.token})
        if status != HTTPStatus.CREATED:
            raise _refusal(self._api, status, answer)
        self.recorders.append(recorder)

    def _disable_all(self) -> None:
        if not self._disable:
            return
        self.left_open = [recorder.device_id for recorder in self.recorders]
        with suppress(FleetError):  # of a service that has gone, the others need not be asked
            for device_id in tuple(self.left_open):
                path = f"{DEVICES}/{device_id}"
                if self._api.ask("PATCH", path, {"is_enabled": False})[0] == HTTPStatus.OK:
                    self.left_open.remove(device_id)


def last_seen(api: Api) -> dict[UUID, datetime | None]:
    """When the service last heard of each device. FleetError."""
    status, answer = api.ask("GET", DEVICES)
    if status != 200:
        raise _refusal(api, status, answer)
    return {
        UUID(device["device_id"]): (
            datetime.fromisoformat(device["last_seen_at"]) if device["last_seen_at"] else None
        )
        for device in answer
    }


def _refusal(api: Api, status: int, answer: Any) -> FleetError:
    detail = answer.get("detail") if isinstance(answer, dict) else None
    said = f"{api.endpoint} answered {status}: {detail or 'nothing that can be read'}"
    if status in {401, 403}:
        said += (
            "\nSet ADMIN_TOKEN, or ADMIN_TOKEN_FILE to a file that has it, to the token with which"
            " the service was started."
        )
    return FleetError(said)


def _identities(random: Random) -> Iterator[tuple[UUID, UUID]]:
    """Shops with a few cash registers each."""
    while True:
        point_id = _new_id()
        for _ in range(random.randint(1, MOST_REGISTERS)):
            yield point_id, _new_id()


def _new_id() -> UUID:
    return UUID(MARK + uuid4().hex[len(MARK) :])
