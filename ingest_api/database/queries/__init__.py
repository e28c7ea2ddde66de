"""One function for each file of `sql/queries/<noun>/`, under the same name: values in, nouns out.

No decisions here. Errors are psycopg's.
"""

from ingest_api.database.queries import (
    backups,
    chunks,
    coverage,
    devices,
    files,
    fleet,
    leases,
    ledger,
    maintenance,
    points,
    queue,
    refusals,
    retention,
    server,
    stream,
)

__all__ = [
    "backups",
    "chunks",
    "coverage",
    "devices",
    "files",
    "fleet",
    "leases",
    "ledger",
    "maintenance",
    "points",
    "queue",
    "refusals",
    "retention",
    "server",
    "stream",
]
