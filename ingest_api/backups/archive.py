"""What is in a dump: which entries to restore, and the grants that it had.

A dump may have more than the service's own objects, such as another program's tables, extensions
and policies. Those refer to roles and libraries that a new machine may lack, so they must never
keep the service's own tables from being restored.
"""

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest_api.backups.manifest import BackupError

RELATIONS = (
    *("audio_chunks", "devices", "maintenance_runs", "points", "pruned_chunks"),
    *("recorded_hours", "refusals", "schema_migrations"),
)
FUNCTIONS = (
    *("believed_end", "device_state", "hours_of", "keep_attempts", "may_prune"),
    *("minutes_between", "move_chunk"),
)
_OWNERS_TABLE = "audio_chunks"
_ON_RELATIONS = {
    *("TABLE", "TABLE DATA", "DEFAULT"),
    *("CHECK CONSTRAINT", "CONSTRAINT", "FK CONSTRAINT"),
}
_LINE = re.compile(r"\d+; \d+ \d+ (?P<text>.*)")
_KIND = re.compile(r"[A-Z]{2,}(?: [A-Z]{2,})*(?= )")
_FOREIGN = {
    *("EVENT TRIGGER", "EXTENSION", "FOREIGN DATA WRAPPER", "FOREIGN TABLE", "POLICY"),
    *("PUBLICATION", "PUBLICATION TABLE", "SERVER", "SUBSCRIPTION", "USER MAPPING"),
}
_INDEX = re.compile(rf" (ix_)?({'|'.join(RELATIONS)})_\w+ ")
_COMMENT = re.compile(rf" (TABLE|COLUMN) ({'|'.join(RELATIONS)})[ .]")
_GRANTS = {"ACL", "DEFAULT ACL"}
_STATEMENT = re.compile(r"(?:GRANT|REVOKE|ALTER DEFAULT PRIVILEGES) .*;")


@dataclass(frozen=True)
class Entry:
    """A line of `pg_restore --list`."""

    line: str
    kind: str  # such as TABLE DATA
    rest: str  # schema, name and owner

    @classmethod
    def parse(cls, line: str) -> "Entry | None":
        found = _LINE.fullmatch(line)
        kind = found and _KIND.match(found["text"])
        if not (found and kind):
            return None
        return cls(line, kind[0], found["text"][kind.end() + 1 :])

    def names(self, *names: str) -> bool:
        """Return whether it is of an object with one of these names, or within it."""
        words = self.rest.split(" ")
        return len(words) > 1 and words[1].partition("(")[0] in names

    def is_essential(self) -> bool:
        """Return whether the service cannot do without it."""
        if self.kind == "FUNCTION":
            return self.names(*FUNCTIONS)
        if self.kind == "TRIGGER":
            return self.names(*RELATIONS) and self.rest.split(" ")[2] in FUNCTIONS
        if self.kind == "INDEX":
            return bool(_INDEX.search(self.rest))
        if self.kind == "COMMENT":
            return bool(_COMMENT.search(self.rest))
        return self.kind in _ON_RELATIONS and self.names(*RELATIONS)

    def is_grant(self) -> bool:
        return self.kind in _GRANTS

    def shown(self) -> str:
        return f"{self.kind} {self.rest.rpartition(' ')[0]}".removesuffix(" ")


def read_entries(dump: Path) -> list[Entry]:
    """Return what is in the dump. Raise BackupError if it cannot be read."""
    lines = _run("--list", dump=dump).splitlines()
    return [entry for entry in map(Entry.parse, lines) if entry]


def selections(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Yield ever fewer entries to restore: all; those of the owner of the service's tables that
    need nothing from outside the database; those that the service cannot do without."""
    entries = [entry for entry in entries if not entry.is_grant()]
    yield entries
    tables = (e for e in entries if e.kind == "TABLE" and e.names(_OWNERS_TABLE))
    owner = next((entry.rest.rpartition(" ")[2] for entry in tables), "")
    yield [e for e in entries if e.kind not in _FOREIGN and e.rest.endswith(f" {owner}")]
    yield [entry for entry in entries if entry.is_essential()]


def left_out(entries: list[Entry], restored: list[Entry]) -> list[str]:
    """Return what was not restored, for people."""
    gone = set(entries) - set(restored)
    return [entry.shown() for entry in entries if entry in gone and not entry.is_grant()]


def read_grants(dump: Path) -> list[str]:
    """Return the statements that make the dump's grants again, also those on columns."""
    grants = [entry for entry in read_entries(dump) if entry.is_grant()]
    if not grants:
        return []
    script = _run("--schema-only", "--use-list=/dev/stdin", "--file=-", dump=dump, chosen=grants)
    return [line for line in script.splitlines() if _STATEMENT.fullmatch(line)]


def _run(*options: str, dump: Path, chosen: Sequence[Entry] = ()) -> str:
    command = ["pg_restore", *options, str(dump)]
    run = subprocess.run(
        command,
        input="".join(f"{entry.line}\n" for entry in chosen),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise BackupError(f"{dump} cannot be read: {run.stderr.strip()}", "use another backup")
    return run.stdout
