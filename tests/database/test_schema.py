"""The schema as the migrations make it: the page that shows it, and the nouns that mirror it."""

import os
from dataclasses import fields
from pathlib import Path

import psycopg
import pytest
from support.schema_page import schema_page

from ingest_api.models.chunks import ChunkProgress
from ingest_api.models.devices import Device
from ingest_api.models.server import AppliedMigration

PAGE = Path(__file__).parents[2] / "sql" / "schema.sql"
UNSHOWN = {
    "audio_chunks": {
        *("attempts_forgiven", "error_message_before", "file_missing_since", "status_before"),
    },
    "devices": {
        *("token_hash", "recorded_until", "recording_since", "clock_offset", "disabled_at"),
    },
    "schema_migrations": set(),
}
"""Columns that only statements use. A new column is shown, or is named here."""


def test_one_page_shows_the_schema(database_url: str) -> None:
    page = schema_page(database_url)
    if os.environ.get("WRITE_SCHEMA"):
        PAGE.write_text(page)
    rewrite = "WRITE_SCHEMA=1 ./scripts/test tests/database/test_schema.py"
    assert PAGE.read_text() == page, f"sql/schema.sql is not what the migrations make: {rewrite}"


@pytest.mark.parametrize(
    ("table", "noun"),
    [("audio_chunks", ChunkProgress), ("devices", Device), ("schema_migrations", AppliedMigration)],
)
def test_a_noun_has_the_columns_of_its_table(database_url: str, table: str, noun: type) -> None:
    with psycopg.connect(database_url) as connection:
        description = connection.execute(f"SELECT * FROM {table} LIMIT 0").description or []
    shown = {column.name for column in description} - UNSHOWN[table]
    assert {field.name for field in fields(noun)} - {"point_name"} == shown


def test_a_running_service_goes_on_when_a_newer_version_adds_columns(start_service) -> None:
    """An upgrade migrates first and restarts the service after. Until then statements that were
    prepared on the server before must still have the result that they had."""
    service = start_service(WORKERS="1", DATABASE_POOL_SIZE="1")
    recorder = service.recorder()

    def use() -> None:
        for number in range(8):  # psycopg prepares at the sixth time
            assert service.upload(recorder, b"%d" % number).status_code == 200

    use()
    with service.connect() as connection:
        for table in ("devices", "audio_chunks", "pruned_chunks"):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN of_the_future text")
    use()
