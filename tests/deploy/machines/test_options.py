"""Installed without nginx, and with a PostgreSQL that is the operator's own."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from machines.checkout import set_version
from machines.site import BACKUPS, INNER, SOURCE, Site

NEWER = f"{SOURCE}-newer"
# As an operator would: a role with a password, and an empty database of its own.
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


def test_neither_nginx_nor_postgresql_is_installed_and_no_password_is_seen(bare: Site) -> None:
    password = token_hex(12)
    bare.machine.run("bash", "-euo", "pipefail", "-c", _POSTGRES, stdin=f"{password}\n")
    databases = bare.machine.shell(_DATABASES)
    with _process_list_watched(password) as seen:
        url = f"postgresql://ingest:{password}@127.0.0.1/ingest"
        bare.machine.run("bash", "-c", _INSTALL, stdin=f"{url}\n")
        bare.machine.run("systemctl", "start", "ingest-api-backup.service")
    assert seen["looks"] > 100
    assert seen["hits"] == 0
    _assert_alone(bare, databases)


def test_the_upgrade_remembers_the_options(bare: Site) -> None:
    packages, databases = bare.machine.shell(_PACKAGES), bare.machine.shell(_DATABASES)
    set_version(bare.bring_checkout(NEWER), "9.9.9")
    bare.machine.run(f"{NEWER}/deploy/install")
    _assert_alone(bare, databases)
    assert bare.version() == "9.9.9"
    assert bare.machine.shell(_PACKAGES) == packages


def _assert_alone(site: Site, databases: str) -> None:
    assert site.ask("/health", address=INNER).status == 200
    assert not {"nginx", "redis-server"} & set(site.machine.shell(_PACKAGES).split())
    assert site.machine.shell(_DATABASES) == databases


@contextmanager
def _process_list_watched(secret: str) -> Iterator[dict[str, int]]:
    """Count the looks for a secret, and the hits. What ends between two looks is missed."""
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
