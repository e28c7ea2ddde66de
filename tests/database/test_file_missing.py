"""What the rows say of a chunk whose file is gone (sql/migrations/0009 and 0010): in columns, where
the version before said it at the beginning of the error message. That version may run until the
service is restarted, and a database may hold what it wrote."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row
from support.commands import flask_ingest
from support.leases import HttpWorker, SqlWorker, row, upload_chunks
from support.recorder import Recorder
from support.service import Service

from ingest_api.database import migrations, queries
from ingest_api.models.chunks import ChunkStatus, Recording
from ingest_api.usecases.uploads import new_chunk

MARK_OF_THE_VERSION_BEFORE = """
UPDATE audio_chunks
SET status = 'ERROR',
    error_message = 'file missing (was ' || status || coalesce(': ' || error_message, '') || ')',
    lease_expires_at = NULL
WHERE chunk_id = (
    SELECT chunk_id
    FROM audio_chunks
    WHERE chunk_id = %(chunk_id)s
        AND status <> 'PRUNED'
        AND (lease_expires_at IS NULL OR lease_expires_at < now())
    FOR UPDATE SKIP LOCKED
)
RETURNING chunk_id
"""
RESTORE_OF_THE_VERSION_BEFORE = r"""
UPDATE audio_chunks
SET status = CASE
        WHEN error_message ~ '^file missing \(was (UPLOADED|QUEUED|PROCESSING)[:)]'
        THEN %(waiting_status)s
        ELSE substring(error_message from '^file missing \(was ([^:)]+)')
    END,
    error_message = substring(error_message from '^file missing \(was [^:)]+: (.*)\)$')
WHERE chunk_id = %(chunk_id)s
    AND status = 'ERROR'
    AND error_message ~ '^file missing \(was [^:)]+'
