"""`flask ingest migrate`: from nothing, from the earlier service, twice, at once, and refusals."""

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import requests
from lab.postgres import LocalPostgres
from support.commands import flask_ingest, flask_ingest_process
from support.processes import eventually
from support.service import Service

from ingest_api.commands import migrate
from ingest_api.database import migrations, queries

EARLIER_SERVICE = """
CREATE TABLE devices (
    device_id UUID NOT NULL, point_id UUID NOT NULL, register_id UUID NOT NULL,
    token_hash TEXT NOT NULL, is_enabled BOOLEAN DEFAULT 'true' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    last_seen_at TIMESTAMP WITH TIME ZONE, PRIMARY KEY (device_id)
);
CREATE TABLE audio_chunks (
    chunk_id UUID NOT NULL, device_id UUID NOT NULL, point_id UUID NOT NULL,
    register_id UUID NOT NULL, start_ts TIMESTAMP WITH TIME ZONE NOT NULL,
    end_ts TIMESTAMP WITH TIME ZONE NOT NULL, duration_sec INTEGER NOT NULL,
    codec VARCHAR(32) NOT NULL, sample_rate INTEGER NOT NULL, channels INTEGER NOT NULL,
    file_path TEXT NOT NULL, file_size_bytes BIGINT NOT NULL,
    status VARCHAR(32) DEFAULT 'UPLOADED' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL, PRIMARY KEY (chunk_id),
    FOREIGN KEY (device_id) REFERENCES devices (device_id) ON DELETE CASCADE
);
CREATE INDEX ix_audio_chunks_point_start ON audio_chunks (point_id, start_ts);
CREATE INDEX ix_audio_chunks_device_start ON audio_chunks (device_id, start_ts);
CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY);
"""
ITS_LATER_PARTS = """
ALTER TABLE audio_chunks ADD COLUMN error_message TEXT;
ALTER TABLE audio_chunks ADD COLUMN processing_started_at TIMESTAMP WITH TIME ZONE;
CREATE TABLE speech_segments (
    id UUID DEFAULT gen_random_uuid() PRIMARY KEY,
    chunk_id UUID NOT NULL REFERENCES audio_chunks (chunk_id) ON DELETE CASCADE
);
"""
ITS_ROWS = """
INSERT INTO devices
    SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(),
        encode(sha256(n::text::bytea), 'hex')
    FROM generate_series(1, 10) n;
INSERT INTO audio_chunks
    SELECT gen_random_uuid(), d.device_id, d.point_id, d.register_id,
        now() - n * interval '1 minute', now() - (n - 1) * interval '1 minute', 60,
        'opus', 48000, 1, 'audio/' || n || '.ogg', 190000,
        (ARRAY['UPLOADED', 'QUEUED', 'PROCESSING', 'DONE', 'ERROR'])[1 + n % 5]
    FROM devices d, generate_series(1, 99) n;
INSERT INTO audio_chunks  -- what the earlier service let through
    SELECT gen_random_uuid(), device_id, point_id, register_id, now(), now(), 0,
        '', 0, -1, '', 0, 'TRANSCRIBED'
    FROM devices;
"""


def _execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def _schema(url: str) -> dict[str, Any]:
    """Columns, constraints and indexes of the two tables, as PostgreSQL describes them."""
    with psycopg.connect(url) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable, column_default"
            " FROM information_schema.columns"
            " WHERE table_name IN ('devices', 'audio_chunks', 'schema_migrations')"
            " ORDER BY table_name, ordinal_position"
        ).fetchall()
        constraints = connection.execute(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
            " FROM pg_constraint WHERE conrelid IN ('devices'::regclass, 'audio_chunks'::regclass)"
            " ORDER BY 1, 2"
        ).fetchall()
        indexes = connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes"
            " WHERE tablename IN ('devices', 'audio_chunks') ORDER BY 1"
        ).fetchall()
        applied = connection.execute(
            "SELECT version, name, sha256 FROM schema_migrations"
        ).fetchall()
    return {
        "columns": columns,
        "constraints": constraints,
        "indexes": indexes,
        "applied": applied,
    }


