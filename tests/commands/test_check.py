"""`ingest-api --check`: would it start? For systemd, before a start and before a reload."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from support.service import ADMIN_TOKEN, clean_environ

from ingest_api.database import migrations

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/nothing"


def _check(tmp_path: Path, database_url: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ingest_api", "--check"],
        env=clean_environ(DATABASE_URL=database_url, **{"ADMIN_TOKEN": ADMIN_TOKEN} | settings),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_it_says_yes(tmp_path: Path, database_url: str) -> None:
    result = _check(tmp_path, database_url)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "This version would start.\n"


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"PORT": "http"}, "PORT: "), ({"ADMIN_TOKEN": ""}, "ADMIN_TOKEN: the published default")],
)
def test_a_setting_that_must_be_changed_is_named(
    tmp_path: Path, database_url: str, setting: dict[str, str], message: str
) -> None:
    result = _check(tmp_path, database_url, **setting)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_schema_that_is_behind_has_a_status_of_its_own(tmp_path: Path, database_url: str) -> None:
    newest = migrations.available()[-1]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM schema_migrations WHERE version = %s", [newest.version])
    result = _check(tmp_path, database_url)
    assert result.returncode == 3
    assert f"is behind: {newest.name} is not applied" in result.stderr


def test_a_schema_that_is_ahead_is_refused_unless_it_is_allowed(
    tmp_path: Path, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (9999, '9999_later', 'x')")
    assert _check(tmp_path, database_url).returncode == 1
    allowed = _check(tmp_path, database_url, ALLOW_NEWER_SCHEMA="true")
    assert allowed.returncode == 0
    assert "is ahead" in allowed.stderr


def test_a_database_that_is_away_is_no_reason_not_to_start(tmp_path: Path) -> None:
    result = _check(tmp_path, NO_DATABASE)
    assert result.returncode == 0
    assert "starting without a database" in result.stderr


def test_the_version_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ingest_api", "--version"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert result.returncode == 0
    assert result.stdout.startswith("ingest-api ")
