"""One function for each file of `sql/queries/<noun>/`, under the same name: values in, nouns out.

No decisions here. Errors are psycopg's.
"""

from ingest_api.database.queries import (
    backups,
    chunks,
    devices,
    files,
    leases,
    queue,
    retention,
    server,
    stream,
)

__all__ = [
    "backups",
    "chunks",
    "devices",
    "files",
    "leases",
    "queue",
    "retention",
    "server",
    "stream",
]
