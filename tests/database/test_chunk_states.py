"""Whatever the service, workers, fsck, operators and retention do to a chunk, and in which order:
the table of states in sql/migrations/0004_queue.sql holds.

Each rule moves one chunk as somebody does, and says what must come of it; `in_vain` tries what must
change nothing. What must be true of a row at any time is below, in `invariant`s.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import dict_row
from support.leases import SqlWorker

from ingest_api.database import queries
from ingest_api.models.chunks import FIRST_ID, NewChunk
from ingest_api.models.devices import Device, NewDevice
from ingest_api.models.queue import Claim, Failure, RequeueSelection
from ingest_api.models.retention import Selection
from ingest_api.tokens import generate_token
from ingest_api.usecases import devices

MAX_ATTEMPTS = 3
START = datetime(2026, 1, 28, 10, tzinfo=UTC)
LEASE = timedelta(minutes=1)
WAITING, FINISHED = ("UPLOADED", "QUEUED"), ("DONE", "ERROR")
ALIVE = (*WAITING, "PROCESSING", *FINISHED)
REFUSED = {(was, to) for was in FINISHED for to in ("PROCESSING", "DOING")}
REFUSED |= {("PRUNED", to) for to in (*WAITING, "PROCESSING", "DOING")}
Row = dict[str, Any]
waiting = st.sampled_from(WAITING)
leases = st.sampled_from([LEASE, -LEASE])  # good, and expired by the time of the next move


class ChunkMachine(RuleBasedStateMachine):
    """One chunk, moved at random. `row` is what the table holds of it; None: nothing."""

    connection: psycopg.Connection[Any]
    worker: SqlWorker
    device: Device

    def __init__(self) -> None:
        super().__init__()
        self.row: Row | None = None
        self.before: Row | None = None
        self.given_up: Row | None = None  # what it was before its file was missed
        self.remembered = 0  # attempts, by what retention removed
        self.numbers = count(1)
        self.chunk = NewChunk(
            *(self.device.device_id, self.device.point_id, self.device.register_id),
            *(START, START + LEASE, "opus", 48000, 1),
            *(uuid4(), 60, "audio/a.ogg", 1, b"\0" * 32),
        )

    def teardown(self) -> None:
        self.connection.execute("DELETE FROM audio_chunks; DELETE FROM pruned_chunks")

    def look(self) -> None:
        """Look at the row again; `before` is then what it was."""
        with self.connection.cursor(row_factory=dict_row) as cursor:
            found = cursor.execute(
                "SELECT * FROM audio_chunks WHERE chunk_id = %s", [self.chunk.chunk_id]
            ).fetchone()
        self.before, self.row = self.row, found

    def assert_moved(self, status: str) -> None:
        self.look()
        assert self.row is not None
        assert self.row["status"] == status

    @property
    def status(self) -> str:
        return self.row["status"] if self.row else ""

    @property
    def is_held(self) -> bool:
        """By a worker with a lease, be it expired."""
        return bool(self.row and self.row["lease_expires_at"])

    @property
    def is_leased(self) -> bool:
        """The lease is good still."""
        return self.is_held and self.row["lease_expires_at"] > datetime.now(UTC)

    @property
    def has_attempts_left(self) -> bool:
        return self.row["attempts"] - self.row["attempts_forgiven"] < MAX_ATTEMPTS

    # The service: uploads, leases that expire, the relay

    @initialize(status=waiting)
    def _begin(self, status: str) -> None:
        self.upload(status)

    @precondition(lambda self: not self.row)
    @rule(status=waiting)
    def upload(self, status: str) -> None:
        assert queries.chunks.insert_chunk(self.connection, self.chunk, status=status)
        self.assert_moved(status)

    @precondition(lambda self: self.status == "UPLOADED")
    @rule()
    def relay(self) -> None:
        self.mark_queued()
        self.assert_moved("QUEUED")

    @precondition(lambda self: self.is_held and not self.is_leased)
    @rule()
    def expire(self) -> None:
        assert self.expire_leases()
        self.assert_moved("QUEUED" if self.has_attempts_left else "ERROR")

    # Workers that use HTTP

    @precondition(lambda self: self.status in WAITING)
    @rule(lease=leases)
    def claim(self, lease: timedelta) -> None:
        given = self.claim_one(lease) if self.status == "UPLOADED" else self.claim_any(lease)
        self.assert_moved("PROCESSING")
        assert [chunk.attempts for chunk in given] == [self.row["attempts"]]
        assert (self.row["worker"], self.is_leased) == ("http", lease == LEASE)

    @precondition(lambda self: self.is_held)
    @rule(lease=leases)
    def extend(self, lease: timedelta) -> None:
        assert self.extend_lease(late=0, lease=lease)
        self.assert_moved("PROCESSING")
        assert self.is_leased is (lease == LEASE)

    @precondition(lambda self: self.is_held)
    @rule()
    def finish(self) -> None:
        assert self.finish_chunk(late=0)
        self.assert_moved("DONE")

    @precondition(lambda self: self.is_held)
    @rule(retry=st.booleans())
    def fail(self, retry: bool) -> None:
        assert self.fail_chunk(late=0, retry=retry)
        self.assert_moved("QUEUED" if retry and self.has_attempts_left else "ERROR")
        assert self.row["error_message"] == "no speech"

    # Workers that use plain SQL, and know of no leases

    @precondition(lambda self: self.status == "QUEUED")
    @rule()
    def sql_takes(self) -> None:
        assert self.worker.take(5) == [self.chunk.chunk_id]
        self.assert_moved("PROCESSING")
        assert not self.is_held

    @precondition(lambda self: self.status in {*WAITING, "PROCESSING"} and not self.is_leased)
    @rule(done=st.booleans())
    def sql_finishes(self, done: bool) -> None:
        """Perhaps late, and the chunk waits again."""
        assert self.finish_by_sql(done=done) == 1
        self.assert_moved("DONE" if done else "ERROR")

    @precondition(lambda self: self.status == "PROCESSING" and not self.is_leased)
    @rule()
    def sql_requeues_what_is_stale(self) -> None:
        assert self.worker.requeue_stale(0) == 1
        self.assert_moved("QUEUED")

    @precondition(lambda self: self.status in FINISHED)
    @rule(status=waiting)
    def sql_requeues_by_hand(self, status: str) -> None:
        self.set_by_sql(status)
        self.assert_moved(status)
        self.given_up = None

    # fsck, operators, retention

    @precondition(lambda self: self.status in ALIVE and not self.is_leased and not self.given_up)
    @rule()
    def fsck_misses_the_file(self) -> None:
        assert self.mark_missing()
        self.given_up = self.row
        self.assert_moved("ERROR")

    @precondition(lambda self: self.given_up)
    @rule(status=waiting)
    def fsck_finds_the_file(self, status: str) -> None:
        """It is what it was; if it was in work, it waits. An upload does so too."""
        was = self.given_up["status"]
        now = was if was in FINISHED else status
        assert self.restore(status) == now
        self.assert_moved(now)
        assert self.row["error_message"] == self.given_up["error_message"]
        self.given_up = None

    @precondition(lambda self: self.status in {*FINISHED, "PROCESSING"} and not self.given_up)
    @rule(to=waiting)
    def requeue(self, to: str) -> None:
        assert self.requeue_chunks(to, self.status) == [(self.chunk.chunk_id, True)]
        self.assert_moved(to)
        assert self.row["attempts_forgiven"] == self.row["attempts"]
        assert self.row["error_message"] is None

    @precondition(lambda self: self.status in {*FINISHED, "PROCESSING"})
    @rule()
    def retention_marks(self) -> None:
        assert len(self.mark_pruned(self.status)) == 1
        self.assert_moved("PRUNED")
        self.given_up = None

    @precondition(lambda self: self.status == "PRUNED")
    @rule()
    def retention_deletes(self) -> None:
        self.delete_pruned()
        self.look()
        assert self.row is None
        self.remembered = max(self.remembered, self.before["attempts"])
        self.before = None

    # What changes nothing

    @rule(data=st.data())
    def in_vain(self, data: st.DataObject) -> None:
        moves = self.moves_in_vain()
        for name in data.draw(st.lists(st.sampled_from(sorted(moves)), min_size=4, max_size=4)):
            assert not moves[name](), name
        self.look()
        assert self.row == self.before

    def moves_in_vain(self) -> dict[str, Callable[[], Any]]:
        """What may be tried now; each returns whether it believes to have done something."""
        moves: dict[str, Callable[[], Any]] = {
            "extend late": lambda: self.extend_lease(late=1),
            "finish late": lambda: self.finish_chunk(late=1),
            "fail late": lambda: self.fail_chunk(late=1, retry=True),
            "no such status": lambda: self.set_by_sql("DOING") if self.row else None,
            "reset the fence": self.reset_the_fence,
            "requeue another": lambda: self.requeue_chunks("QUEUED", *self.other_statuses()),
        }
        if self.row:
            moves["upload"] = lambda: queries.chunks.insert_chunk(
                self.connection, self.chunk, status="QUEUED"
            )
        return moves | self.moves_out_of_turn()

    def moves_out_of_turn(self) -> dict[str, Callable[[], Any]]:
        """What would be right at another time."""
        moves: dict[str, Callable[[], Any]] = {}
        if self.status not in WAITING:
            moves |= {"claim by id": self.claim_one, "relay": self.mark_queued}
        if self.status != "QUEUED":
            moves |= {"claim": self.claim_any, "take": lambda: self.worker.take(5)}
        if not self.is_held:
            moves |= {"finish": lambda: self.finish_chunk(late=0), "expire": self.expire_leases}
        if self.is_leased:
            moves |= {"expire": self.expire_leases, "miss a file": self.mark_missing}
        if self.status != "PRUNED":
            moves["delete"] = self.delete_pruned
        if not self.given_up:
            moves["find a file"] = lambda: self.restore("QUEUED")
        else:
            moves["requeue without file"] = lambda: self.requeue_chunks("QUEUED", "ERROR")
        return moves | self.moves_by_sql()

    def moves_by_sql(self) -> dict[str, Callable[[], Any]]:
        moves: dict[str, Callable[[], Any]] = {}
        if self.status != "PROCESSING" or self.is_leased:
            moves["requeue stale"] = lambda: self.worker.requeue_stale(0) and not self.is_leased
        if self.is_leased or self.status in {*FINISHED, "PRUNED"}:
            # It takes one row for success, and so gets one.
            moves["done by SQL"] = lambda: self.finish_by_sql(done=True) != 1
            moves["error by SQL"] = lambda: self.finish_by_sql(done=False) != 1
        for _, to in sorted(move for move in REFUSED if move[0] == self.status):
            moves[f"set {to}"] = lambda to=to: self.set_by_sql(to)
        return moves

    def other_statuses(self) -> list[str]:
        return [status for status in ALIVE if status != self.status]

    # Each as it is really done

    def mark_queued(self) -> None:
        queries.stream.mark_queued(self.connection, [self.chunk.chunk_id])

    def expire_leases(self) -> Any:
        return queries.leases.expire_leases(self.connection, max_attempts=MAX_ATTEMPTS)

    def claim_any(self, lease: timedelta = LEASE) -> list[Any]:
        return queries.leases.claim_chunks(
            *(self.connection, Claim("http", 5, lease, None)),
            in_turn=2,
            after=(FIRST_ID, FIRST_ID),
            crowd=100,
        )

    def claim_one(self, lease: timedelta = LEASE) -> list[Any]:
        found = queries.leases.claim_chunk(
            self.connection, self.chunk.chunk_id, worker="http", lease=lease
        )
        return [found] if found else []

    def attempt(self, late: int) -> dict[str, Any]:
        """What a worker says that took the chunk so many attempts ago."""
        return {"attempt": (self.row["attempts"] if self.row else 1) - late}

    def extend_lease(self, late: int, lease: timedelta = LEASE) -> Any:
        ours = (self.connection, self.chunk.chunk_id)
        return queries.leases.extend_lease(*ours, **self.attempt(late), lease=lease)

    def finish_chunk(self, late: int) -> Any:
        ours = (self.connection, self.chunk.chunk_id)
        return queries.leases.finish_chunk(*ours, **self.attempt(late))

    def fail_chunk(self, late: int, retry: bool) -> Any:
        ours = (self.connection, self.chunk.chunk_id, Failure("no speech", retry))
        return queries.leases.fail_chunk(*ours, **self.attempt(late), max_attempts=MAX_ATTEMPTS)

    def finish_by_sql(self, *, done: bool) -> int:
        if done:
            return self.worker.done(self.chunk.chunk_id)
        return self.worker.error(self.chunk.chunk_id, f"error {next(self.numbers)}")

    def set_by_sql(self, status: str) -> bool:
        """Whether it was taken without an error."""
        try:
            self.connection.execute("UPDATE audio_chunks SET status = %s", [status])
        except psycopg.errors.CheckViolation:
            return False
        return not self.is_leased

    def reset_the_fence(self) -> bool:
        try:
            self.connection.execute("UPDATE audio_chunks SET attempts = attempts + 1")
        except psycopg.errors.CheckViolation:
            return False
        return self.row is not None

    def mark_missing(self) -> bool:
        return queries.files.mark_file_missing(self.connection, self.chunk.chunk_id)

    def restore(self, status: str) -> str | None:
        ours = (self.connection, self.chunk.chunk_id)
        return queries.files.restore_chunk(*ours, waiting_status=status)

    def requeue_chunks(self, to: str, *statuses: str) -> Any:
        selection = RequeueSelection(statuses, chunk_ids=(self.chunk.chunk_id,))
        return queries.queue.requeue_chunks(
            self.connection, selection, waiting_status=to, after=FIRST_ID, batch=5
        )

    def mark_pruned(self, status: str) -> list[Any]:
        ours = (self.connection, Selection((status,)))
        return queries.retention.mark_pruned(*ours, status=status, received_from=None, batch=5)

    def delete_pruned(self) -> None:
        queries.retention.delete_pruned(self.connection, [self.chunk.chunk_id])

    # What is true at any time

    @invariant()
    def the_fence_only_grows_and_only_when_it_is_taken(self) -> None:
        if self.row and self.before:
            attempts = self.before["attempts"]
            if self.status == "PROCESSING" != self.before["status"]:
                attempts = (attempts or self.remembered) + 1
            assert self.row["attempts"] == attempts

    @invariant()
    def what_is_finished_is_not_in_work_again(self) -> None:
        if self.row and self.before and self.before["status"] in FINISHED:
            assert self.status != "PROCESSING"

    @invariant()
    def what_retention_has_marked_goes_nowhere_else(self) -> None:
        if self.row and self.before and self.before["status"] == "PRUNED":
            assert self.status == "PRUNED"

    @invariant()
    def only_what_is_in_work_has_a_lease_and_a_beginning(self) -> None:
        if self.row:
            in_work = self.status == "PROCESSING"
            assert bool(self.row["processing_started_at"]) is in_work
            assert in_work or not self.row["lease_expires_at"]
            assert not self.row["lease_expires_at"] or self.row["worker"]

    @invariant()
    def only_what_is_finished_has_an_end(self) -> None:
        if self.row:
            assert bool(self.row["finished_at"]) is (self.status in FINISHED)

    @invariant()
    def no_more_attempts_are_forgiven_than_were_made(self) -> None:
        if self.row:
            assert 0 <= self.row["attempts_forgiven"] <= self.row["attempts"]

    @invariant()
    def what_has_no_file_is_not_waiting(self) -> None:
        if self.given_up:
            assert self.status == "ERROR"


@pytest.fixture(scope="module")
def machine(new_database: Callable[..., str]) -> Iterator[type[ChunkMachine]]:
    worker = SqlWorker(new_database())
    worker.connection.autocommit = True
    ids = {name: uuid4() for name in ("device_id", "point_id", "register_id")}
    device = devices.create_device(worker.connection, NewDevice(**ids), token=generate_token())
    shared = {"connection": worker.connection, "worker": worker, "device": device}
    yield type("ChunkMachine", (ChunkMachine,), shared)
    worker.connection.close()


def test_no_order_of_moves_breaks_a_rule(machine: type[ChunkMachine]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=30))