def _rows(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT chunk_id, device_id, start_ts, end_ts, codec, file_path, status"
            " FROM audio_chunks ORDER BY chunk_id"
        ).fetchall()


@pytest.fixture
def empty_url(new_database: Callable[..., str]) -> str:
    return new_database(migrated=False)


def _lines(template: str) -> list[str]:
    """One for each migration."""
    return [template.format(migration.name) for migration in migrations.available()]


def test_it_makes_the_schema_and_says_so(empty_url: str, database_url: str) -> None:
    result = flask_ingest(empty_url, "migrate")
    assert (result.returncode, result.stdout.splitlines()) == (0, _lines("applied {}"))
    again = flask_ingest(empty_url, "migrate")
    assert (again.returncode, again.stdout) == (0, "the schema is up to date\n")
    assert _schema(empty_url) == _schema(database_url)


@pytest.mark.parametrize(
    ("processes", "there"), [(4, []), (2, [EARLIER_SERVICE, ITS_ROWS])], ids=["empty", "adopted"]
)
def test_processes_at_once_apply_each_migration_once(
    empty_url: str, database_url: str, processes: int, there: list[str]
) -> None:
    _execute(empty_url, *there)
    with ThreadPoolExecutor(processes) as pool:
        runs = [pool.submit(flask_ingest_process, empty_url, "migrate") for _ in range(processes)]
        results = [run.result() for run in runs]
    assert [result.returncode for result in results] == [0] * processes, results
    assert sorted(result.stdout.splitlines() for result in results) == [
        _lines("applied {}"),
        *[["the schema is up to date"]] * (processes - 1),
    ]
    assert _schema(empty_url) == _schema(database_url)


@pytest.mark.parametrize("later_parts", [False, True])
def test_it_adopts_the_database_of_the_earlier_service(
    empty_url: str, database_url: str, start_service, later_parts: bool
) -> None:
    _execute(empty_url, EARLIER_SERVICE, *([ITS_LATER_PARTS] if later_parts else []), ITS_ROWS)
    if later_parts:  # the name depends on how it was made
        _execute(
            empty_url,
            "ALTER TABLE audio_chunks RENAME CONSTRAINT audio_chunks_device_id_fkey TO fk_device",
        )
    before = _rows(empty_url)
    assert len(before) == 1000
    assert flask_ingest(empty_url, "migrate").returncode == 0
    assert _rows(empty_url) == before
    assert _schema(empty_url) == _schema(database_url)
    _execute(empty_url, "SELECT * FROM alembic_version")
    # Its rows stay usable by its workers, odd ones too, and new uploads go beside them.
    _execute(
        empty_url,
        "UPDATE audio_chunks SET status = 'PROCESSING' WHERE status = 'QUEUED'",
        "UPDATE audio_chunks SET error_message = 'x' WHERE status = 'TRANSCRIBED'",
    )
    service = start_service(empty_url)
    recorder = service.recorder()
    assert service.upload(recorder).status_code == 200
    assert len(_rows(empty_url)) == 1001


def test_two_devices_with_one_token_are_named_as_the_reason(empty_url: str) -> None:
    _execute(empty_url, EARLIER_SERVICE, ITS_ROWS, "UPDATE devices SET token_hash = 'the same'")
    result = flask_ingest(empty_url, "migrate")
    assert result.returncode == 1
    assert "0001_initial failed and was rolled back: these devices share a token" in result.stderr
    assert "the same" not in result.stderr
    assert len(_rows(empty_url)) == 1000
    # What the message says helps, on the database as it is.
    shared = re.findall(r"[0-9a-f-]{36}", result.stderr)
    assert len(shared) == 10
    for device_id in shared[1:]:
        assert flask_ingest(empty_url, "rotate-token", device_id).returncode == 0
    assert flask_ingest(empty_url, "migrate").returncode == 0


