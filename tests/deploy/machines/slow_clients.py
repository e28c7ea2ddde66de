"""Clients that send a kilobyte a second. For a process of their own: they must not slow down the
devices beside them."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from lab.recorder import UPLOAD_PATH, Chunk, Recorder, upload_body, upload_headers
from support.load import START
from support.recorder import SPEECH

BYTES_A_SECOND = 1000
ANSWER_SECONDS = 60


@dataclass(frozen=True)
class Plan:
    """Clients that come one after the other, and then send for so many seconds."""

    address: tuple[str, int]
    certificate: str
    clients: int
    connect_seconds: float
    send_seconds: int


def run(plan: Plan, recorders: Sequence[Recorder]) -> Counter[str]:
    """Return what came of the uploads: statuses and errors, counted."""
    return asyncio.run(_run_all(plan, recorders))


async def _run_all(plan: Plan, recorders: Sequence[Recorder]) -> Counter[str]:
    tls = ssl.create_default_context(cafile=plan.certificate)
    tls.check_hostname = False
    clients = [
        _client(plan, tls, recorders[number % len(recorders)], number)
        for number in range(plan.clients)
    ]
    return Counter(await asyncio.gather(*clients))


async def _client(plan: Plan, tls: ssl.SSLContext, recorder: Recorder, number: int) -> str:
    await asyncio.sleep(number / plan.clients * plan.connect_seconds)
    sound = SPEECH[: BYTES_A_SECOND * plan.send_seconds]
    chunk = Chunk(START + timedelta(minutes=number), sound, number.to_bytes(8, "big"))
    try:
        # From many addresses: how many connections one may have open is not the subject.
        reader, writer = await asyncio.open_connection(
            *plan.address, ssl=tls, local_addr=(f"127.0.1.{1 + number % 250}", 0)
        )
        try:
            await _send(writer, recorder, chunk)
            status = await asyncio.wait_for(reader.readline(), ANSWER_SECONDS)
        finally:
            writer.close()
    except (OSError, TimeoutError) as error:
        return type(error).__name__
    return status.decode().split(" ")[1] if status else "closed without an answer"


async def _send(writer: asyncio.StreamWriter, recorder: Recorder, chunk: Chunk) -> None:
    body = upload_body(recorder, chunk)
    headers = upload_headers(recorder, len(body)) | {"Host": "localhost"}
    lines = [f"POST {UPLOAD_PATH} HTTP/1.1", *(f"{name}: {it}" for name, it in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    for begin in range(0, len(body), BYTES_A_SECOND):
        writer.write(body[begin : begin + BYTES_A_SECOND])
        await writer.drain()
        await asyncio.sleep(1)
