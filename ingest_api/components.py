"""What the views work with: made once by `create_app`, found through the current app."""

from dataclasses import dataclass
from typing import cast

from flask import current_app

from ingest_api.database.migrations import refuse_old_schema
from ingest_api.database.pool import Database
from ingest_api.settings import Settings
from ingest_api.storage.disk.storage import DiskStorage
from ingest_api.storage.disk.upkeep import StoredFiles
from ingest_api.stream.announcer import Announcer
from ingest_api.usecases.leases import Leases

EXTENSION = "ingest_api"


@dataclass(frozen=True)
class Components:
    settings: Settings
    database: Database
    storage: DiskStorage
    files: StoredFiles
    leases: Leases
    announcer: Announcer | None  # None: chunks are not announced in Redis

    @classmethod
    def build(cls, settings: Settings) -> "Components":
        """Build every part from the settings; connects to nothing yet."""
        database = Database(settings, configure=refuse_old_schema)
        return cls(
            settings=settings,
            database=database,
            storage=DiskStorage(settings),
            files=StoredFiles(settings.audio_storage_dir),
            leases=Leases(database, max_attempts=settings.max_attempts),
            announcer=Announcer(settings) if settings.queue_backend == "redis" else None,
        )


def components() -> Components:
    """Those of the app that is serving the current request."""
    return cast(Components, current_app.extensions[EXTENSION])
