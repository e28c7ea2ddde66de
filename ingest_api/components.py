"""Builds the parts of a process once, from the settings: for views and commands."""

from dataclasses import dataclass
from typing import cast

from flask import current_app

from ingest_api.database.migrations import refuse_old_schema
from ingest_api.database.pool import Database
from ingest_api.metrics import Metrics
from ingest_api.settings import Settings
from ingest_api.storage.disk.storage import DiskStorage
from ingest_api.storage.disk.temporary import TemporaryFile
from ingest_api.stream.announcer import Announcer
from ingest_api.usecases.leases import Leases
from ingest_api.usecases.refusals import Refusals
from ingest_api.usecases.replays import Replays
from ingest_api.usecases.uploads import Uploads

EXTENSION = "ingest_api"


@dataclass(frozen=True)
class Components:
    """Resources and use cases. Nothing is connected or touched before its first use."""

    settings: Settings
    database: Database
    storage: DiskStorage
    uploads: Uploads[TemporaryFile]
    leases: Leases
    refusals: Refusals
    metrics: Metrics
    replays: Replays

    @classmethod
    def build(cls, settings: Settings) -> "Components":
        """Build every part from the settings."""
        metrics = Metrics()
        database = Database(settings, configure=refuse_old_schema, on_wait=metrics.count_wait)
        storage = DiskStorage(settings.audio_storage_dir, min_free_bytes=settings.min_free_bytes)
        return cls(
            settings=settings,
            database=database,
            storage=storage,
            uploads=Uploads(
                storage,
                database,
                Announcer(settings) if settings.queue_backend == "redis" else None,
                waiting_status=settings.waiting_status,
                max_bytes=settings.max_upload_size_bytes,
            ),
            leases=Leases(database, max_attempts=settings.max_attempts),
            refusals=Refusals(database),
            metrics=metrics,
            replays=Replays(storage, database),
        )


def components() -> Components:
    """Return the components of the app that serves the current request."""
    return cast(Components, current_app.extensions[EXTENSION])
