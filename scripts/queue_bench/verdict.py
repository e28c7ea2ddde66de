"""The verdict on the benchmark's workers: what recorders and workers were told, held against the
rows. Reads the database and the notes, and trusts nothing else.

How the work came about does not belong here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

EXAMPLES = 20


@dataclass
class Notes:
    """What the worker processes wrote down (see worker.py)."""

    done: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """By chunk: the attempts of which each was told that it is done."""
    leases_lost: int = 0
    differed: set[str] = field(default_factory=set)
    failures: Counter[str] = field(default_factory=Counter)


@dataclass
class Verdict:
    """Counts. The first group must be 0, but for `unnoted`, which may be as many as were killed."""

    lost: int = 0  # uploads that were acknowledged, but whose chunk is not DONE
    not_done: int = 0  # rows with any other status
    done_twice: int = 0  # chunks of which two attempts were told so, or one that is not the row's
    differed: int = 0  # chunks with other bytes than were uploaded
    unnoted: int = 0  # DONE, but no worker wrote so: was it killed just before it did?

    kills: int = 0
    rows_by_status: dict[str, int] = field(default_factory=dict)
    tried_again: int = 0  # chunks that took more than one attempt
    most_attempts: int = 0
    leases_lost: int = 0  # reports that were refused, because the attempt was over
    worker_failures: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        broken = self.lost or self.not_done or self.done_twice or self.differed
        return not broken and self.unnoted <= self.kills

    def note(self, what: str, chunk_ids: Iterable[str]) -> None:
        """Keep some examples of what is not as it should be."""
        lines = [f"{what}: {chunk_id}" for chunk_id in sorted(chunk_ids)]
        self.examples += lines[: EXAMPLES - len(self.examples)]


@dataclass(frozen=True)
class Row:
    """What a row of audio_chunks says."""

    status: str
    sha256: str
    attempts: int


def read_notes(files: Iterable[Path]) -> Notes:
    """All of them together."""
    notes = Notes()
    for file in files:
        for line in file.read_text().splitlines():
            what, _, rest = line.partition(" ")
            chunk_id, _, attempt = rest.partition(" ")
            if what == "done":
                notes.done[chunk_id].add(int(attempt))
            elif what == "lost":
                notes.leases_lost += 1
            elif what == "differs":
                notes.differed.add(chunk_id)
            else:
                notes.failures[rest] += 1
    return notes


def judge(
    database_url: str, acknowledged: Mapping[str, str], files: Iterable[Path], kills: int
) -> Verdict:
    """`acknowledged`: by chunk_id, the SHA-256 (hexadecimal) of what its recorder had sent."""
    notes, rows = read_notes(files), _rows(database_url)
    faults = _faults(notes, rows, acknowledged)
    verdict = Verdict(
        lost=len(faults["lost"]),
        not_done=len(faults["not_done"]),
        done_twice=len(faults["done_twice"]),
        differed=len(faults["differed"]),
        unnoted=len(faults["unnoted"]),
        kills=kills,
        rows_by_status=dict(Counter(row.status for row in rows.values())),
        tried_again=sum(row.attempts > 1 for row in rows.values()),
        most_attempts=max((row.attempts for row in rows.values()), default=0),
        leases_lost=notes.leases_lost,
        worker_failures=dict(notes.failures),
    )
    for name, chunk_ids in faults.items():
        verdict.note(name, chunk_ids)
    return verdict


def _faults(
    notes: Notes, rows: Mapping[str, Row], acknowledged: Mapping[str, str]
) -> dict[str, set[str]]:
    """The chunks that each count of the first group is of."""
    done = {chunk_id for chunk_id, row in rows.items() if row.status == "DONE"}
    stored_otherwise = {
        chunk_id
        for chunk_id, sha256 in acknowledged.items()
        if chunk_id in rows and rows[chunk_id].sha256 != sha256
    }
    done_twice = {
        chunk_id
        for chunk_id, attempts in notes.done.items()
        if chunk_id not in rows or attempts != {rows[chunk_id].attempts}
    }
    return {
        "lost": acknowledged.keys() - done,
        "not_done": rows.keys() - done,
        "done_twice": done_twice,
        "differed": notes.differed | stored_otherwise,
        "unnoted": done - notes.done.keys(),
    }


def _rows(database_url: str) -> dict[str, Row]:
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT chunk_id, status, encode(sha256, 'hex'), attempts FROM audio_chunks"
        )
        return {str(chunk_id): Row(*values) for chunk_id, *values in found}
