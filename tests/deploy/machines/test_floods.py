"""Strangers attack for three minutes, from one address and from one IPv6 network.

No device notices."""

import multiprocessing
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPException

import pytest
from machines.floods import Plan, run
from machines.site import HTTPS, Site

SECONDS = 180
DEVICES, RATE = 50, 5.0
NETWORK = "fd4a:7c1e:5b02:9::/64"
SOURCES = {"one address": ("127.0.0.66", HTTPS), "one network": (NETWORK, ("::1", HTTPS[1]))}
OBSERVER = "127.0.0.77"
HEALTH_SECONDS = 1.0
ATTACKED = 10_000
BODY_MIB, LOG_MIB, JOURNAL_MIB = 30, 10, 80
_BODIES = "du -sk /var/lib/nginx/body | cut -f1"
_LOGS = "cat /var/log/nginx/* | wc -c"
_JOURNAL = "journalctl --sync; du -sk /var/log/journal | cut -f1"


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Iterator[tuple[str, tuple[str, int]]]:
    """Where an attack comes from and goes to. Every address of the network is this machine's."""
    source, address = SOURCES[request.param]
    route = ["local", NETWORK, "dev", "lo"]
    if source == NETWORK:
        subprocess.run(["ip", "-6", "route", "replace", *route], check=True)
    yield source, address
    if source == NETWORK:
        subprocess.run(["ip", "-6", "route", "del", *route], check=True)


class _Watch:
    """What is the worst, while something else happens."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._done = threading.Event()
        self.health_seconds: list[float] = []
        self.unhealthy = 0
        self.body_kib = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        yield
        self._done.set()
        thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            began, status = time.monotonic(), 0
            with suppress(OSError, HTTPException):
                status = self._site.ask("/health", source=OBSERVER).status
            self.health_seconds.append(time.monotonic() - began)
            self.unhealthy += status != 200
            self.body_kib = max(self.body_kib, int(self._site.machine.shell(_BODIES)))


def test_no_device_notices_an_attack_and_no_disk_fills(
    site: Site, source: tuple[str, tuple[str, int]]
) -> None:
    certificate = str(site.root / "etc/ingest-api/tls/fullchain.pem")
    plan = Plan(source[1], certificate, source[0], SECONDS)
    logs, journal = _logged(site)
    watch = _Watch(site)
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
        site.uploading(devices=DEVICES, rate=RATE) as load,
        watch.running(),
    ):
        seen = pool.submit(run, plan).result()
    logs, journal = (
        now - before for now, before in zip(_logged(site), (logs, journal), strict=True)
    )
    slowest, longest = max(watch.health_seconds), max(load.seconds)
    print(f"{source[0]}: {dict(seen)}; {len(load.seconds)} uploads, the longest {longest:.2f} s")
    print(f"/health {len(watch.health_seconds)} times, the longest {slowest:.2f} s")
    print(f"bodies {watch.body_kib} KiB at most, nginx's logs {logs} bytes, journal {journal} KiB")
    assert seen["flood 429"] > ATTACKED, "there was no attack"
    assert seen["body 401"] > 0, "there was no attack"
    assert load.ledger.failures == {}
    assert watch.unhealthy == 0
    assert slowest < HEALTH_SECONDS
    assert watch.body_kib < BODY_MIB * 1024
    assert logs < LOG_MIB * 1024**2
    assert journal < JOURNAL_MIB * 1024
    assert seen["held for over a minute"] == 0
    site.assert_nothing_lost()


def _logged(site: Site) -> tuple[int, int]:
    """Return how large nginx's logs are, in bytes, and the journal, in KiB."""
    return int(site.machine.shell(_LOGS)), int(site.machine.shell(_JOURNAL))
