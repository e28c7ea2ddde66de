"""A backup of one PostgreSQL, restored on another with other roles: only what is the service's."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from lab.postgres import LocalPostgres
from support.backups import PROGRAMS, ingest, make_backup, prepared
from support.databases import FORGETFUL
from support.recorder import Recorder
from support.service import Service

from ingest_api.backups.archive import read_entries, selections

pytestmark = pytest.mark.slow

GUIDE = """
CREATE ROLE asr LOGIN;
GRANT SELECT, UPDATE (status, error_message) ON audio_chunks TO asr;
GRANT SELECT ON pruned_chunks TO asr;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO asr;
CREATE SCHEMA asr AUTHORIZATION asr;
CREATE POLICY all_of_it ON devices TO asr USING (true);
CREATE TABLE notes (note text); INSERT INTO notes VALUES ('ours');
SET ROLE asr;
CREATE TABLE asr."Tran.scripts $" (id serial PRIMARY KEY, chunk_id uuid, text text);
CREATE MATERIALIZED VIEW asr.summary AS SELECT 1 AS one;
RESET ROLE;
CREATE EXTENSION postgres_fdw;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;
CREATE FOREIGN TABLE asr.far (one integer) SERVER elsewhere;
ALTER FOREIGN TABLE asr.far OWNER TO asr;
SELECT lo_create(0);
"""


@pytest.fixture(scope="module")
def old(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., str]
) -> Iterator[LocalPostgres]:
    """A server that belongs to this module, because roles belong to a server."""
    with LocalPostgres(tmp_path_factory.mktemp("old"), settings=FORGETFUL) as server:
        yield server


@pytest.fixture
def site(old: LocalPostgres, tmp_path: Path) -> Iterator[tuple[Service, Recorder]]:
    """A service whose role owns its database and is no superuser, beside a worker's own tables."""
    with psycopg.connect(old.url("postgres"), autocommit=True) as connection:
        connection.execute("CREATE ROLE service LOGIN")
        connection.execute("CREATE DATABASE site OWNER service")
    url = old.url("site").replace("user=ingest", "user=service")
    service = Service(tmp_path / "old", url)
    assert ingest(service, "migrate").returncode == 0
    service.start()
    try:
        recorder = service.recorder()
        for number in range(3):
            assert service.upload(recorder, b"chunk %d" % number).status_code == 200
        with psycopg.connect(old.url("site"), autocommit=True) as connection:
            for statement in filter(str.strip, GUIDE.split(";")):
                connection.execute(statement)
            connection.execute("ALTER TABLE notes OWNER TO service")
        yield service, recorder
    finally:
        assert service.stop() == 0


@pytest.fixture
def fresh(postgres: LocalPostgres, tmp_path: Path) -> Service:
    """Another machine: neither of the roles `asr` and `service` exists there."""
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS restored")
        connection.execute("DROP ROLE IF EXISTS other")
        connection.execute("CREATE ROLE other LOGIN")
        connection.execute("CREATE DATABASE restored OWNER other TEMPLATE template0")
    fresh = Service(tmp_path / "new", postgres.url("restored").replace("=ingest", "=other"))
    fresh.storage.mkdir(parents=True)
    return fresh


def test_a_backup_beside_other_roles_tables_is_restored_where_no_role_exists(
    site: tuple[Service, Recorder], fresh: Service, tmp_path: Path
) -> None:
    service, recorder = site
    folder = prepared(tmp_path / "backups", service)
    broken = make_backup(service, folder)["path"]
    (broken / "backup.json").unlink()
    told = make_backup(service, folder)
    assert '"asr"."Tran.scripts $"' in told["left_out"]
    assert '"asr"."far"' in told["left_out"]
    assert "left out, because this role may not read them" in told["stderr"]
    result = ingest(fresh, "restore", told["path"], "--json")
    assert result.returncode == 0, result.stderr
    restored = json.loads(result.stdout)
    assert "GRANT SELECT ON TABLE public.audio_chunks TO asr;" in restored["grants"]
    assert "GRANT UPDATE(status) ON TABLE public.audio_chunks TO asr;" in restored["grants"]
    assert any(grant.startswith("ALTER DEFAULT PRIVILEGES") for grant in restored["grants"])
    assert "POLICY public devices all_of_it" in restored["left_out"]
    assert len(fresh.rows(recorder)) == 3
    with fresh.connect() as connection:
        assert connection.execute("SELECT note FROM notes").fetchone() == ("ours",)
    assert ingest(fresh, "migrate").returncode == 0
    assert ingest(fresh, "fsck", "--checksums").returncode == 0


def test_the_essential_entries_are_the_whole_schema(
    new_database: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(PROGRAMS), prepend=":")
    dump = tmp_path / "dump"
    subprocess.run(
        [PROGRAMS / "pg_dump", "--format=custom", f"--file={dump}", new_database()], check=True
    )
    everything, owned, essential = selections(read_entries(dump))
    assert everything == owned == essential
    assert len(everything) > 40
