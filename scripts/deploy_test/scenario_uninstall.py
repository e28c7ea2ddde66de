"""The service is removed, with and without what it has received."""

from __future__ import annotations

from deploy_test.lab import Lab
from deploy_test.report import Step, require
from deploy_test.scenario_upload import send_one
from deploy_test.site import BACKUPS, SOURCE, Site

# What must be gone in either case.
_LEFT = (
    "cd /; ls -d opt/ingest-api etc/systemd/system/ingest-* etc/systemd/system/*/ingest-api*"
    " etc/nginx/sites-*/ingest-api* usr/local/bin/ingest 2>/dev/null || true"
)
_DATABASES = "cd / && runuser -u postgres -- psql -Atc 'SELECT datname FROM pg_database'"


def uninstall(lab: Lab) -> None:
    """the data stays; install finds it again; --purge-data removes it"""
    site = lab.installed_site()
    with lab.report.step("uninstall: the service goes, the data stays") as step:
        send_one(lab, site, site.add_device(), number=2)
        site.machine.run(f"{SOURCE}/deploy/uninstall")
        _require_gone(site, step)
        verdict = lab.evidence.judge(site)
        require(verdict.holds, f"data is gone: {verdict}")
        step.saw(f"{verdict.acknowledged} acknowledged chunks are still there")
    with lab.report.step("uninstall: install finds the data again") as step:
        site.install("--with-redis")
        lab.evidence.require_all(site, step)
        send_one(lab, site, site.add_device(), number=3)
    with lab.report.step("uninstall: --purge-data removes it") as step:
        site.machine.run(f"{SOURCE}/deploy/uninstall", "--purge-data", "--yes")
        _require_gone(site, step)
        databases = site.machine.shell(_DATABASES).split()
        require("ingest" not in databases, f"databases: {databases}")
        for folder in ("var/lib/ingest_api", "etc/ingest-api"):
            require(not (site.root / folder).exists(), f"/{folder} is still there")
        people = site.machine.shell("getent passwd ingest; getent group ingest", check=False)
        require(not people, f"still there: {people}")
        require((site.root / BACKUPS.lstrip("/")).is_dir(), "the backups are gone as well")
        step.saw("database, recordings, settings and user are gone, backups stay")


def _require_gone(site: Site, step: Step) -> None:
    left = site.machine.shell(_LEFT)
    require(not left, f"still there: {left}")
    known = site.machine.shell("systemctl list-units --no-legend --plain --all 'ingest-*'")
    # (It may remember, for a while, names of units that are inactive and have no file.)
    running = [
        line for line in known.splitlines() if "not-found inactive" not in " ".join(line.split())
    ]
    require(not running, f"systemd still has: {running}")
    require(not site.is_healthy(), "something still answers")
    step.saw("units, nginx site and releases are gone")
