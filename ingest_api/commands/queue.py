"""`flask ingest queue`."""

import json
from datetime import datetime
from typing import Any

import click
from psycopg import IsolationLevel

from ingest_api.commands.context import opened, require_schema
from ingest_api.commands.output import WATCH_SECONDS, columns, repeat
from ingest_api.commands.parameters import as_json_option, require_watch, watch_options
from ingest_api.display import age, printable
from ingest_api.models.chunks import ChunkStatus
from ingest_api.models.queue import QueueState
from ingest_api.schemas.fields import rfc3339
from ingest_api.usecases.queue_state import COUNTABLE, WAITING, QueueSnapshot, look


@click.command()
@watch_options
@as_json_option
def queue(watch: bool, every: int | None, as_json: bool) -> None:
    """Show the queue: chunks by status, throughput and workers.

    \b
    UPLOADED    waits to be announced in Redis
    QUEUED      waits for a worker
    PROCESSING  claimed by a worker; the next claim takes back expired leases
    DONE        finished
    ERROR       marked as failed
    PRUNED      retention is removing it

    Workers that use plain SQL leave no name and are shown as one. Up to 100,000 chunks each of DONE
    and ERROR are counted; larger numbers, and statuses left by the earlier service, are estimates
    from PostgreSQL's statistics.

    --json prints one object, with --watch one per line: times as in RFC 3339, ages in seconds.
    """
    require_watch(watch, every)
    with opened() as (components, connection):
        require_schema(components, connection)
        # One snapshot, so that the numbers agree.
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        if watch:
            seconds = every or WATCH_SECONDS
            repeat(lambda: _told(look(connection), as_json), seconds, as_json=as_json)
        else:
            click.echo(_told(look(connection), as_json))


def _told(snapshot: QueueSnapshot, as_json: bool) -> str:
    if as_json:
        return json.dumps(_as_json(snapshot))
    blocks = (_state_lines(snapshot), _hour_lines(snapshot), _worker_lines(snapshot))
    return "\n\n".join("\n".join(block) for block in blocks)


def _as_json(snapshot: QueueSnapshot) -> dict[str, Any]:
    states, since = snapshot.states, snapshot.seconds_since
    in_work = states[ChunkStatus.PROCESSING]
    return {
        "time": rfc3339(snapshot.at),
        "states": {status: state.chunks for status, state in states.items()},
        "estimated": [status for status, state in states.items() if state.estimated],
        "waiting": {status: _waiting_as_json(snapshot, states[status]) for status in WAITING},
        "in_work": {
            "oldest_seconds": since(in_work.oldest_taken),
            "expired_leases": in_work.expired_leases,
        },
        "last_hour": snapshot.last_hour,
        "empty_in_seconds": snapshot.empty_in_seconds,
        "workers": [
            {
                "worker": worker.worker,
                "in_work": worker.in_work,
                "oldest_seconds": since(worker.oldest_taken),
                "done": worker.done,
                "error": worker.error,
            }
            for worker in snapshot.workers
        ],
    }


def _waiting_as_json(snapshot: QueueSnapshot, state: QueueState) -> dict[str, Any]:
    return {
        "oldest_recording": state.oldest_recording and rfc3339(state.oldest_recording),
        "longest_seconds": snapshot.seconds_since(state.oldest_received),
    }


def _state_lines(snapshot: QueueSnapshot) -> list[str]:
    rows = [("STATUS", "CHUNKS", "")]
    for state in snapshot.states.values():
        rows.append((printable(state.status), _number(state), _details(snapshot, state)))
    return columns(rows, (False, True, False))


def _number(state: QueueState) -> str:
    if not state.estimated:
        return f"{state.chunks:,}"
    # Before the first statistics, the count is all that is known.
    return f"over {state.chunks:,}" if state.chunks == COUNTABLE else f"about {state.chunks:,}"


def _details(snapshot: QueueSnapshot, state: QueueState) -> str:
    if state.oldest_taken:
        oldest = f"oldest in progress for {_age(snapshot.seconds_since(state.oldest_taken))}"
        expired = f"{state.expired_leases:,} with an expired lease"
        return f"{oldest}; {expired}" if state.expired_leases else oldest
    if state.oldest_recording and state.oldest_received:
        recorded = _instant(state.oldest_recording)
        waits = _age(snapshot.seconds_since(state.oldest_received))
        return f"oldest recorded {recorded}; longest wait {waits}"
    return ""


def _hour_lines(snapshot: QueueSnapshot) -> list[str]:
    counts = ", ".join(f"{number:,} {what}" for what, number in snapshot.last_hour.items())
    return [f"last hour: {counts}; {_prospects(snapshot)}"]


def _prospects(snapshot: QueueSnapshot) -> str:
    if not snapshot.waiting:
        return "nothing is waiting"
    if snapshot.empty_in_seconds is not None:
        return f"at this rate the queue is empty in {age(snapshot.empty_in_seconds)}"
    if snapshot.growth:
        return f"at this rate the queue grows by {snapshot.growth:,} an hour"
    return "at this rate the queue stays as long as it is"


def _worker_lines(snapshot: QueueSnapshot) -> list[str]:
    if not snapshot.workers:
        return ["no worker has a chunk, or has finished one in the last hour"]
    rows = [("WORKER", "IN PROGRESS", "OLDEST", "DONE/H", "ERROR/H")]
    for worker in snapshot.workers:
        name = "(plain SQL)" if worker.worker is None else printable(worker.worker)
        oldest = _age(snapshot.seconds_since(worker.oldest_taken))
        numbers = (f"{worker.in_work:,}", oldest, f"{worker.done:,}", f"{worker.error:,}")
        rows.append((name, *numbers))
    return columns(rows, (False, True, True, True, True))


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else age(seconds)


def _instant(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"
