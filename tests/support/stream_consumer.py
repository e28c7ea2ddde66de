"""A worker that is told of chunks by the stream: one of a group, as the README describes it.

    python stream_consumer.py REDIS_URL DATABASE_URL NAME [dying]

Takes over what others left after half a second. `dying`: takes a few, and never finishes them.
"""

import sys
import time
from typing import Any

import psycopg
import redis

STREAM, GROUP = "ingest:chunks", "workers"


def main(redis_url: str, database_url: str, name: str, manner: str = "") -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    with psycopg.connect(database_url, autocommit=True) as connection:
        while True:
            try:
                entries = _take(client, name)
            except redis.ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
                continue
            print(len(entries), flush=True)
            if manner == "dying" and entries:
                time.sleep(60)
            for number, fields in entries:
                _work(connection, fields["chunk_id"], name)
                client.xack(STREAM, GROUP, number)


def _take(client: Any, name: str) -> list[tuple[str, dict[str, str]]]:
    _, left, *_ = client.xautoclaim(STREAM, GROUP, name, min_idle_time=500, count=10)
    if left:
        return [entry for entry in left if entry[1]]
    new = client.xreadgroup(GROUP, name, {STREAM: ">"}, count=10, block=100)
    return new[0][1] if new else []


def _work(connection: psycopg.Connection[Any], chunk_id: str, name: str) -> None:
    """The row decides: what is finished is not done again."""
    taken = connection.execute(
        "UPDATE audio_chunks SET status = 'PROCESSING', worker = %s"
        " WHERE chunk_id = %s AND status IN ('UPLOADED', 'QUEUED', 'PROCESSING')",
        [name, chunk_id],
    )
    if taken.rowcount:
        connection.execute(
            "UPDATE audio_chunks SET status = 'DONE' WHERE chunk_id = %s", [chunk_id]
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
