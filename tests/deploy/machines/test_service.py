"""The installed service: uploads through nginx, its units, and processes that end in mid-upload."""

import json
import os
import re
import resource
import socket
import stat
import time
from collections.abc import Callable

import pytest
from lab.recorder import Attempt, Chunk, upload_body, upload_headers
from machines.site import HTTPS, INNER, Site
from support.load import START
from support.recorder import SPEECH

STRANGER = "127.0.0.2"  # loopback, and not in internal-allow.conf
SETTINGS_FOLDER = "/etc/ingest-api"
SETTINGS = f"{SETTINGS_FOLDER}/ingest-api.env"
EXPOSURE = 1.5
DESCRIPTORS = 65536
UNITS = "ingest-*.service ingest-*.socket ingest-*.timer"
TIMED = ("ingest-api-prune", "ingest-api-fsck", "ingest-api-backup")


def test_an_upload_is_stored_for_the_service_alone(site: Site) -> None:
    answer = site.upload()
    file = site.storage / answer["stored_path"]
    assert file.read_bytes().startswith(SPEECH)
    owner = site.machine.shell(f"stat -c %U:%G '/{file.relative_to(site.root)}'")
    assert (owner, stat.S_IMODE(file.stat().st_mode)) == ("ingest:ingest-audio", 0o640)
    site.assert_nothing_lost()


@pytest.mark.parametrize("user", ["www-data", "asr"])
def test_who_may_read_recordings_learns_no_token(site: Site, user: str) -> None:
    """nginx, and a worker on this machine that was set up as the guide says."""
    site.machine.shell("id asr >/dev/null 2>&1 || useradd --groups ingest-audio asr")
    file = f"/var/lib/ingest_api/audio/{site.upload()['stored_path']}"
    as_user = ("runuser", "-u", user, "--")
    assert site.machine.run(*as_user, "cat", file).stdout
    for secret in (SETTINGS, f"{SETTINGS_FOLDER}/.env", f"{SETTINGS_FOLDER}/tls/privkey.pem"):
        refused = site.machine.run(*as_user, "cat", secret, check=False)
        assert (refused.returncode, refused.stdout) == (1, "")
    assert site.machine.run(*as_user, "touch", file, check=False).returncode == 1
    assert site.machine.shell(f"stat -c %U:%G:%a {SETTINGS}") == "ingest:ingest:400"
    assert site.machine.shell("getent group ingest | cut -d: -f4") == "ingest"


def test_the_commands_read_the_settings(site: Site) -> None:
    assert site.ingest("list-devices", "--json").returncode == 0
    checked = site.ingest("doctor", "--json", check=False).stdout
    assert ".env" in checked
    assert "others can read it" not in checked


@pytest.mark.parametrize("address", [HTTPS, INNER])
def test_a_client_that_closes_its_sending_half_gets_its_answer(
    site: Site, address: tuple[str, int]
) -> None:
    """Through nginx as from the service itself."""
    recorder = site.add_device()
    site.ledger.recorded()
    chunk = Chunk(START, SPEECH, recorder.device_id.bytes)
    body = upload_body(recorder, chunk)
    fields = upload_headers(recorder, len(body)) | {"Host": "localhost", "Connection": "close"}
    head = "\r\n".join(["POST /api/v1/chunks HTTP/1.1", *map(": ".join, fields.items()), "", ""])
    with socket.create_connection(address, 30) as connection:
        stream = site.tls.wrap_socket(connection) if address == HTTPS else connection
        stream.sendall(head.encode() + body)
        _close_sending_half(stream)
        answer = b"".join(iter(lambda: stream.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:300]
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    site.ledger.record(recorder, Attempt(chunk, 200, told))


def _close_sending_half(stream: socket.socket) -> None:
    """Send FIN below TLS, and leave its reading side as it is."""
    raw = socket.socket(fileno=os.dup(stream.fileno()))
    raw.shutdown(socket.SHUT_WR)
    raw.close()


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
