"""A real service for tests: upload to it, and look at what it stored."""

import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import requests
from lab.service_process import ServiceProcess, clean_environ
from psycopg.rows import dict_row

from ingest_api.models.devices import Device
from ingest_api.tokens import generate_token, hash_token
from support.processes import eventually
from support.recorder import SPEECH, Recorder

__all__ = ["ADMIN_TOKEN", "INTERNAL_TOKEN", "Service", "clean_environ"]

ADMIN_TOKEN = "admin-token-of-the-tests"
INTERNAL_TOKEN = "internal-token-of-the-tests"


class Service(ServiceProcess):
    """A running service with what tests ask of it."""

    def __init__(self, folder: Path, database_url: str, **settings: str) -> None:
        own = {
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "INTERNAL_TOKEN": INTERNAL_TOKEN,
            "WORKERS": "2",
            "MIN_FREE_BYTES": "1048576",
        }
        super().__init__(folder, database_url, own | settings)

    def log(self) -> list[dict[str, Any]]:
        whole, _, _ = self.log_path.read_text().rpartition("\n")  # a line may be just being written
        return [json.loads(line) for line in whole.splitlines()]

    def recorder(self, **changes: Any) -> Recorder:
        """Register a device directly in the database, whatever version made the schema."""
        token = changes.pop("token", generate_token())
        ids = {name: uuid4() for name in ("device_id", "point_id", "register_id")} | changes
        with self.connect() as connection:
            [row] = connection.execute(
                "INSERT INTO devices (device_id, point_id, register_id, token_hash)"
                " VALUES (%s, %s, %s, %s) RETURNING"
                " device_id, point_id, register_id, is_enabled, created_at, last_seen_at",
                [ids["device_id"], ids["point_id"], ids["register_id"], hash_token(token)],
            )
        return Recorder(Device(*row), token)

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.database_url, autocommit=True)

    def upload(
        self,
        recorder: Recorder,
        data: bytes = SPEECH,
        *,
        filename: str = "chunk_20260128_100000.ogg",
        session: Any = requests,
        headers: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> requests.Response:
        return session.post(
            f"{self.url}/api/v1/chunks",
            data=recorder.form(**changes),
            files={"chunk_file": (filename, data, "audio/ogg")},
            headers=recorder.headers if headers is None else headers,
            timeout=60,
        )

    def upload_at_once(
        self, recorder: Recorder, chunks: Sequence[bytes]
    ) -> list[requests.Response]:
        """Upload each over a connection of its own; each must be answered within 5 s."""
        with ThreadPoolExecutor(len(chunks)) as threads:
            answers = list(threads.map(partial(self.upload, recorder), chunks))
        assert max(answer.elapsed for answer in answers) < timedelta(seconds=5)
        return answers

    def health(self) -> tuple[int, dict[str, Any]]:
        """Return status and body of /health, which must answer within 3 s."""
        response = requests.get(f"{self.url}/health", timeout=10)
        assert response.elapsed < timedelta(seconds=3)
        return response.status_code, response.json()

    def forget_everything(self) -> None:
        """Remove all chunks and devices, and everything in the storage."""
        with self.connect() as connection:
            connection.execute(
                "TRUNCATE audio_chunks, devices, pruned_chunks, points, recorded_hours, refusals"
            )
        for folder in filter(Path.is_dir, self.storage.iterdir()):
            shutil.rmtree(folder)

    def end_its_connections(self) -> None:
        """Terminate the service's sessions, as an administrator may, and wait until they are gone.

        A statement sent while its session is ending fails, and the upload gets a 503.
        """
        its_own = "datname = current_database() AND application_name = 'ingest_api'"
        with self.connect() as connection:
            end = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {its_own}"
            eventually(lambda: connection.execute(end).fetchone()[0] == 0)

    def rows(self, recorder: Recorder) -> list[dict[str, Any]]:
        with self.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(
                "SELECT * FROM audio_chunks WHERE device_id = %s ORDER BY chunk_id",
                [recorder.device.device_id],
            ).fetchall()

    def files(self, recorder: Recorder) -> list[Path]:
        folder = self.storage / "audio" / str(recorder.device.point_id)
        return sorted(path for path in folder.rglob("*") if path.is_file())

    def temporary_files(self) -> list[Path]:
        return list((self.storage / ".incoming").glob("*"))

    def assert_nothing_left(self, recorder: Recorder) -> None:
        """Assert that a refused upload left no row and no file, and that the service is well."""
        assert self.rows(recorder) == []
        assert self.files(recorder) == []
        eventually(lambda: not self.temporary_files())
        assert requests.get(f"{self.url}/health", timeout=5).json()["status"] == "ok"
