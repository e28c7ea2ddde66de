"""What the tests of the queue share: a worker that speaks HTTP, and one as those in the field are,
which knows nothing but plain SQL."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import requests

from support.recorder import Recorder
from support.service import INTERNAL_TOKEN, Service

HEADERS = {"Authorization": f"Bearer {INTERNAL_TOKEN}"}
START = datetime(2026, 1, 28, 10, tzinfo=UTC)


class HttpWorker:
    """A worker on another machine."""

    def __init__(self, service: Service, name: str = "worker-1") -> None:
        self.name = name
        self.session = requests.Session()
        self.session.headers.update(HEADERS)
        self._base = f"{service.url}/api/v1/internal"

    def post(self, path: str, **body: Any) -> requests.Response:
        return self.session.post(f"{self._base}/{path}", json=body, timeout=30)

    def get(self, chunk_id: Any, **headers: str) -> requests.Response:
        return self.session.get(f"{self._base}/chunks/{chunk_id}", headers=headers, timeout=30)

    def get_file(self, chunk_id: Any, **headers: str) -> requests.Response:
        url = f"{self._base}/chunks/{chunk_id}/file"
        return self.session.get(url, headers=headers, timeout=30)

    def claim(self, limit: int = 1, **more: Any) -> list[dict[str, Any]]:
        response = self.post("claim", **{"worker": self.name, "limit": limit} | more)
        assert response.status_code == 200, response.text
        return response.json()["chunks"]

    def done(self, chunk: dict[str, Any]) -> requests.Response:
        return self.post(f"chunks/{chunk['chunk_id']}/done", attempt=chunk["attempt"])

    def error(self, chunk: dict[str, Any], message: str, *, retry: bool) -> requests.Response:
        path = f"chunks/{chunk['chunk_id']}/error"
        return self.post(path, attempt=chunk["attempt"], message=message, retry=retry)

    def extend(self, chunk: dict[str, Any], seconds: int) -> requests.Response:
        path = f"chunks/{chunk['chunk_id']}/extend"
        return self.post(path, attempt=chunk["attempt"], lease_sec=seconds)


class SqlWorker:
    """A worker on the same machine, sending what the workers in the field send."""

    def __init__(self, database_url: str) -> None:
        self.connection = psycopg.connect(database_url)

    def take(self, limit: int) -> list[UUID]:
        with self.connection.transaction():
            rows = self.connection.execute(
                "SELECT chunk_id FROM audio_chunks WHERE status='QUEUED' "
                "ORDER BY start_ts LIMIT %s FOR UPDATE SKIP LOCKED",
                [limit],
            ).fetchall()
            taken = [row[0] for row in rows]
            self.connection.execute(
                "UPDATE audio_chunks SET status='PROCESSING', processing_started_at=now() "
                "WHERE chunk_id = ANY(%s)",
                [taken],
            )
        return taken

    def done(self, chunk_id: UUID) -> int:
        return self._send(
            "UPDATE audio_chunks SET status='DONE', processing_started_at=NULL WHERE chunk_id=%s",
            chunk_id,
        )

    def error(self, chunk_id: UUID, message: str) -> int:
        return self._send(
            "UPDATE audio_chunks SET status='ERROR', error_message=%s, "
            "processing_started_at=NULL WHERE chunk_id=%s",
            message,
            chunk_id,
        )

    def requeue_stale(self, seconds: float) -> int:
        return self._send(
            "UPDATE audio_chunks SET status='QUEUED', processing_started_at=NULL "
            "WHERE status='PROCESSING' AND processing_started_at < now() - %s",
            timedelta(seconds=seconds),
        )

    def _send(self, statement: str, *values: Any) -> int:
        with self.connection.transaction():
            return self.connection.execute(statement, values).rowcount


def upload_chunks(service: Service, recorder: Recorder, minutes: Sequence[int]) -> list[str]:
    """One chunk for each of these minutes after ten; their ids."""
    ids = []
    with requests.Session() as session:
        for minute in minutes:
            start = START + timedelta(minutes=minute)
            end = start + timedelta(seconds=60)
            response = service.upload(
                recorder,
                b"OggS" + str(start).encode(),
                session=session,
                start_ts=start.isoformat(),
                end_ts=end.isoformat(),
            )
            assert response.status_code == 200, response.text
            ids.append(response.json()["chunk_id"])
    return ids


def row(service: Service, chunk_id: Any, columns: str = "*") -> dict[str, Any]:
    """What the table holds of a chunk."""
    with service.connect() as connection:
        cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
        found = cursor.execute(
            f"SELECT {columns} FROM audio_chunks WHERE chunk_id = %s", [chunk_id]
        )
        return found.fetchall()[0]


def let_leases_expire(service: Service) -> None:
    """As if their time had passed."""
    with service.connect() as connection:
        connection.execute(
            "UPDATE audio_chunks SET lease_expires_at = now() - interval '1 s' "
            "WHERE lease_expires_at IS NOT NULL"
        )
