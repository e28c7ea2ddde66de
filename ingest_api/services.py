"""What the views work with: made once by `create_app`, found through the current app."""

from dataclasses import dataclass
from typing import cast

from flask import current_app

from ingest_api.announcer import Announcer
from ingest_api.database import Database
from ingest_api.leases import Leases
from ingest_api.settings import Settings
from ingest_api.storage import Storage
from ingest_api.stored_files import StoredFiles

EXTENSION = "ingest_api"


@dataclass(frozen=True)
class Services:
    settings: Settings
    database: Database
    storage: Storage
    files: StoredFiles
    leases: Leases
    announcer: Announcer | None  # None: chunks are not announced in Redis


def services() -> Services:
    """Those of the app that is serving the current request."""
    return cast(Services, current_app.extensions[EXTENSION])
