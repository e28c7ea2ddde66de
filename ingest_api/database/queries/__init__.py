"""One function a file of `sql/queries`, under the same name: parameters in, rows out.

No decisions here. Errors are psycopg's.
"""

from ingest_api.database.queries import (
    backups,
    chunks,
    devices,
    files,
    leases,
    queue,
    server,
    stream,
)

__all__ = ["backups", "chunks", "devices", "files", "leases", "queue", "server", "stream"]
