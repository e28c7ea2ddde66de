"""Names inside a store, the same in every store."""

from datetime import UTC
from uuid import UUID

from ingest_api.models.chunks import Recording

RECORDINGS = "audio"
INCOMING = ".incoming"
LOST_AND_FOUND = ".lost+found"


def file_path_for(recording: Recording, chunk_id: UUID) -> str:
    """Return the path of a chunk's file, relative to the store."""
    start = recording.start_ts.astimezone(UTC).replace(microsecond=0, tzinfo=None)
    day, time = start.isoformat().split("T")
    hour = time[:2]
    stamp = f"{day}_{time}".replace("-", "").replace(":", "")
    folder = f"{RECORDINGS}/{recording.point_id}/{recording.register_id}/{day}/{hour}"
    return f"{folder}/chunk_{stamp}_{chunk_id}.ogg"
