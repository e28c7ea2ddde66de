"""How a chunk is named, without a service around it."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from ingest_api.models.chunks import Recording
from ingest_api.storage.layout import file_path_for
from ingest_api.usecases.uploads import chunk_id_for

DEVICE = UUID("11111111-2222-4333-8444-555555555555")
START = datetime(2026, 1, 28, 10, tzinfo=UTC)


def test_an_id_never_changes() -> None:
    """Agents in the field may send again what an earlier version stored."""
    expected = UUID("019c040b-ad00-864c-9a98-7267ad2cc2d3")
    assert chunk_id_for(DEVICE, START, b"\x00" * 32) == expected


def test_an_id_depends_on_all_that_makes_an_upload() -> None:
    other = UUID("11111111-2222-4333-8444-555555555556")
    ids = {
        chunk_id_for(DEVICE, START, b"\x00" * 32),
        chunk_id_for(other, START, b"\x00" * 32),
        chunk_id_for(DEVICE, START + timedelta(microseconds=1), b"\x00" * 32),
        chunk_id_for(DEVICE, START, b"\x01" * 32),
    }
    assert len(ids) == 4
    assert all(chunk_id.version == 8 for chunk_id in ids)


def test_times_of_any_age_make_valid_ids_and_paths() -> None:
    for start, stamp in (
        (datetime(1, 1, 1, tzinfo=UTC), "00010101_000000"),
        (datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "19691231_235959"),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), "99991231_235959"),
    ):
        chunk_id = chunk_id_for(DEVICE, start, b"\x00" * 32)
        assert (chunk_id.version, chunk_id.variant) == (8, "specified in RFC 4122")
        recording = Recording(DEVICE, DEVICE, DEVICE, start, start, "opus", 48000, 1)
        assert f"/chunk_{stamp}_{chunk_id}.ogg" in file_path_for(recording, chunk_id)
