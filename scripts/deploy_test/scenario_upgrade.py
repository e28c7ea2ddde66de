"""Newer versions are installed over the one that serves, while recorders upload: one that works,
and those that must not be let in."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy_test.checkout import BROKEN, Broken, add_migration, set_version
from deploy_test.lab import Lab
from deploy_test.report import Step, require
from deploy_test.site import SOURCE, Site

NEWER = f"{SOURCE}-newer"
RATE = 10.0
AFTER_SECONDS = 2
ALLOWS = "ALLOW_NEWER_SCHEMA=true"  # what lets a version serve on a schema that is ahead of it


def upgrade(lab: Lab) -> None:
    """a newer version under load loses no upload; five broken ones are not let in"""
    site = lab.installed_site()
    before = site.release()
    _to_newer(lab, site, before)
    serving = site.release()
    for number, broken in enumerate(BROKEN, 2):
        with lab.report.step(f"upgrade: not to one with {broken.name}") as step:
            _refuse(lab, site, broken, f"{before}.post{number}", step)
            _require_serving(site, serving, step)
        if not step.passed and not site.is_healthy():
            return  # all that follows would only wait
    with lab.report.step("upgrade: not with a setting that is wrong") as step:
        _refuse_setting(lab, site, step)
        _require_serving(site, serving, step)
    _outlives(lab, site, serving)
    _to_one_that_works(lab, site, f"{before}.post9")


def _to_newer(lab: Lab, site: Site, before: str) -> None:
    with lab.report.step("upgrade: to a newer version with a migration, under load") as step:
        newer = site.bring_checkout(NEWER)
        set_version(newer, f"{before}.post1")
        add_migration(newer, "of_a_newer_version")
        with _no_upload_fails(lab, step):
            site.install(source=NEWER)
        _require_serving(site, f"{before}.post1", step)


def _to_one_that_works(lab: Lab, site: Site, version: str) -> None:
    with lab.report.step("upgrade: after all of that, to one that works") as step:
        _mend(site, version)
        with _no_upload_fails(lab, step):
            site.install(source=NEWER)
        _require_serving(site, version, step)
        require(not _allows_newer_schema(site), f"what failed upgrades left is there: {ALLOWS}")
        step.saw(f"{ALLOWS} is gone")


def _refuse(lab: Lab, site: Site, broken: Broken, version: str, step: Step) -> None:
    """Install it, and hear why not; the service goes on."""
    broken.spoil(_variant(site, version))
    with _no_upload_fails(lab, step):
        said = _install_in_vain(site, version)
    why = [line for line in said.splitlines() if re.search(broken.must_say, line)]
    require(why, f"install does not say why: {said[-1500:]}")
    step.saw(f"exit 1: {why[-1][:200]}")
    if broken.migrates:
        require(_allows_newer_schema(site), f"{ALLOWS} is not in the settings")
        step.saw(ALLOWS)
    else:
        require(not _allows_newer_schema(site), f"{ALLOWS} is in the settings")


def _allows_newer_schema(site: Site) -> bool:
    return ALLOWS in site.settings.read_text().splitlines()


def _refuse_setting(lab: Lab, site: Site, step: Step) -> None:
    settings, version = site.settings, "9.9.9"
    _variant(site, version)
    right = settings.read_text()
    settings.write_text(f"{right}WORKERS=lots\n")
    try:
        with _no_upload_fails(lab, step):
            said = _install_in_vain(site, version)
    finally:
        settings.write_text(right)
    require("WORKERS" in said, f"install does not say why: {said[-1500:]}")
    step.saw("exit 1, and WORKERS is named")


def _variant(site: Site, version: str) -> Path:
    """A checkout on the machine that is as the newer one, but for its version."""
    checkout = (site.root / NEWER.lstrip("/")).with_name(_name(version))
    shutil.copytree(site.root / NEWER.lstrip("/"), checkout)
    set_version(checkout, version)
    return checkout


def _name(version: str) -> str:
    return f"variant-{version}"


def _install_in_vain(site: Site, version: str) -> str:
    """What install says."""
    done = site.install(source=f"/srv/{_name(version)}", check=False)
    said = f"{done.stdout}{done.stderr}"
    require(done.returncode == 1, f"install exits {done.returncode}: {said[-1500:]}")
    return said


def _outlives(lab: Lab, site: Site, serving: str) -> None:
    with lab.report.step("upgrade: the old version after systemctl restart, under load") as step:
        with _no_upload_fails(lab, step):
            site.machine.run("systemctl", "restart", "ingest-api")
        _require_serving(site, serving, step)
    with lab.report.step("upgrade: the old version after a reboot") as step:
        site.machine.reboot()
        site.wait_until_healthy()
        _require_serving(site, serving, step)
        lab.evidence.require_all(site, step)


def _mend(site: Site, version: str) -> None:
    """The next version knows what the failed ones have migrated."""
    newer = site.root / NEWER.lstrip("/")
    for migration in newer.parent.glob("variant-*/sql/migrations/*_of_a_version_that_failed.sql"):
        shutil.copy(migration, newer / "sql/migrations")
    set_version(newer, version)


@contextmanager
def _no_upload_fails(lab: Lab, step: Step) -> Iterator[None]:
    """Recorders upload before, while and after it happens."""
    fleet = lab.fleet(rate=RATE)
    with fleet.uploading():
        time.sleep(AFTER_SECONDS)
        yield
        time.sleep(AFTER_SECONDS)
    step.saw(fleet.told())
    require(not fleet.failed, f"{fleet.failed} uploads failed: {dict(fleet.tally.failures)}")
    fleet.require_all_accepted()


def _require_serving(site: Site, version: str, step: Step) -> None:
    """By what `current` leads to, and by what runs."""
    site.wait_until_healthy()
    require(site.release() == version, f"current is {site.release()}, and should be {version}")
    # By the libraries that gunicorn has mapped: their paths are the real ones.
    runs = site.machine.shell(
        "grep -o 'releases/[^/]*' /proc/$(systemctl show -P MainPID ingest-api)/maps | sort -u"
    )
    release = site.machine.shell("readlink /opt/ingest-api/current")
    require(runs == release, f"{runs} runs, and {release} should")
    step.saw(f"{version} serves")
