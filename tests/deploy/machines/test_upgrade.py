"""Devices upload while newer versions are installed: those that work, and those that must not be
let in. No upload fails in any of it."""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from machines.checkout import (
    BROKEN,
    Broken,
    add_migration,
    copy_version_before,
    die_under_systemd,
    set_version,
)
from machines.site import SOURCE, Boot, Site

BEFORE = f"{SOURCE}-before"
ALLOWS = "ALLOW_NEWER_SCHEMA=true"  # lets a version serve on a schema that is newer
SETTINGS = "/etc/ingest-api/ingest-api.env"
FAILED = "of_a_version_that_failed"


@pytest.fixture(scope="module")
def site(boot: Boot) -> Site:
    """A machine with the version before, and this checkout beside it."""
    site = boot()
    print("upgrading from", copy_version_before(site.outside(BEFORE)))
    site.install("--with-redis", source=BEFORE)
    site.machine.shell("useradd --groups ingest asr")  # a worker, as that version's guide has it
    site.bring_checkout()
    return site


@contextmanager
def _no_upload_fails(site: Site) -> Iterator[None]:
    """Upload before, during and after it."""
    with site.uploading(rate=10) as load:
        time.sleep(2)
        yield
        time.sleep(2)
    assert load.ledger.failures == {}


def _variant(site: Site, name: str) -> tuple[str, Path]:
    """Copy this checkout on the machine: its folder there, and as seen from here."""
    folder = f"{SOURCE}-{name.replace(' ', '-')}"
    shutil.copytree(site.outside(SOURCE), site.outside(folder))
    return folder, site.outside(folder)


def _refused(site: Site, folder: str, must_say: str) -> None:
    """Install a version in vain: the one that serves goes on."""
    serving = site.serving_release()
    with _no_upload_fails(site):
        done = site.install(source=folder, check=False)
    said = f"{done.stdout}{done.stderr}"
    assert (done.returncode, bool(re.search(must_say, said))) == (1, True), said
    assert site.serving_release() == serving


def test_the_version_before_comes_back_when_the_new_one_dies(site: Site) -> None:
    folder, checkout = _variant(site, "dies at first")
    die_under_systemd(checkout)
    _refused(site, folder, "it dies under systemd")


def _nginx_since(site: Site) -> str:
    return site.machine.shell("systemctl show --property=ActiveEnterTimestampMonotonic nginx")


def _can_read(site: Site, user: str, *files: str) -> bool:
    done = [site.machine.run("runuser", "-u", user, "cat", it, check=False) for it in files]
    return all(it.returncode == 0 for it in done)


def test_the_upgrade_from_the_version_before_loses_no_upload(site: Site) -> None:
    before = site.serving_release()
    audio = "/var/lib/ingest_api/audio"
    recording = f"{audio}/{site.upload()['stored_path']}"
    nginx = _nginx_since(site)
    with _no_upload_fails(site):
        site.install()
    assert _nginx_since(site) == nginx  # it was not restarted: that refuses connections
    later = f"{audio}/{site.upload()['stored_path']}"
    for user in ("www-data", "asr"):
        assert _can_read(site, user, recording, later)
        assert not _can_read(site, user, SETTINGS)
    assert site.serving_release() != before
    assert ALLOWS not in site.settings.read_text()
    # What the version before accepted, also while the database was migrated, is not there yet.
    assert site.ingest("coverage", "--rebuild").returncode == 0
    site.assert_nothing_lost()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_version_is_not_let_in(site: Site, name: str) -> None:
    broken: Broken = BROKEN[name]
    folder, checkout = _variant(site, name)
    if broken.migrates:
        add_migration(checkout, FAILED)
    broken.spoil(checkout)
    _refused(site, folder, broken.must_say)
    # The schema only goes forward: the version that serves must be allowed to go on.
    assert (ALLOWS in site.settings.read_text().splitlines()) is broken.migrates


def test_a_wrong_setting_is_refused(site: Site) -> None:
    folder, checkout = _variant(site, "same")
    set_version(checkout, "9.9.9")
    right = site.settings.read_text()
    site.settings.write_text(f"{right}WORKERS=lots\n")
    try:
        _refused(site, folder, "WORKERS")
    finally:
        site.settings.write_text(right)


def test_after_failed_upgrades_a_restart_and_a_reboot_lose_nothing(site: Site) -> None:
    serving = site.serving_release()
    with _no_upload_fails(site):
        site.machine.run("systemctl", "restart", "ingest-api")
    site.machine.reboot()
    assert site.serving_release() == serving
    site.assert_nothing_lost()


def test_the_next_version_that_works_is_let_in(site: Site) -> None:
    migrated = list(site.outside("/srv").glob(f"*/sql/migrations/*_{FAILED}.sql"))
    folder, checkout = _variant(site, "next")
    for migration in migrated:
        shutil.copy(migration, checkout / "sql/migrations")  # so that it knows the schema
    set_version(checkout, "9.9.9")
    with _no_upload_fails(site):
        site.install(source=folder)
    site.serving_release()
    assert site.version() == "9.9.9"
    assert ALLOWS not in site.settings.read_text()
    site.assert_nothing_lost()
