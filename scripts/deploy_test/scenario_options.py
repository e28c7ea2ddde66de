"""Installed without nginx, and with a PostgreSQL that is its operator's."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from deploy_test.checkout import set_version
from deploy_test.lab import Lab
from deploy_test.report import require
from deploy_test.site import BACKUPS, INNER, SOURCE, Site

NEWER = f"{SOURCE}-newer"
# As its operator would: a role with a password, and an empty database of its own.
_POSTGRES = """\
export DEBIAN_FRONTEND=noninteractive
read -r password
apt-get update >/dev/null
apt-get install --yes --no-install-recommends postgresql >/dev/null
systemctl start postgresql
cd /
runuser -u postgres -- psql -qc "CREATE ROLE ingest LOGIN PASSWORD '$password'"
runuser -u postgres -- createdb --owner=ingest --template=template0 --encoding=UTF8 ingest
"""
_INSTALL = (
    "read -r DATABASE_URL; export DATABASE_URL;"
    f" exec {SOURCE}/deploy/install --no-nginx --no-postgres --backup-dir {BACKUPS}"
)
_DATABASES = (
    "pg_lsclusters --no-header; cd /; runuser -u postgres -- psql -Atc"
    " 'SELECT datname FROM pg_database UNION SELECT rolname FROM pg_roles ORDER BY 1'"
)
_PACKAGES = "dpkg-query --show --showformat='${Package}\\n'"


def options(lab: Lab) -> None:
    """--no-nginx --no-postgres: neither comes, not with an upgrade either; no password is seen"""
    site, password = lab.fresh_site(), token_hex(12)
    with lab.report.step("options: --no-nginx --no-postgres, with a DATABASE_URL") as step:
        site.machine.run("bash", "-euo", "pipefail", "-c", _POSTGRES, given=f"{password}\n")
        databases = site.machine.shell(_DATABASES)
        with _seen_in_process_list(password) as seen:
            url = f"postgresql://ingest:{password}@127.0.0.1/ingest"
            site.machine.run("bash", "-c", _INSTALL, given=f"{url}\n")
            site.machine.run("systemctl", "start", "ingest-api-backup.service")
        step.saw(f"{seen['looks']} looks at the process list")
        require(not seen["hits"], "the password is in the process list")
        _require_alone(site, databases)
        step.saw("http://127.0.0.1:8000/health 200, no nginx, a backup, no password to see")
    with lab.report.step("options: the upgrade, deploy/install alone, remembers them") as step:
        packages, version = site.machine.shell(_PACKAGES), f"{site.release()}.post1"
        set_version(site.bring_checkout(NEWER), version)
        site.machine.run(f"{NEWER}/deploy/install")
        _require_alone(site, databases)
        require(site.release() == version, f"current is {site.release()}")
        require(site.machine.shell(_PACKAGES) == packages, "it installed packages")
        step.saw(f"{version} serves; the same packages, databases and roles")
    lab.leave_site()  # the next scenario would look for nginx there


def _require_alone(site: Site, databases: str) -> None:
    answer = site.ask("/health", address=INNER)
    require(answer.status == 200, f"/health says {answer.status} {answer.body!r}")
    unwanted = {"nginx", "redis-server"} & set(site.machine.shell(_PACKAGES).split())
    require(not unwanted, f"was installed: {unwanted}")
    found = site.machine.shell(_DATABASES)
    require(found == databases, f"PostgreSQL has {found}, and had {databases}")


@contextmanager
def _seen_in_process_list(secret: str) -> Iterator[dict[str, int]]:
    """How often it was looked for there, and found. (What ends between two looks is not seen.)"""
    seen, done = {"looks": 0, "hits": 0}, threading.Event()

    def look() -> None:
        while not done.is_set():
            seen["looks"] += 1
            seen["hits"] += sum(secret.encode() in line for line in _command_lines())
            time.sleep(0.01)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def _command_lines() -> Iterator[bytes]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield (process / "cmdline").read_bytes()
