"""Clients that send a kilobyte a second, in a process of their own: `python -m`, with a plan as a
line of JSON on standard input; what they saw, counted, goes to standard output.

What happens beside them does not belong here.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

from lab.recorder import UPLOAD_PATH, Chunk, Recorder, upload_body, upload_headers
from soak_load import FIRST_START, SPEECH

BYTES_A_SECOND = 1000
ANSWER_SECONDS = 60


def main() -> None:
    """Run all clients of the plan."""
    plan = json.loads(sys.stdin.readline())
    print(json.dumps(asyncio.run(_run_all(plan))))


async def _run_all(plan: dict[str, Any]) -> Counter[str]:
    tls = ssl.create_default_context(cafile=plan["certificate"])
    tls.check_hostname = False
    recorders = [_recorder(fields) for fields in plan["recorders"]]
    clients = [
        _client(plan, tls, recorders[number % len(recorders)], number)
        for number in range(plan["clients"])
    ]
    return Counter(await asyncio.gather(*clients))


def _recorder(fields: dict[str, str]) -> Recorder:
    ids = {name: UUID(fields[name]) for name in ("device_id", "point_id", "register_id")}
    return Recorder(**ids, token=fields["token"])


async def _client(
    plan: dict[str, Any], tls: ssl.SSLContext, recorder: Recorder, number: int
) -> str:
    """Come when it is its turn, and send for as long as the plan says; what came of it."""
    await asyncio.sleep(number / plan["clients"] * plan["connect_seconds"])
    chunk = Chunk(
        FIRST_START + timedelta(minutes=number),
        SPEECH.read_bytes()[: BYTES_A_SECOND * plan["seconds"]],
        number.to_bytes(8, "big"),
    )
    try:
        # Few of them come from one address: how many one may have open is not what is tried here.
        reader, writer = await asyncio.open_connection(
            *plan["address"], ssl=tls, local_addr=(f"127.0.1.{1 + number % 250}", 0)
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


if __name__ == "__main__":
    main()
