"""From a row to its file: never to that of another chunk, whatever the row says."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from ingest_api.models.chunks import ChunkFile
from ingest_api.storage.layout import file_path_for, is_foreign, path_of

ROOT = "/var/lib/ingest"
ID, OTHER = UUID(int=1), UUID(int=2)
OWN = f"audio/{UUID(int=7)}/{UUID(int=8)}/2026-01-28/10/chunk_20260128_100000_{ID}.ogg"  # its place


def _row(file_path: str, sha256: bytes | None = bytes(32)) -> ChunkFile:
    start = datetime(2026, 1, 28, 10, tzinfo=UTC)
    return ChunkFile(
        *(ID, UUID(int=7), UUID(int=8), start, file_path, 1, sha256, "DONE", None),
    )


def test_its_own_place() -> None:
    assert file_path_for(_row(""), ID) == OWN


@pytest.mark.parametrize("sha256", [None, bytes(32)])
@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "..", "/", "/etc/passwd", "../x", "audio/../../x", f"{ROOT}/../x", "//x"),
        *(f"audio/{ID}/../chunk_{OTHER}.ogg", f"audio/chunk_{OTHER}.ogg", f"/x_{ID}.ogg"),
        *(f".incoming/_{ID}.ogg", f".lost+found/x/_{ID}.ogg", f"./.incoming/_{ID}.ogg"),
        *(f"audio/_{ID}.ogg/_{OTHER}.ogg", f"{ROOT}/{ROOT}/_{ID}.ogg"),
    ],
)
def test_what_leads_elsewhere_leads_to_its_own_place(path: str, sha256: bytes | None) -> None:
    assert is_foreign(_row(path, sha256), ROOT)
    assert path_of(_row(path, sha256), ROOT) == OWN


def test_a_path_that_names_no_chunk_is_the_earlier_service_s() -> None:
    assert path_of(_row("audio/a.ogg", None), ROOT) == "audio/a.ogg"
    assert path_of(_row("audio/a.ogg"), ROOT) == OWN


@pytest.mark.parametrize("spelling", ["{}", "./{}", f"{ROOT}/{{}}", f"{ROOT}/x/../{{}}"])
@pytest.mark.parametrize("path", [OWN, f"audio/elsewhere/chunk_{ID}.ogg"])
def test_a_file_named_after_the_chunk_is_its_own(spelling: str, path: str) -> None:
    assert path_of(_row(spelling.format(path)), ROOT) == path
    assert not is_foreign(_row(spelling.format(path)), ROOT)


def test_nothing_else_makes_a_path_of_a_row() -> None:
    package = Path(__file__).parents[2] / "ingest_api"
    users = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if ".file_path" in file.read_text()
    }
    assert users == {
        "commands/fsck.py",  # of a finding
        "database/queries/files.py",  # to find the row that is to be corrected
        "schemas/uploads.py",  # the receipt, whose path the use case has made
        "storage/layout.py",
        "usecases/fsck.py",  # of a finding
        "stream/client.py",
        "usecases/retention.py",  # which other rows spell theirs the same way
    }
