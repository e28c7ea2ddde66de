"""The PostgreSQL server, as a session sees it, and the migrations that its database has had."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class AppliedMigration:
    """A row of `schema_migrations`."""

    version: int
    name: str
    sha256: str
    applied_at: datetime


@dataclass(frozen=True)
class ServerSetting:
    """A setting of PostgreSQL, and where its value comes from: a row of `pg_settings`."""

    name: str
    value: str
    source: str


@dataclass(frozen=True)
class Session:
    """Who this session is to PostgreSQL, and its limits. -1: no limit."""

    role: str
    database: str
    is_superuser: bool
    role_connection_limit: int
    database_connection_limit: int
    in_recovery: bool  # a standby, which cannot be written


@dataclass(frozen=True)
class MaintenanceRun:
    """When a maintenance command was last complete."""

    name: str  # backup or fsck
    finished_at: datetime


@dataclass(frozen=True)
class Grant:
    """What a role may do to a whole table."""

    role: str
    privilege: str
    table_name: str
