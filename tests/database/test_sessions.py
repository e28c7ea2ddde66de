"""A session with PostgreSQL: no setting of others changes what the service does, and one that has
become stale costs no upload."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from support.backups import all_rows, ingest
from support.commands import flask_ingest
from support.leases import HttpWorker
from support.recorder import Recorder
from support.service import Service

from ingest_api.database import queries
from ingest_api.database.pool import Database, connect
from ingest_api.settings import Settings

HOSTILE = {
    "datestyle": "German, DMY",
    "intervalstyle": "iso_8601",
    "timezone": "Pacific/Kiritimati",
    "synchronous_commit": "off",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "row_security": "off",
    "plan_cache_mode": "force_generic_plan",
    "exit_on_error": "on",
    "statement_timeout": "700",
    "lock_timeout": "700",
    "idle_session_timeout": "700",
    "idle_in_transaction_session_timeout": "700",
    "transaction_timeout": "700",
}


# As pg_settings spells them.
SPELLED = {"datestyle": "DateStyle", "intervalstyle": "IntervalStyle", "timezone": "TimeZone"}


@pytest.fixture(scope="module")
def owner_url(new_database: Callable[..., str]) -> str:
    return new_database()


@pytest.fixture(scope="module")
def hostile_url(owner_url: str) -> str:
    """The same database, for a role that sets everything as the service does not want it."""
    with psycopg.connect(owner_url, autocommit=True) as connection:
        name = f"hostile_{connection.info.dbname}"
        connection.execute(f"CREATE ROLE {name} LOGIN")
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}")
        for setting, value in HOSTILE.items():
            if setting == "transaction_timeout" and connection.info.server_version < 170000:
                continue
            text = value if setting == "datestyle" else f"'{value}'"
            connection.execute(f"ALTER ROLE {name} SET {setting} = {text}")
    return owner_url.replace("user=ingest", f"user={name}")


@pytest.fixture(scope="module")
def hostile(
    tmp_path_factory: pytest.TempPathFactory, hostile_url: str, owner_url: str
) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("hostile"), hostile_url, WORKERS="1").start()
    running.database_url = owner_url  # for the test itself
    yield running
    assert running.stop() == 0


def test_what_a_role_sets_changes_nothing(hostile: Service) -> None:
    recorder = hostile.recorder()
    first, again = hostile.upload(recorder, b"1"), hostile.upload(recorder, b"1")
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json()["duplicate"] is True
    assert first.json()["sha256"] == again.json()["sha256"]
    [row] = hostile.rows(recorder)
    assert row["start_ts"] == recorder.clock
    [chunk] = HttpWorker(hostile).claim()
    assert chunk["chunk_id"] == str(row["chunk_id"])
    assert HttpWorker(hostile).done(chunk).status_code == 200
    assert hostile.health()[0] == 200


def test_its_sessions_are_as_the_promise_needs_them(hostile_url: str) -> None:
    database = Database(Settings.from_environ({"DATABASE_URL": hostile_url}))
    with database.connection() as connection:
        shown = dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())
    database.close()
    assert shown["synchronous_commit"] == "on"
    unchanged = {
        name for name, value in HOSTILE.items() if shown.get(SPELLED.get(name, name)) == value
    }
    assert unchanged == set()


@pytest.mark.parametrize("value", ["off", "local", "remote_write", "on", "remote_apply"])
def test_a_stronger_synchronous_commit_stays(database_url: str, value: str) -> None:
    url = f"{database_url}&options=-csynchronous_commit%3D{value}"
    with connect(Settings.from_environ({"DATABASE_URL": url})) as connection:
        shown = connection.execute("SHOW synchronous_commit").fetchone()
    assert shown == ("remote_apply" if value == "remote_apply" else "on",)


@pytest.mark.parametrize(
    "command", [["list-devices"], ["list-devices", "--json"], ["queue"], ["migrate", "--status"]]
)
def test_the_commands_work_for_such_a_role(
    hostile_url: str, hostile: Service, command: list[str]
) -> None:
    hostile.recorder()
    result = flask_ingest(hostile_url, *command)
    assert (result.returncode, result.stderr) == (0, "")


ENVIRON = {
    "PGOPTIONS": "-c statement_timeout=700 -c bytea_output=escape",
    "PGDATESTYLE": "German, DMY",
    "PGTZ": "Asia/Tokyo",
    "PGCLIENTENCODING": "LATIN1",
    "PGAPPNAME": "other",
}


def test_what_the_environment_sets_changes_nothing(hostile_url: str, hostile: Service) -> None:
    result = flask_ingest(hostile_url, "list-devices", "--json", **ENVIRON)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("of", ["role", "environment"])
def test_nor_does_either_change_a_backup(
    hostile: Service, hostile_url: str, new_database: Callable[..., str], tmp_path: Path, of: str
) -> None:
    """The text is of characters that a hostile encoding lacks."""
    recorder = hostile.recorder()
    assert hostile.upload(recorder, b"1").status_code == 200
    with hostile.connect() as connection:
        connection.execute("UPDATE audio_chunks SET error_message = '\u8a9e \U0001f399'")
    role = hostile_url.partition("user=")[2].partition("&")[0]
    urls = [hostile.database_url, new_database(migrated=False)]
    if of == "role":
        urls = [url.replace("user=ingest", f"user={role}") for url in urls]
        with psycopg.connect(urls[1].replace(f"user={role}", "user=ingest")) as connection:
            connection.execute(f"GRANT ALL ON SCHEMA public TO {role}")
    there = Service(tmp_path / "there", urls[1])
    there.storage.mkdir(parents=True)
    environ = ENVIRON if of == "environment" else {}
    settings = {"AUDIO_STORAGE_DIR": str(hostile.storage), "DATABASE_URL": urls[0], **environ}
    folder = tmp_path / "backups"
    assert ingest(hostile, "backup", "--init", folder, **settings).returncode == 0
    result = ingest(hostile, "backup", folder, **settings)
    assert result.returncode == 0, result.stderr
    [backup] = folder.glob("*Z")
    result = ingest(there, "restore", backup, **environ)
    assert result.returncode == 0, result.stderr
    there.database_url = urls[1].replace(f"user={role}", "user=ingest")  # for the test itself
    restored, original = all_rows(there.database_url), all_rows(hostile.database_url)
    assert restored["devices"] == original["devices"]
    assert [row["error_message"] for row in there.rows(recorder)] == ["\u8a9e \U0001f399"]


@pytest.fixture
def warm(emptied: Service) -> Recorder:
    """A device whose uploads have prepared every statement in every session."""
    recorder = emptied.recorder()
    for number in range(24):
        assert emptied.upload(recorder, b"warm %d" % (number // 2)).status_code == 200
    return recorder


@pytest.mark.parametrize(
    "alteration",
    [
        "ALTER TABLE devices ALTER last_seen_at TYPE timestamptz(3)",
        "ALTER TABLE devices ALTER token_hash TYPE varchar(100)",
        "ALTER TABLE audio_chunks ALTER created_at TYPE timestamptz(3)",
        "ALTER TABLE audio_chunks ALTER sample_rate TYPE bigint",
        "ALTER TABLE audio_chunks ALTER file_size_bytes TYPE numeric",
    ],
)
def test_a_changed_type_costs_no_upload(emptied: Service, warm: Recorder, alteration: str) -> None:
    with emptied.connect() as connection:
        connection.execute(alteration)
    for number in range(12):
        answer = emptied.upload(warm, b"after %d" % number)
        assert answer.status_code == 200, answer.text
        assert emptied.upload(warm, b"after %d" % number).json()["duplicate"] is True
    worker = HttpWorker(emptied)
    assert len(worker.claim(10)) == 10
    assert emptied.health()[0] == 200


LOSE = "DO 'BEGIN EXECUTE ''DEALLOCATE ALL''; END'"  # unseen by the client
TAKE = ";".join(f"PREPARE _pg3_{number} AS SELECT 1" for number in range(9))


@pytest.mark.parametrize(("uses_before", "damage"), [(8, LOSE), (0, TAKE)])
def test_a_session_whose_statements_are_lost_or_anothers_is_replaced(
    database_url: str, uses_before: int, damage: str
) -> None:
    database = Database(Settings.from_environ({"DATABASE_URL": database_url}))
    with database.connection() as connection:
        for _ in range(uses_before):
            assert queries.devices.get_last_seen(connection) is None
        connection.execute(damage)
        for _ in range(8):
            assert queries.devices.get_last_seen(connection) is None
        stale = connection.info.backend_pid
    with database.connection() as connection:
        assert connection.info.backend_pid != stale
    database.close()
