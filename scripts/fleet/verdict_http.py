"""The verdict on a service that is somebody else's: by HTTP alone. With the internal token every
chunk is asked for, and files are read; without it some chunks are sent again.

How the uploads came about does not belong here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http import HTTPStatus
from itertools import islice
from random import Random
from typing import Any
from uuid import UUID

from lab.recorder import RecorderAgent
from soak_load import Acknowledged

from fleet.endpoint import API, Api, Endpoint, FleetError
from fleet.sound import Sound
from fleet.tally import FleetTally, Sent
from fleet.verdict import Verdict

CHUNKS = f"{API}/internal/chunks"
CONNECTIONS = 4
FILES = 500  # that are read at most: 95 MB
NOBODYS = UUID(int=0)
Receipts = Sequence[tuple[bytes, Acknowledged]]


def require_internal(api: Api) -> None:
    """FleetError when the token is not the service's."""
    status, _ = api.ask("GET", f"{CHUNKS}/{NOBODYS}")
    if status != HTTPStatus.NOT_FOUND:
        raise FleetError(
            f"{api.endpoint} refuses its internal API ({status}). Set INTERNAL_TOKEN, or"
            " INTERNAL_TOKEN_FILE, to the service's token, or neither: then chunks are sent again"
            " instead."
        )


def add_questions(
    verdict: Verdict, endpoint: Endpoint, token: str, receipts: Mapping[bytes, Acknowledged]
) -> None:
    """Ask the internal API for each acknowledged chunk, and for the files of some."""
    every = list(receipts.items())
    some = Random(0).sample(every, min(FILES, len(every)))

    def ask(share: int) -> list[str]:
        api = Api(endpoint, token)
        mine, files = _share(every, share), _share(some, share)
        wrong = [*(_fault_of_row(api, *receipt) for receipt in mine)]
        wrong += [_fault_of_file(api, *receipt) for receipt in files]
        api.close()
        return [fault for fault in wrong if fault]

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        faults = [fault for found in pool.map(ask, range(CONNECTIONS)) for fault in found]
    for fault in faults:
        verdict.lost += fault.startswith("lost")
        verdict.damaged += fault.startswith("damaged")
        verdict.note(fault)
    verdict.asked.append(
        f"the internal API: all {len(every)} acknowledged chunks, and the files of {len(some)}"
    )


def _share(receipts: Receipts, share: int) -> Receipts:
    return list(islice(receipts, share, None, CONNECTIONS))


def _fault_of_row(api: Api, sha256: bytes, receipt: Acknowledged) -> str:
    """What is wrong with what the service knows of a chunk; nothing, if nothing is."""
    status, answer = api.ask("GET", f"{CHUNKS}/{receipt.chunk_id}")
    if status != HTTPStatus.OK:
        return f"lost: {status} {answer} for {receipt}"
    try:
        told = _receipt_in(answer), answer["sha256"]
    except (KeyError, TypeError, ValueError):  # it is from something in between, maybe
        told = None
    return "" if told == (receipt, sha256.hex()) else f"lost: {receipt}, but there is {answer}"


def _receipt_in(answer: Mapping[str, Any]) -> Acknowledged:
    return Acknowledged(
        UUID(answer["device_id"]),
        datetime.fromisoformat(answer["start_ts"]),
        answer["file_size_bytes"],
        answer["chunk_id"],
        answer["file_path"],
    )


def _fault_of_file(api: Api, sha256: bytes, receipt: Acknowledged) -> str:
    status, content = api.fetch("GET", f"{CHUNKS}/{receipt.chunk_id}/file")
    if status != HTTPStatus.OK:
        return f"damaged: {status} for the file of {receipt}"
    whole = hashlib.sha256(content).digest() == sha256
    return "" if whole else f"damaged: {len(content)} other bytes in the file of {receipt}"


def add_replays(
    verdict: Verdict, endpoint: Endpoint, tally: FleetTally, sounds: Sequence[Sound]
) -> None:
    """Send some of the acknowledged chunks once more. (The service puts a file back that is gone,
    so this is about rows.)"""
    for sent in tally.sample:
        _replay(verdict, endpoint, sent, sounds)
    verdict.asked.append(
        f"{len(tally.sample)} of {len(tally.acknowledged)} acknowledged chunks sent again, each to"
        " be known as it was (with INTERNAL_TOKEN all would be asked for, and files read)"
    )


def _replay(verdict: Verdict, endpoint: Endpoint, sent: Sent, sounds: Sequence[Sound]) -> None:
    agent = RecorderAgent(sent.recorder, endpoint.address, lambda *_: None, tls=endpoint.tls)
    attempt = agent.attempt(sent.recording.chunk(sent.recorder, sounds))
    answer = attempt.answer or {}
    if not attempt.accepted:
        verdict.is_wrong(f"{attempt.outcome} for {sent.chunk_id}, which was acknowledged before")
    elif (answer.get("chunk_id"), answer.get("sha256")) != (sent.chunk_id, sent.sha256):
        verdict.double += 1
        verdict.note(f"double: {sent.chunk_id}, sent again, became {answer}")
    elif answer.get("duplicate") is not True:
        verdict.lost += 1
        verdict.note(f"lost: {sent.chunk_id}, sent again, was not known")