def test_status_and_dry_run_change_nothing(empty_url: str) -> None:
    status = flask_ingest(empty_url, "migrate", "--status")
    assert (status.returncode, status.stdout.splitlines()) == (1, _lines("{}  pending"))
    dry_run = flask_ingest(empty_url, "migrate", "--dry-run")
    assert (dry_run.returncode, dry_run.stdout.splitlines()) == (0, _lines("would apply {}"))
    as_json = flask_ingest(empty_url, "migrate", "--dry-run", "--json")
    assert json.loads(as_json.stdout) == {"would_apply": _lines("{}")}
    with psycopg.connect(empty_url) as connection:
        [tables] = connection.execute(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchone()
    assert tables == 0
    applied = flask_ingest(empty_url, "migrate", "--json")
    assert json.loads(applied.stdout) == {"applied": _lines("{}")}
    status = flask_ingest(empty_url, "migrate", "--status")
    assert status.returncode == 0
    assert status.stdout.startswith("0001_initial  applied 20")
    as_json = flask_ingest(empty_url, "migrate", "--status", "--json")
    assert json.loads(as_json.stdout)["pending"] == []
    assert flask_ingest(empty_url, "migrate", "--dry-run").stdout == "the schema is up to date\n"


EDITED = "UPDATE schema_migrations SET sha256 = repeat('0', 64)"
AHEAD = "INSERT INTO schema_migrations VALUES (9999, '9999_from_the_future', 'x')"
BEHIND = "DELETE FROM schema_migrations"


@pytest.mark.parametrize(
    ("damage", "message"),
    [(EDITED, "was edited after it was applied"), (AHEAD, "is ahead: it has 9999_from_the_future")],
)
def test_it_refuses_a_history_that_is_not_its_own(
    database_url: str, damage: str, message: str
) -> None:
    _execute(database_url, damage)
    for arguments in (["migrate"], ["migrate", "--status"], ["migrate", "--dry-run"]):
        result = flask_ingest(database_url, *arguments)
        assert result.returncode == 1
        assert message in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (EDITED, "was edited after it was applied"),
        (AHEAD, "is ahead"),
        (BEHIND, "is behind: 0001_initial is not applied. Run: flask ingest migrate"),
    ],
)
def test_the_service_refuses_to_start_on_another_schema(
    tmp_path, database_url: str, damage: str, message: str
) -> None:
    _execute(database_url, damage)
    service = Service(tmp_path, database_url).start(wait=False)
    assert service.process is not None
    assert service.process.wait(20) == 1
    assert message in service.log_path.read_text()
    assert "Traceback" not in service.log_path.read_text()


def test_a_database_without_an_encoding_is_refused(postgres: LocalPostgres) -> None:
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(
            "CREATE DATABASE unencoded TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
        )
    result = flask_ingest(postgres.url("unencoded"), "migrate")
    assert result.returncode == 1
    assert "no encoding (SQL_ASCII)" in result.stderr


@pytest.mark.slow
def test_it_starts_on_a_schema_that_is_ahead_when_it_is_allowed_to(start_service) -> None:
    """To go back a version after an upgrade that failed."""
    service = start_service()
    service.stop()
    _execute(service.database_url, AHEAD)
    older = start_service(service.database_url, ALLOW_NEWER_SCHEMA="true")
    assert older.upload(older.recorder(), b"1").status_code == 200
    assert any("because of ALLOW_NEWER_SCHEMA" in line["message"] for line in older.log())
    folder = {"AUDIO_STORAGE_DIR": str(older.storage)}
    assert "is ahead" in flask_ingest(older.database_url, "fsck", **folder).stderr
    fsck = flask_ingest(older.database_url, "fsck", ALLOW_NEWER_SCHEMA="true", **folder)
    assert (fsck.returncode, fsck.stdout.count("clean")) == (0, 1)


@pytest.mark.parametrize("damage", [EDITED, BEHIND, f"{BEHIND}; {AHEAD}", f"{EDITED}; {AHEAD}"])
def test_no_other_schema_is_ever_allowed(tmp_path, database_url: str, damage: str) -> None:
    _execute(database_url, damage)
    service = Service(tmp_path, database_url, ALLOW_NEWER_SCHEMA="true").start(wait=False)
    assert service.process is not None
    assert service.process.wait(20) == 1


