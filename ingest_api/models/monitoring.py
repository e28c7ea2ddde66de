"""Figures of the ledger for whoever watches the service."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LedgerFigures:
    """The ledger at one moment. Times are in seconds; None: there is nothing to tell."""

    devices: dict[str, int]  # by state
    chunks: dict[str, int]  # by status
    oldest_waiting: float | None
    expired_leases: int
    coverage: float | None  # 0 to 1, of the hour until 10 minutes ago
    free_bytes: int | None
    schema_version: int
    backup_age: float | None
    fsck_age: float | None