RETURNING status
"""
WAITING = {"UPLOADED", "QUEUED", "PROCESSING"}
STATES = [
    ("UPLOADED", None),
    ("QUEUED", None),
    ("QUEUED", "the lease of attempt 1 expired (worker a)"),
    ("PROCESSING", None),
    ("PROCESSING", "again: 2 (two)"),
    ("DONE", None),
    ("DONE", "odd"),
    ("ERROR", None),
    ("ERROR", "too (much) noise: 3 dB"),
    ("ERROR", "two\nlines)"),
    ("ERROR", ""),
    ("TRANSCRIBED", None),  # of the earlier service
    ("TRANSCRIBED", "late: 3"),
    ("in work", None),
]
COLUMNS = "status, error_message, file_missing_since, status_before, error_message_before"


def _connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True)


def _insert(url: str, recorder: Recorder, data: bytes, status: str, message: str | None) -> Any:
    """A chunk with that status, as an upload of `data` by the recorder would have left it."""
    device = recorder.device
    recording = Recording(
        *(device.device_id, device.point_id, device.register_id),
        *(recorder.clock, recorder.clock + timedelta(seconds=60), "opus", 48000, 1),
    )
    chunk = new_chunk(recording, sha256=sha256(data).digest(), size=len(data))
    with _connect(url) as connection:
        connection.execute(
            f"INSERT INTO audio_chunks ({', '.join(vars(chunk))})"
            f" VALUES ({', '.join(f'%({name})s' for name in vars(chunk))})",
            vars(chunk),
        )
        connection.execute("SET session_replication_role = replica")  # no trigger says no
        digest = chunk.sha256 if status in ChunkStatus.__members__ else None
        connection.execute(
            "UPDATE audio_chunks SET status = %s, error_message = %s, sha256 = %s"
            " WHERE chunk_id = %s",
            [status, message, digest, chunk.chunk_id],
        )
    return chunk


def _state(url: str, chunk_id: UUID) -> dict[str, Any]:
    with _connect(url) as connection, connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(f"SELECT {COLUMNS} FROM audio_chunks WHERE chunk_id = %s", [chunk_id])
        return cursor.fetchall()[0]


def _run(url: str, statement: str, chunk_id: UUID) -> int:
    values = {"chunk_id": chunk_id, "waiting_status": "QUEUED"}
    with _connect(url) as connection:
        return connection.execute(statement, values).rowcount


def _sentence(status: str, message: str | None) -> str:
    return f"file missing (was {status}{'' if message is None else f': {message}'})"


def _is_given_up(state: dict[str, Any], status: str, message: str | None) -> bool:
    expected = {
        "status": "ERROR",
        "error_message": _sentence(status, message),
        "file_missing_since": state["file_missing_since"],
        "status_before": status,
        "error_message_before": message,
    }
    return state == expected and isinstance(state["file_missing_since"], datetime)


def _is_restored(state: dict[str, Any], status: str, message: str | None) -> bool:
    status = "QUEUED" if status in WAITING else status  # it has no worker any more
    return tuple(state.values()) == (status, message, None, None, None)


@pytest.fixture
def url_before(new_database: Callable[..., str]) -> str:
    """A database as the version before knows it."""
    url = new_database(migrated=False)
    with _connect(url) as connection:
        for migration in migrations.apply(connection):
            if migration.version == 8:
                break
    return url


def test_what_the_version_before_gave_up_is_treated_as_before(
    url_before: str, tmp_path: Path
) -> None:
    url, service = url_before, Service(tmp_path, url_before)
    recorder = service.recorder()
    chunks = {}
    for number, (status, message) in enumerate(STATES):
        chunk = _insert(url, recorder, b"%d" % number, status, message)
        assert _run(url, MARK_OF_THE_VERSION_BEFORE, chunk.chunk_id) == 1
        chunks[status, message] = number, chunk
    assert flask_ingest(url, "migrate").returncode == 0
    for (status, message), (_, chunk) in chunks.items():
        assert _is_given_up(_state(url, chunk.chunk_id), status, message)

    storage = {"AUDIO_STORAGE_DIR": str(service.storage)}
    (service.storage / "audio").mkdir(parents=True)
    assert flask_ingest(url, "fsck", "--repair", **storage).returncode == 0  # all that is known
    for number, chunk in chunks.values():
        file = service.storage / chunk.file_path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"%d" % number)
    repaired = flask_ingest(url, "fsck", "--repair", **storage)
    assert f"{len(STATES)} file_returned; {len(STATES)} repaired" in repaired.stdout
    for (status, message), (_, chunk) in chunks.items():
        assert _is_restored(_state(url, chunk.chunk_id), status, message)


def test_a_replay_brings_back_what_the_version_before_gave_up(
    url_before: str, start_service
) -> None:
    recorder = Service(Path("/nonexistent"), url_before).recorder()
    chunk = _insert(url_before, recorder, b"sound", "DONE", None)
    assert _run(url_before, MARK_OF_THE_VERSION_BEFORE, chunk.chunk_id) == 1
    assert flask_ingest(url_before, "migrate").returncode == 0
    service = start_service(url_before)
    assert service.upload(recorder, b"sound").json()["duplicate"] is True
    assert _is_restored(_state(url_before, chunk.chunk_id), "DONE", None)


def test_since_when_is_told_as_far_as_it_is_known(url_before: str, tmp_path: Path) -> None:
    recorder, long_ago = Service(tmp_path, url_before).recorder(), datetime(2026, 2, 1, tzinfo=UTC)
    waited = _insert(url_before, recorder, b"1", "QUEUED", None)
    finished = _insert(url_before, recorder, b"2", "DONE", None)
    for chunk in (waited, finished):
        _run(url_before, MARK_OF_THE_VERSION_BEFORE, chunk.chunk_id)
    with _connect(url_before) as connection:
        connection.execute("UPDATE audio_chunks SET finished_at = %s", [long_ago])
    flask_ingest(url_before, "migrate")
    assert _state(url_before, waited.chunk_id)["file_missing_since"] == long_ago
    assert _state(url_before, finished.chunk_id)["file_missing_since"] > long_ago


@pytest.mark.parametrize("status", ["QUEUED", "ERROR"])
def test_a_workers_words_are_not_taken_for_those_of_the_version_before(
    url_before: str, tmp_path: Path, status: str
) -> None:
    recorder = Service(tmp_path, url_before).recorder()
    words = [
        "file missing (was it ever there?)",
        "file missing (was DONE",
        "file missing in ffmpeg",
    ]
    words += ["file missing (was DONE)"] if status == "QUEUED" else []  # requeued since
    chunks = [_insert(url_before, recorder, said.encode(), status, said) for said in words]
    flask_ingest(url_before, "migrate")
    for chunk, said in zip(chunks, words, strict=True):
        state = _state(url_before, chunk.chunk_id)
        assert tuple(state.values()) == (status, said, None, None, None)


@pytest.mark.parametrize(("status", "message"), STATES)
def test_both_versions_understand_each_other_until_the_service_is_restarted(
    database_url: str, tmp_path: Path, status: str, message: str | None
) -> None:
    recorder = Service(tmp_path, database_url).recorder()
    chunk_id = _insert(database_url, recorder, b"sound", status, message).chunk_id
    restored = "QUEUED" if status in WAITING else status
    with _connect(database_url) as connection:
        # This version gives it up, and the one before takes it back.
        assert queries.files.mark_file_missing(connection, chunk_id)
        assert not queries.files.mark_file_missing(connection, chunk_id)
        assert _is_given_up(_state(database_url, chunk_id), status, message)
        assert _run(database_url, RESTORE_OF_THE_VERSION_BEFORE, chunk_id) == 1
        assert _is_restored(_state(database_url, chunk_id), status, message)
        # And the other way round.
        assert _run(database_url, MARK_OF_THE_VERSION_BEFORE, chunk_id) == 1
        assert _is_given_up(_state(database_url, chunk_id), restored, message)
        waiting = ChunkStatus.QUEUED
        restore = queries.files.restore_chunk
        assert restore(connection, chunk_id, waiting_status=waiting) == restored
        assert restore(connection, chunk_id, waiting_status=waiting) is None
    assert _is_restored(_state(database_url, chunk_id), status, message)


@pytest.fixture
def given_up(emptied: Service, recorder: Recorder) -> str:
    """A chunk whose file was found missing while a worker with plain SQL had it."""
    [chunk_id] = upload_chunks(emptied, emptied.recorder(), [0])
    SqlWorker(emptied.database_url).take(1)
    with emptied.connect() as connection:
        assert queries.files.mark_file_missing(connection, UUID(chunk_id))
    return chunk_id


@pytest.mark.parametrize(
    "change",
    [
        "status='ERROR', error_message='late'",
        "status='DONE'",
        "status='DONE', error_message=NULL",
        "status='ERROR', error_message=NULL",
    ],
)
def test_a_late_result_does_not_make_fsck_forget(
    emptied: Service, given_up: str, change: str
) -> None:
    before = row(emptied, given_up)
    with emptied.connect() as connection:
        connection.execute(f"UPDATE audio_chunks SET {change}, processing_started_at=NULL")
    assert row(emptied, given_up) == before
    assert _is_given_up(row(emptied, given_up, COLUMNS), "PROCESSING", None)


@pytest.mark.parametrize("status", ["UPLOADED", "QUEUED", "PRUNED"])
def test_whoever_moves_it_with_plain_sql_need_not_know_of_the_columns(
    emptied: Service, given_up: str, status: str
) -> None:
    with emptied.connect() as connection:
        connection.execute("UPDATE audio_chunks SET status = %s", [status])
    found = row(emptied, given_up, "status, file_missing_since, status_before")
    assert found == {"status": status, "file_missing_since": None, "status_before": None}


def test_a_worker_may_say_what_fsck_says(emptied: Service) -> None:
    [chunk_id] = upload_chunks(emptied, emptied.recorder(), [0])
    worker = HttpWorker(emptied)
    [chunk] = worker.claim()
    said = "file missing (was PROCESSING)"
    assert worker.error(chunk, said, retry=False).status_code == 200
    assert row(emptied, chunk_id, COLUMNS) == {
        "status": "ERROR",
        "error_message": said,
        "file_missing_since": None,
        "status_before": None,
        "error_message_before": None,
    }


def test_the_version_before_may_take_a_workers_message_for_its_own_and_changes_nothing(
    emptied: Service,
) -> None:
    """An error would be a 500 to every replay: its agent could send nothing else any more."""
    [chunk_id] = upload_chunks(emptied, emptied.recorder(), [0])
    worker = HttpWorker(emptied)
    [chunk] = worker.claim()
    worker.error(chunk, "file missing (was there yesterday)", retry=False)
    before = row(emptied, chunk_id)
    assert _run(emptied.database_url, RESTORE_OF_THE_VERSION_BEFORE, UUID(chunk_id)) == 1
    assert row(emptied, chunk_id) == before


def test_a_client_may_have_a_search_path_of_its_own(emptied: Service) -> None:
    [chunk_id] = upload_chunks(emptied, emptied.recorder(), [0])
    with emptied.connect() as connection:
        connection.execute("SET search_path = ''")
        connection.execute("UPDATE public.audio_chunks SET status = 'PROCESSING'")
    assert row(emptied, chunk_id)["attempts"] == 1