@pytest.mark.slow
def test_a_running_service_waits_for_a_schema_that_is_behind(start_service, empty_url) -> None:
    """The database was away at the start, and is behind when it comes."""
    service = start_service()
    service.stop()
    name = empty_url.partition("?")[0].rpartition("/")[2]
    _execute(service.database_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    late = start_service(empty_url)
    assert any("starting without a database" in line["message"] for line in late.log())
    _execute(service.database_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    headers = {"Authorization": "Bearer of-nobody-at-all"}

    def answer() -> int:
        return requests.post(f"{late.url}/api/v1/chunks", headers=headers).status_code

    assert answer() == 503
    eventually(lambda: "Run: flask ingest migrate" in late.log_path.read_text())
    assert flask_ingest(empty_url, "migrate").returncode == 0
    eventually(lambda: answer() == 401)


def test_a_running_service_goes_on_with_a_schema_that_is_ahead(start_service) -> None:
    service = start_service()
    recorder = service.recorder()
    assert service.upload(recorder, b"1").status_code == 200
    _execute(service.database_url, AHEAD)
    service.end_its_connections()
    assert service.upload(recorder, b"2").status_code == 200
    assert any("is ahead" in line["message"] for line in service.log())


def test_a_migration_may_ask_to_run_outside_a_transaction(empty_url: str) -> None:
    migration = migrations.Migration(
        1, "0001_x", migrations.NO_TRANSACTION + b"CREATE INDEX CONCURRENTLY ON t (a)"
    )
    _execute(empty_url, "CREATE TABLE t (a int)")
    with psycopg.connect(empty_url, autocommit=True) as connection:
        migrations.queries.server.create_schema_migrations(connection)
        migrations._apply_one(connection, migration)
        [indexes] = connection.execute(
            "SELECT count(*) FROM pg_indexes WHERE tablename = 't'"
        ).fetchone()
    assert indexes == 1


def test_an_index_that_was_half_built_is_built_anew(empty_url: str) -> None:
    flask_ingest(empty_url, "migrate")
    _execute(
        empty_url,
        "UPDATE pg_index SET indisvalid = false"
        " WHERE indexrelid = 'ix_audio_chunks_finished'::regclass",
        "DELETE FROM schema_migrations WHERE version = 3",
    )
    assert flask_ingest(empty_url, "migrate").stdout == "applied 0003_finished_index\n"
    with psycopg.connect(empty_url) as connection:
        assert migrations.queries.server.list_invalid_indexes(connection) == []
        assert "ix_audio_chunks_finished" in str(
            connection.execute("SELECT indexname FROM pg_indexes").fetchall()
        )


def test_constraints_hold_what_must_never_be(service: Service) -> None:
    recorder = service.recorder()
    service.upload(recorder)
    for change in (
        "end_ts = start_ts",
        "file_size_bytes = 0",
        "sha256 = 'short'",
        "duration_sec = -1",
        "sample_rate = 0",
        "channels = 0",
        "codec = ''",
        "status = 'LOST'",
        "file_missing_since = now()",
        "status_before = 'DONE'",
        "error_message_before = 'cannot decode'",
        "file_missing_since = now(), status_before = 'DONE'",
    ):
        with pytest.raises(psycopg.errors.CheckViolation), service.connect() as connection:
            connection.execute(
                f"UPDATE audio_chunks SET {change} WHERE device_id = %s",
                [recorder.device.device_id],
            )
    with pytest.raises(psycopg.errors.ForeignKeyViolation), service.connect() as connection:
        connection.execute("DELETE FROM devices WHERE device_id = %s", [recorder.device.device_id])


@pytest.fixture
def third_version(new_database: Callable[..., str]) -> str:
    """A database as it was before the queue."""
    url = new_database(migrated=False)
    with psycopg.connect(url, autocommit=True) as connection:
        for migration in migrations.apply(connection):
            if migration.version == 3:
                break
    return url


def test_uploads_go_on_while_it_waits_for_somebody(
    third_version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker with plain SQL may have the table in a transaction that is open for long."""
    monkeypatch.setattr(migrations, "LOCK_MILLISECONDS", 500)
    monkeypatch.setattr(migrations, "LOCK_PAUSE_SECONDS", 0.2)
    with ThreadPoolExecutor(1) as threads, psycopg.connect(third_version) as worker:
        worker.execute("SELECT FROM audio_chunks FOR UPDATE")
        migration = threads.submit(flask_ingest, third_version, "migrate")
        with psycopg.connect(third_version, autocommit=True) as upload:
            upload.execute("SET statement_timeout = '2s'")  # what an upload has
            waiting = (
                "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted"
            )
            for _ in range(3):
                eventually(lambda: upload.execute(waiting).fetchone()[0])
                upload.execute("UPDATE devices SET last_seen_at = now()")
                upload.execute(
                    "INSERT INTO audio_chunks (chunk_id) SELECT chunk_id FROM audio_chunks"
                )
        worker.rollback()
        assert migration.result().returncode == 0, migration.result().stderr


def test_an_index_waits_for_somebody_as_long_as_it_takes(
    third_version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_MILLISECONDS", 200)
    with psycopg.connect(third_version, autocommit=True) as connection:
        for migration in migrations.apply(connection):
            if migration.version == 4:
                break
    with ThreadPoolExecutor(1) as threads, psycopg.connect(third_version) as worker:
        worker.execute("DELETE FROM audio_chunks")
        migration = threads.submit(flask_ingest, third_version, "migrate")
        seconds = migrations.LOCK_MILLISECONDS / 1000
        with pytest.raises(TimeoutError):
            migration.result(2 * seconds + 1)
        worker.rollback()
        assert migration.result().returncode == 0, migration.result().stderr


def test_it_tells_who_is_in_its_way(third_version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "LOCK_TRIES", 1)
    with psycopg.connect(third_version, application_name="asr") as worker:
        worker.execute("SELECT FROM audio_chunks FOR UPDATE")
        with psycopg.connect(third_version, autocommit=True) as connection:
            told = rf"lock timeout.*end, pid {worker.info.backend_pid} \(asr, role ingest, since 20"
            with pytest.raises(migrations.SchemaError, match=told):
                list(migrations.apply(connection))


def test_it_says_whose_lock_it_waits_for(third_version: str) -> None:
    connected = psycopg.connect(third_version, application_name="asr")
    with ThreadPoolExecutor(1) as threads, connected as worker:
        worker.execute("SELECT FROM audio_chunks FOR UPDATE")
        migration = threads.submit(flask_ingest, third_version, "migrate")
        _wait_for_a_waiting_session(third_version)
        time.sleep(2 * migrate.LOOK_SECONDS)
        worker.rollback()
        result = migration.result()
        pid = worker.info.backend_pid
    assert result.returncode == 0, result.stderr
    told = rf"waiting for pid {pid} \(asr, role ingest, since 20.*: SELECT FROM"
    assert re.search(told, result.stderr)


def test_it_says_which_other_migration_it_waits_for(database_url: str) -> None:
    with ThreadPoolExecutor(1) as threads, psycopg.connect(database_url, autocommit=True) as other:
        assert queries.server.try_lock_migrations(other)
        migration = threads.submit(flask_ingest, database_url, "migrate")
        with pytest.raises(TimeoutError):
            migration.result(1.5)
        other.close()
        result = migration.result()
    assert result.returncode == 0, result.stderr
    assert re.search(r"waiting for pid \d+ \(no name, role ingest, since 20", result.stderr)


def test_it_says_what_an_index_waits_for(third_version: str) -> None:
    """That wait has no end of its own."""
    with psycopg.connect(third_version, autocommit=True) as connection:
        for migration in migrations.apply(connection):
            if migration.version == 4:
                break
    with ThreadPoolExecutor(1) as threads, psycopg.connect(third_version) as worker:
        worker.execute("DELETE FROM audio_chunks")
        migrating = threads.submit(flask_ingest, third_version, "migrate")
        _wait_for_a_waiting_session(third_version)
        time.sleep(2 * migrate.LOOK_SECONDS)
        worker.rollback()
        result = migrating.result()
        pid = worker.info.backend_pid
    assert result.returncode == 0, result.stderr
    assert f"waiting for pid {pid} (" in result.stderr


def _wait_for_a_waiting_session(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        eventually(lambda: connection.execute(waiting).fetchone()[0])
