"""A worker with plain SQL, as the very role that the guide makes: what sql/README.md shows works,
and whatever else it tries is refused or harmless."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors
from support.commands import flask_ingest
from support.leases import HttpWorker
from support.recorder import SPEECH
from support.service import Service

ROOT = Path(__file__).parents[2]
Worker = psycopg.Connection[Any]


def _guide(name: str, language: str, after: str) -> str:
    """Return the first block in that language after a text of a guide."""
    text = (ROOT / name).read_text().partition(after)[2]
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found, f"{name} has no such block"
    return found[1]


GRANTS = re.findall(
    r"^(?:GRANT|ALTER) .*;$", _guide("deploy/README.md", "sh", "For a user `asr`"), re.MULTILINE
)
STATEMENTS = _guide("sql/README.md", "sql", "## Workers with plain SQL")


@pytest.fixture
def worker(emptied: Service) -> Iterator[Worker]:
    """A session of the role, which afterwards is as the guide has made it."""
    with psycopg.connect(emptied.database_url, autocommit=True) as owner:
        name = f"asr_{owner.info.dbname}"
        owner.execute(f"CREATE ROLE {name} LOGIN")
        owner.execute(f"CREATE SCHEMA {name} AUTHORIZATION {name}")
        assert len(GRANTS) == 3
        for statement in GRANTS:
            owner.execute(re.sub(r"\basr\b", name, statement))
        url = emptied.database_url.replace("user=ingest", f"user={name}")
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection
        owner.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def _statuses(service: Service) -> list[str]:
    with service.connect() as connection:
        found = connection.execute("SELECT status FROM audio_chunks ORDER BY start_ts").fetchall()
    return [row["status"] if isinstance(row, dict) else row[0] for row in found]


def _documented(chunk_id: str) -> list[str]:
    """Return the statements of sql/README.md, about this chunk."""
    lines = re.sub(r"^--.*$", "", STATEMENTS, flags=re.MULTILINE)
    lines = lines.replace("ANY(...)", f"ANY(ARRAY['{chunk_id}'::uuid])")
    statements = lines.replace("chunk_id = ...", f"chunk_id = '{chunk_id}'").split(";")
    return [statement.strip() for statement in statements if statement.strip()]


@pytest.mark.parametrize("path", ["", "public"])
def test_what_is_documented_works(emptied: Service, worker: Worker, path: str) -> None:
    """With a search_path in which nothing is found unless it is named with its schema, too."""
    chunk_id = emptied.upload(emptied.recorder()).json()["chunk_id"]
    worker.execute("SELECT set_config('search_path', %s, false)", [path])
    take, again = _documented(chunk_id)[:4], _documented(chunk_id)[4:]
    assert (take[0], take[-1], len(again)) == ("BEGIN", "COMMIT", 3)
    for statement in [*take, *again]:
        worker.execute(statement.replace("audio_chunks", "public.audio_chunks"))
        if statement == "COMMIT":
            assert _statuses(emptied) == ["PROCESSING"]
    assert _statuses(emptied) == ["DONE"]  # giving it up afterwards came too late
    assert worker.execute("SELECT count(*) FROM public.pruned_chunks").fetchone() == (0,)


def test_it_gives_up_and_recovers(emptied: Service, worker: Worker) -> None:
    chunk_id = emptied.upload(emptied.recorder()).json()["chunk_id"]
    *take, _, give_up, recover = _documented(chunk_id)
    for statement in take:
        worker.execute(statement)
    past = "UPDATE audio_chunks SET processing_started_at = now() - interval '1 hour'"
    worker.execute(past)
    worker.execute(recover)
    assert _statuses(emptied) == ["QUEUED"]
    for statement in (*take, give_up):
        worker.execute(statement)
    assert _statuses(emptied) == ["ERROR"]


SHADOWS = """
    CREATE {kind} TABLE {schema}pruned_chunks (chunk_id uuid, attempts integer);
    INSERT INTO {schema}pruned_chunks SELECT chunk_id, 2147483646 FROM public.audio_chunks;
    CREATE {kind} TABLE {schema}audio_chunks (LIKE public.audio_chunks);
    CREATE {kind} TABLE {schema}schema_migrations (version integer);
"""
FUNCTION = """
    CREATE FUNCTION {own}.{name} RETURNS {type} LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'taken over'; END $$
