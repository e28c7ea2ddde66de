"""A thousand clients that send a kilobyte a second hold no thread, and slow down no device."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

from machines.site import HTTPS, Site
from machines.slow_clients import Plan, run

SLOW, DEVICES, RATE = 1000, 50, 25.0
CONNECT_SECONDS, SECONDS = 30, 60
P99_SECONDS = 1.0
MOST = 60  # connections to the service, and threads of each of its processes
_THREADS = """\
main=$(systemctl show -P MainPID ingest-api)
for pid in $main $(cat /proc/$main/task/$main/children); do
  awk '/^Threads/ {print $2}' /proc/$pid/status
done"""
_TO_NGINX = "ss -Htn state established '( sport = :443 )' | wc -l"
# The most of many looks, because these connections are short.
_TO_SERVICE = """\
for look in $(seq 100); do
  awk '$6 == "03" && $8 ~ /ingest-api.sock$/' /proc/net/unix | wc -l
  sleep 0.02
done | sort -n | tail -n 1"""


def test_slow_clients_hold_no_thread_and_slow_down_no_device(site: Site) -> None:
    recorders = [site.new_recorder() for _ in range(DEVICES)]
    certificate = str(site.root / "etc/ingest-api/tls/fullchain.pem")
    plan = Plan(HTTPS, certificate, SLOW, CONNECT_SECONDS, CONNECT_SECONDS + SECONDS)
    site.ledger.recorded(SLOW)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        slow = pool.submit(run, plan, recorders)
        time.sleep(CONNECT_SECONDS)
        with site.uploading(devices=DEVICES, rate=RATE) as load:
            time.sleep(SECONDS / 2)
            _assert_free(site)
            time.sleep(SECONDS / 2)
        assert slow.result() == {"200": SLOW}
    p99 = sorted(load.seconds)[int(0.99 * len(load.seconds))]
    print(f"{len(load.seconds)} uploads, p99 {1000 * p99:.0f} ms")
    assert load.ledger.failures == {}
    assert p99 < P99_SECONDS
    site.assert_nothing_lost()


def _assert_free(site: Site) -> None:
    """The slow ones are all connected, and nginx keeps them from the service."""
    assert int(site.machine.shell(_TO_NGINX)) >= SLOW
    assert 0 < int(site.machine.shell(_TO_SERVICE)) < MOST
    assert max(map(int, site.machine.shell(_THREADS).split())) < MOST
