"""A backup is made while recorders upload, carried to a second machine, and restored there."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

from deploy_test.evidence import Evidence
from deploy_test.lab import Lab
from deploy_test.report import Step, require
from deploy_test.scenario_upload import send_one
from deploy_test.site import BACKUPS, SOURCE, Site

BEFORE_SECONDS = 4


def backup(lab: Lab) -> None:
    """a backup under load; restored on a second machine: the rows and files of its moment"""
    site = lab.installed_site()
    with lab.report.step("backup: while 20 recorders upload") as step:
        known = _back_up(lab, site, step)
        made = _latest(site)
        step.saw(f"{made.name}, {len(_listed(made))} files, {len(known.acknowledged())} before it")
    if not step.passed:
        return
    second = lab.fresh_site()
    lab.evidence = Evidence()
    if _restore(lab, site, second):
        lab.evidence = known
        _look_at_it(lab, second)
        _refuses(lab, second)
        _replaces(lab, second)
        _takes_uploads(lab, second)


def _restore(lab: Lab, first: Site, second: Site) -> bool:
    """Whether it could be done."""
    with lab.report.step("backup: carried to a second machine, and restored there") as step:
        # With the version that made it: an older one does not know its schema.
        shutil.rmtree(second.root / SOURCE.lstrip("/"))
        shutil.copytree(first.root / first.source.lstrip("/"), second.root / SOURCE.lstrip("/"))
        second.install("--with-redis")
        second.let_root_look()
        _carry(first, second)
        second.machine.run("chown", "-R", "ingest:", BACKUPS)  # as the guide has it
        said = _put_back(second).stdout
        step.saw(*(line for line in said.splitlines() if line.startswith("restored ")))
        second.wait_until_healthy()
    return step.passed


def _look_at_it(lab: Lab, site: Site) -> None:
    with lab.report.step("backup: what was restored is what the backup lists") as step:
        _require_restored(site, _listed(_latest(site)), step)
        lab.evidence.require_all(site, step)


def _refuses(lab: Lab, site: Site) -> None:
    with lab.report.step("backup: restored over chunks, or devices, only with --replace") as step:
        _require_refused(site, step)
        with psycopg.connect(site.database_url) as connection:
            connection.execute("TRUNCATE audio_chunks CASCADE")
        site.add_device()
        _require_refused(site, step)
    with lab.report.step("backup: a damaged one leaves all as it was") as step:
        dump = _latest(site) / "database.dump"
        whole = dump.read_bytes()
        dump.write_bytes(whole[: len(whole) // 2] + b"damaged" + whole[len(whole) // 2 :])
        try:
            _require_refused(site, step, "--replace", "--with-settings")
        finally:
            dump.write_bytes(whole)


def _replaces(lab: Lab, site: Site) -> None:
    name = "backup: --replace keeps the database, --with-settings takes those of the backup"
    with lab.report.step(name) as step:
        before, token = _state(site), site.setting("ADMIN_TOKEN")
        _put_back(site, "--replace", "--with-settings")
        kept = [name for name in _databases(site) if name.startswith("ingest_before_")]
        require(len(kept) == 1, f"databases: {_databases(site)}")
        require(_devices(site, kept[0]) == before.devices, f"other devices are in {kept[0]}")
        step.saw(f"{kept[0]} has the {len(before.devices)} devices of before")
        restored = f"ADMIN_TOKEN={site.setting('ADMIN_TOKEN')}"
        listed = (_latest(site) / "settings.env").read_text().splitlines()
        require(restored in listed, "the settings are not those of the backup")
        require(token != site.setting("ADMIN_TOKEN"), "both machines had the same settings")
        site.wait_until_healthy()
        _require_restored(site, _listed(_latest(site)), step)
        site.new_recorder()
        step.saw("the backup's admin token is accepted")


def _takes_uploads(lab: Lab, site: Site) -> None:
    with lab.report.step("backup: the second machine takes uploads") as step:
        told = send_one(lab, site, site.add_device(), number=1)
        lab.evidence.require_all(site, step)
        step.saw(f"200, chunk {told['chunk_id']}")


def _back_up(lab: Lab, site: Site, step: Step) -> Evidence:
    """What was acknowledged before it began, and is therefore in it."""
    fleet = lab.fleet(rate=40.0)
    with fleet.uploading():
        time.sleep(BEFORE_SECONDS)
        before = lab.evidence.acknowledged()
        started = time.monotonic()
        site.machine.run("systemctl", "start", "ingest-api-backup.service")
        step.saw(f"took {time.monotonic() - started:.1f} s")
    step.saw(fleet.told())
    require(not fleet.tally.failed, f"uploads failed: {dict(fleet.tally.failures)}")
    fleet.require_all_accepted()
    lab.evidence.require_all(site, step)
    return lab.evidence.at(before)


def _put_back(site: Site, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    folder = f"{BACKUPS}/{_latest(site).name}"
    return site.machine.run(f"{SOURCE}/deploy/restore", "--yes", *options, folder, check=check)


def _require_refused(site: Site, step: Step, *options: str) -> None:
    before = _state(site)
    done = _put_back(site, *options, check=False)
    said = f"{done.stdout}{done.stderr}".strip()
    require(done.returncode == 1, f"{options} exits {done.returncode}: {said[-1000:]}")
    site.wait_until_healthy()
    require(_state(site) == before, f"{options}: databases or settings are others: {said[-1000:]}")
    step.saw(f"exit 1: {said.splitlines()[-1]}")


@dataclass(frozen=True)
class _State:
    """What a restore that is refused must leave as it was."""

    settings: str
    databases: list[str]
    devices: set[str]
    chunks: int


def _state(site: Site) -> _State:
    with psycopg.connect(site.database_url) as connection:
        chunks = connection.execute("SELECT count(*) FROM audio_chunks").fetchone()
    return _State(
        site.settings.read_text(), _databases(site), _devices(site), chunks[0] if chunks else 0
    )


def _databases(site: Site) -> list[str]:
    with psycopg.connect(site.database_url) as connection:
        rows = connection.execute("SELECT datname FROM pg_database ORDER BY datname").fetchall()
    return [name for (name,) in rows]


def _devices(site: Site, database: str = "ingest") -> set[str]:
    with psycopg.connect(site.database_url, dbname=database) as connection:
        return {str(key) for (key,) in connection.execute("SELECT device_id FROM devices")}


def _latest(site: Site) -> Path:
    folder = site.root / BACKUPS.lstrip("/")
    return max(path.parent for path in folder.glob("*Z/backup.json"))


def _listed(made: Path) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of each file that is in the backup."""
    lines = (line.split("\t") for line in (made / "files").read_text().splitlines())
    return {path: (int(size), sha256) for path, size, sha256 in lines}


def _carry(first: Site, second: Site) -> None:
    """As root would with rsync: the first machine's users are not the second's."""
    target = second.root / BACKUPS.lstrip("/")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(first.root / BACKUPS.lstrip("/"), target)


def _require_restored(site: Site, listed: dict[str, tuple[int, str]], step: Step) -> None:
    with psycopg.connect(site.database_url) as connection:
        query = "SELECT file_path, file_size_bytes, encode(sha256, 'hex') FROM audio_chunks"
        rows = {path: (size, sha256) for path, size, sha256 in connection.execute(query)}
    found = {str(path.relative_to(site.storage)): path for path in site.storage.glob("audio/**/*")}
    files = {name: _size_and_sha256(path) for name, path in found.items() if path.is_file()}
    step.saw(f"{len(rows)} rows, {len(files)} files, {len(listed)} listed")
    require(listed, "the backup is empty")
    require(rows == listed, "the rows are not what the backup lists")
    require(files == listed, "the files are not what the backup lists")


def _size_and_sha256(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