"""
REFUSED = (
    errors.InsufficientPrivilege,
    errors.CheckViolation,
    errors.WrongObjectType,
    errors.UndefinedObject,
    errors.InvalidSchemaName,
)
COLUMNS = {
    "file_path": "'audio/x'",
    "chunk_id": "gen_random_uuid()",
    "device_id": "gen_random_uuid()",
    "point_id": "gen_random_uuid()",
    "sha256": "NULL",
    "file_size_bytes": "1",
    "start_ts": "now()",
    "created_at": "now() - interval '10 years'",
    "attempts": "0",
    "attempts_forgiven": "1000",
    "lease_expires_at": "'infinity'",
    "worker": "'somebody else'",
    "file_missing_since": "now()",
    "finished_at": "'infinity'",
}
ATTEMPTS = {
    **{f"write {name}": f"UPDATE audio_chunks SET {name} = {to}" for name, to in COLUMNS.items()},
    "delete": "DELETE FROM audio_chunks",
    "truncate": "TRUNCATE audio_chunks CASCADE",
    "insert": "INSERT INTO audio_chunks SELECT * FROM audio_chunks",
    "insert a pruned id": "INSERT INTO pruned_chunks (chunk_id) SELECT chunk_id FROM audio_chunks",
    "forget pruned ids": "DELETE FROM pruned_chunks",
    "read tokens": "SELECT token_hash FROM devices",
    "disable devices": "UPDATE devices SET is_enabled = false",
    **{
        f"lock {mode}": f"BEGIN; LOCK TABLE audio_chunks IN {mode} MODE"
        for mode in ("ROW EXCLUSIVE", "SHARE", "EXCLUSIVE", "ACCESS EXCLUSIVE")
    },
    "lock devices": "BEGIN; LOCK TABLE devices IN SHARE MODE",
    "drop": "DROP TABLE audio_chunks CASCADE",
    "alter": "ALTER TABLE audio_chunks ADD COLUMN x integer",
    "disable triggers": "ALTER TABLE audio_chunks DISABLE TRIGGER ALL",
    "add a trigger": "CREATE TRIGGER t BEFORE INSERT ON audio_chunks EXECUTE FUNCTION move_chunk()",
    "replace the function": "CREATE OR REPLACE FUNCTION public.move_chunk() RETURNS trigger "
    "LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
    "change the function": "ALTER FUNCTION move_chunk() RESET search_path",
    "skip triggers": "SET session_replication_role = replica",
    "add a rule": "CREATE RULE r AS ON INSERT TO audio_chunks DO INSTEAD NOTHING",
    "refer to chunks": "CREATE TABLE {own}.r (chunk_id uuid REFERENCES audio_chunks)",
    "become the owner": "SET ROLE ingest",
    "make a table in public": "CREATE TABLE public.x (a integer)",
    "write a file": "COPY (SELECT 1) TO '/tmp/x'",
    "run a program": "COPY (SELECT 1) TO PROGRAM 'true'",
    "prune": "UPDATE audio_chunks SET status = 'PRUNED'",
    "a status of its own": "UPDATE audio_chunks SET status = 'MINE'",
    "a time for nobody": "UPDATE audio_chunks SET processing_started_at = 'infinity'",
    "a time before all": "UPDATE audio_chunks SET processing_started_at = '4713-01-01 BC'",
    "end sessions": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE usename = 'ingest' AND pid <> pg_backend_pid()",
}
HARMLESS = {
    "temporary tables": SHADOWS.format(kind="TEMP", schema=""),
    "tables of its own": SHADOWS.format(kind="", schema="{own}."),
    "functions of its own": FUNCTION.format(own="{own}", name="now()", type="timestamptz")
    + ";"
    + FUNCTION.format(own="{own}", name="format(text)", type="text"),
    "a path to its own": "SET search_path = {own}, pg_temp, public, pg_catalog",
    "a long message": "UPDATE audio_chunks SET status = 'ERROR', "
    "error_message = repeat('x', 1000000)",
    "a message for terminals": "UPDATE audio_chunks SET status = 'ERROR', "
    "error_message = E'\\x1b[2J'",
    "its message again": "UPDATE audio_chunks SET error_message = 'again'",
    "many notices": "SELECT pg_notify('x', repeat('y', 7000)) FROM generate_series(1, 100)",
    "an advisory lock": "SELECT pg_advisory_lock(1)",
    "an open transaction": "BEGIN; SELECT FROM audio_chunks FOR UPDATE",
    "a read lock": "BEGIN; LOCK TABLE audio_chunks IN ACCESS SHARE MODE",
    "grant what it has not": "GRANT ALL ON audio_chunks TO PUBLIC",
    "all done": "UPDATE audio_chunks SET status = 'DONE'",
}


@pytest.fixture
def everything_works(emptied: Service) -> Iterator[Callable[[], None]]:
    """A chunk, and afterwards the check that it is still what it was, and that others can come."""
    recorder = emptied.recorder()
    chunk = emptied.upload(recorder).json()
    [before] = emptied.rows(recorder)
    free = {"status", "processing_started_at", "error_message", "finished_at", "attempts"}

    def check() -> None:
        again = emptied.upload(recorder)
        assert (again.status_code, again.json()["duplicate"]) == (200, True)
        [after] = emptied.rows(recorder)
        fixed = before.keys() - free
        assert {name: after[name] for name in fixed} == {name: before[name] for name in fixed}
        assert after["attempts"] < 10
        assert (emptied.storage / chunk["stored_path"]).read_bytes() == SPEECH
        new = emptied.upload(emptied.recorder())
        assert new.status_code == 200
        claimed = HttpWorker(emptied).claim(limit=10)
        assert new.json()["chunk_id"] in {each["chunk_id"] for each in claimed}
        listed = flask_ingest(emptied.database_url, "queue", "--json")
        assert listed.returncode == 0, listed.stderr

    yield check


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_more_is_refused(
    worker: Worker, everything_works: Callable[[], None], attempt: str
) -> None:
    with pytest.raises(REFUSED):
        worker.execute(attempt.replace("{own}", worker.info.user))
    everything_works()


@pytest.mark.parametrize("attempt", HARMLESS.values(), ids=HARMLESS)
def test_what_is_allowed_does_no_harm(
    worker: Worker, everything_works: Callable[[], None], attempt: str
) -> None:
    worker.execute(attempt.replace("{own}", worker.info.user))
    if worker.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
        moves = (("QUEUED", "PROCESSING"), ("PROCESSING", "QUEUED"))
        for before, after in moves:  # so that the triggers look for their tables
            update = "UPDATE public.audio_chunks SET status = %s WHERE status = %s"
            worker.execute(update, [after, before])
    everything_works()
    worker.rollback()
