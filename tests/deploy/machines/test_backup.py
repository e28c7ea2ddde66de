"""A backup is made while devices upload, carried to a second machine, and restored there."""

import hashlib
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from machines.site import BACKUPS, SOURCE, Boot, Site

Listed = dict[str, tuple[int, str]]
"""Size and SHA-256 of each file, by path."""

WORKERS = """
CREATE ROLE asr LOGIN;
GRANT SELECT, UPDATE (status, processing_started_at, error_message) ON audio_chunks TO asr;
CREATE SCHEMA asr AUTHORIZATION asr;
CREATE TABLE asr.transcripts (chunk_id uuid PRIMARY KEY, text text);
ALTER TABLE asr.transcripts OWNER TO asr;
"""
"""A worker as the guide has it, with a table of its own; its role is not on the second machine."""


def _damage_the_oldest(site: Site) -> None:
    """The first of two backups loses its summary; a third is made beside it."""
    oldest = min(path.parent for path in site.outside(BACKUPS).glob("*Z/backup.json"))
    (oldest / "backup.json").unlink()
    site.machine.run("systemctl", "start", "ingest-api-backup.service")


@pytest.fixture(scope="module")
def second(boot: Boot) -> Site:
    """A second machine with a backup of the first, which was loaded when it was made."""
    first = boot()
    first.bring_checkout()
    first.install()
    with first.uploading(rate=40) as load:
        time.sleep(4)
        before = dict(load.ledger.receipts)
        first.machine.run("systemctl", "start", "ingest-api-backup.service")
    assert load.ledger.failures == {}
    first.assert_nothing_lost()
    first.machine.shell(f"cd / && runuser -u postgres -- psql -qc '{WORKERS}' ingest")
    first.machine.run("systemctl", "start", "ingest-api-backup.service")
    _damage_the_oldest(first)
    second = boot()
    second.bring_checkout()
    second.install()
    # What was acknowledged before the backup began is in it; the rest may be.
    second.ledger = first.ledger.as_of(before)
    shutil.rmtree(second.outside(BACKUPS), ignore_errors=True)
    shutil.copytree(first.outside(BACKUPS), second.outside(BACKUPS))
    second.machine.run("chown", "-R", "ingest:", BACKUPS)  # as the guide has it
    return second


def _latest(site: Site) -> Path:
    return max(path.parent for path in site.outside(BACKUPS).glob("*Z/backup.json"))


def _listed(site: Site) -> Listed:
    lines = (line.split("\t") for line in (_latest(site) / "files").read_text().splitlines())
    return {path: (int(size), sha256) for path, size, sha256 in lines}


def _restore(site: Site, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    folder = f"{BACKUPS}/{_latest(site).name}"
    return site.machine.run(f"{SOURCE}/deploy/restore", "--yes", *options, folder, check=check)


def _query(site: Site, query: str, database: str = "ingest") -> list[Any]:
    with psycopg.connect(site.database_url, dbname=database) as connection:
        return connection.execute(query).fetchall()


def _databases(site: Site) -> list[str]:
    return [name for (name,) in _query(site, "SELECT datname FROM pg_database ORDER BY datname")]


def _devices(site: Site, database: str = "ingest") -> list[Any]:
    return _query(site, "SELECT device_id FROM devices ORDER BY device_id", database)


def _assert_as_listed(site: Site) -> None:
    listed = _listed(site)
    assert len(listed) > 40
    query = "SELECT file_path, file_size_bytes, encode(sha256, 'hex') FROM audio_chunks"
    assert {path: (size, sha256) for path, size, sha256 in _query(site, query)} == listed
    files = [path for path in site.storage.glob("audio/**/*") if path.is_file()]
    contents = {str(path.relative_to(site.storage)): path.read_bytes() for path in files}
    assert listed == {
        path: (len(content), hashlib.sha256(content).hexdigest())
        for path, content in contents.items()
    }


def test_a_backup_under_load_is_restored_on_a_second_machine(second: Site) -> None:
    told = _restore(second).stdout
    assert "GRANT SELECT ON TABLE public.audio_chunks TO asr;" in told
    assert "Tokens, and which devices are disabled, are as of" in told
    assert _query(second, "SELECT rolname FROM pg_roles WHERE rolname = 'asr'") == []
    second.wait_until_healthy()
    _assert_as_listed(second)
    second.assert_nothing_lost()


def _assert_refused(site: Site, *options: str) -> None:
    def state() -> tuple[object, ...]:
        chunks = _query(site, "SELECT count(*) FROM audio_chunks")
        return site.settings.read_text(), _databases(site), _devices(site), chunks

    before = state()
    done = _restore(site, *options, check=False)
    assert done.returncode == 1, done
    site.wait_until_healthy()
    assert state() == before


def test_chunks_and_devices_are_replaced_only_when_told(second: Site) -> None:
    _assert_refused(second)
    second.machine.shell("cd / && runuser -u postgres -- psql -qc 'TRUNCATE audio_chunks' ingest")
    second.add_device()
    _assert_refused(second)


def test_a_damaged_backup_leaves_all_as_it_was(second: Site) -> None:
    dump = _latest(second) / "database.dump"
    whole = dump.read_bytes()
    dump.write_bytes(whole[: len(whole) // 2] + b"damaged" + whole[len(whole) // 2 :])
    try:
        _assert_refused(second, "--replace", "--with-settings")
    finally:
        dump.write_bytes(whole)


def test_replacing_keeps_the_database_of_before(second: Site) -> None:
    devices, token = _devices(second), second.setting("ADMIN_TOKEN")
    _restore(second, "--replace", "--with-settings")
    [kept] = [name for name in _databases(second) if name.startswith("ingest_before_")]
    assert _devices(second, kept) == devices
    assert second.setting("ADMIN_TOKEN") != token
    settings = (_latest(second) / "settings.env").read_text().splitlines()
    assert f"ADMIN_TOKEN={second.setting('ADMIN_TOKEN')}" in settings
    second.wait_until_healthy()
    _assert_as_listed(second)


def test_the_second_machine_takes_uploads(second: Site) -> None:
    second.upload()
    second.assert_nothing_lost()
