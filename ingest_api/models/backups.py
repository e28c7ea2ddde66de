"""What backups are made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ListedFile:
    """A file that a backup has or is to have: what a row says of it."""

    path: str  # relative to AUDIO_STORAGE_DIR
    size: int  # bytes
    sha256: bytes | None  # None: a row of the earlier service


@dataclass(frozen=True)
class Relation:
    """A table, view or sequence of the database."""

    schema: str
    name: str

    def pattern(self) -> str:
        """Return it as pg_dump's options take it: quoted, so that nothing in it is a wildcard."""
        parts = (part.replace('"', '""') for part in (self.schema, self.name))
        return ".".join(f'"{part}"' for part in parts)


@dataclass(frozen=True)
class BackupSummary:
    """What a complete backup says of itself, in `backup.json`."""

    time: str  # of the snapshot, ISO 8601 in UTC
    version: str  # of this service
    migration: int  # the last that was applied; 0: none
    postgresql: int  # the server's version, such as 150018
    chunks: int  # rows that promise a file
    files: int
    bytes: int  # of all the files
    new_files: int  # that no backup had before
    new_bytes: int
    missing: int  # files that rows promise and that were not there, or not whole
    dump_bytes: int
    dump_sha256: str  # in hex
    list_sha256: str  # of `files`
    seconds: float
    left_out: tuple[str, ...] = ()  # relations of other roles that could not be read

    def is_plausible(self) -> bool:
        """Return whether every value is of its type, as after reading it from a file."""
        texts = (self.time, self.version, self.dump_sha256, self.list_sha256)
        numbers = (
            *(self.migration, self.postgresql, self.chunks, self.files, self.bytes),
            *(self.new_files, self.new_bytes, self.missing, self.dump_bytes),
        )
        return (
            all(isinstance(text, str) for text in (*texts, *self.left_out))
            and all(type(number) is int and number >= 0 for number in numbers)
            and isinstance(self.seconds, int | float)
        )
