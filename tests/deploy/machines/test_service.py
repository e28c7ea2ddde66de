"""The installed service: uploads through nginx, its units, and processes that end in mid-upload."""

import re
import resource
import stat
import time
from collections.abc import Callable

import pytest
from machines.site import HTTPS, INNER, Site
from support.recorder import SPEECH

STRANGER = "127.0.0.2"  # loopback, and not in internal-allow.conf
EXPOSURE = 1.5
DESCRIPTORS = 65536
UNITS = "ingest-*.service ingest-*.socket ingest-*.timer"
TIMED = ("ingest-api-prune", "ingest-api-fsck", "ingest-api-backup")


def test_an_upload_is_stored_for_the_service_alone(site: Site) -> None:
    answer = site.upload()
    file = site.storage / answer["stored_path"]
    assert file.read_bytes().startswith(SPEECH)
    owner = site.machine.shell(f"stat -c %U:%G '/{file.relative_to(site.root)}'")
    assert (owner, stat.S_IMODE(file.stat().st_mode)) == ("ingest:ingest", 0o640)
    site.assert_nothing_lost()


def test_a_worker_downloads_it_through_nginx_and_beside_it(site: Site) -> None:
    told, token = site.upload(), site.setting("INTERNAL_TOKEN")
    path = f"/api/v1/internal/chunks/{told['chunk_id']}/file"
    stored = (site.storage / told["stored_path"]).read_bytes()
    for address in (HTTPS, INNER):
        answer = site.ask(path, token=token, address=address)
        assert (answer.status, answer.body) == (200, stored)
        assert "etag" in answer.headers
        assert "x-accel-redirect" not in answer.headers
    asked = (
        "curl -s -D - -o /dev/null --unix-socket /run/ingest-api/ingest-api.sock"
        " -H 'X-Sendfile-Type: X-Accel-Redirect'"
        f" -H 'Authorization: Bearer {token}' http://localhost{path}"
    )
    assert "x-accel-redirect" in site.machine.shell(asked).lower()  # nginx sends the file itself
    assert site.ask("/_recordings/audio").status == 404


def test_the_internal_api_is_closed_to_other_addresses(site: Site) -> None:
    path, token = (
        f"/api/v1/internal/chunks/{site.upload()['chunk_id']}",
        site.setting("INTERNAL_TOKEN"),
    )
    assert site.ask(path, token=token).status == 200
    assert site.ask(path, token=token, source=STRANGER).status == 403
    assert site.ask("/health", source=STRANGER).status == 200


def test_systemd_has_nothing_to_say_about_the_units(site: Site) -> None:
    verify = f"cd /etc/systemd/system; systemd-analyze verify {UNITS} 2>&1"
    assert site.machine.shell(verify, check=False) == ""


def test_every_service_is_hardened(site: Site) -> None:
    for unit in site.machine.shell("cd /etc/systemd/system; ls -d ingest-*.service").split():
        for which in (unit, f"--offline=true /etc/systemd/system/{unit}"):
            analyze = f"systemd-analyze security --no-pager {which} 2>&1"
            said = site.machine.shell(analyze, check=False)
            found = re.search(r"Overall exposure level for \S+ ([0-9.]+)", said)
            assert found and float(found[1]) <= EXPOSURE, f"{unit}: {said[-300:]}"


def test_the_service_may_open_enough_files(site: Site) -> None:
    limit = site.machine.shell(
        "grep 'open files' /proc/$(systemctl show -P MainPID ingest-api)/limits"
    )
    here = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert int(limit.split()[3]) == min(DESCRIPTORS, here)


@pytest.mark.parametrize("unit", TIMED)
def test_a_timer_starts_what_can_be_done(site: Site, unit: str) -> None:
    assert f"{unit}.timer" in site.machine.shell("systemctl list-timers --no-legend 'ingest-*'")
    started = site.machine.run("systemctl", "start", unit, check=False)
    assert started.returncode == 0, site.machine.shell(f"journalctl -q -u {unit} -n 30")


def _kill_master(site: Site) -> None:
    site.machine.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", "ingest-api")
    time.sleep(1)  # its server processes go on answering for a moment


def _stop_and_start(site: Site) -> None:
    site.machine.run("systemctl", "stop", "ingest-api.socket", "ingest-api.service")
    time.sleep(3)
    site.machine.run("systemctl", "start", "ingest-api.socket", "ingest-api.service")


def _cut_the_power(site: Site) -> None:
    site.machine.power_cut()
    site.machine.boot()


def _reboot(site: Site) -> None:
    site.machine.reboot()


@pytest.mark.parametrize("strike", [_kill_master, _stop_and_start, _cut_the_power, _reboot])
def test_the_service_comes_back_by_itself_and_nothing_is_lost(
    site: Site, strike: Callable[[Site], None]
) -> None:
    with site.uploading(rate=40) as load:
        time.sleep(4)
        strike(site)
        site.wait_until_healthy()
        time.sleep(4)
    print(f"silent for {load.ledger.longest_silence:.1f} s, {dict(load.ledger.failures)}")
    site.assert_nothing_lost()
