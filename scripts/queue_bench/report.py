"""How the benchmark of the queue is told to people: a few lines for each part's document.

Reads what was found and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench_tools.machine import milliseconds_in_words

CASES = {
    "file": "the service, the file",
    "nginx": "nginx, the file",
    "unchanged": "the service, 304 (no body)",
    "live": "the service, /health/live",
}


def tell_claim(found: dict[str, Any]) -> Iterator[str]:
    """What a claim took, and by which indexes."""
    yield "claim: {claims} claims of {batch} in a table of {rows} rows".format_map(found)
    for name, what in (("spread", "of 100 devices"), ("backlog", "most of one device")):
        case = found[name]
        yield f"  {case['waiting']} QUEUED, {what}"
        for way, label in (("function", "in the service"), ("http", "over HTTP")):
            yield f"    {label:15}" + milliseconds_in_words(case[way])
        yield f"    {'indexes':15}{', '.join(case['indexes'])}"
        yield f"    {'Seq Scans':15}{case['seq_scans']} of audio_chunks: must be 0"


def tell_workers(found: dict[str, Any]) -> Iterator[str]:
    """How fast it went, and the verdict."""
    yield (
        "workers: {chunks} chunks done by {workers} workers in {seconds} s, {chunks_per_second}"
        " chunks a second with those uploaded meanwhile; all drained after {drained_seconds} s"
        " (MTU {mtu})"
    ).format_map(found)
    yield from _table(
        ("killed", found["kills"], "workers, in mid-work"),
        ("tried again", found["tried_again"], f"chunks; {found['most_attempts']} times at most"),
        ("leases lost", found["leases_lost"], "reports refused with lease_lost"),
        ("failures", sum(found["worker_failures"].values()), _counts(found["worker_failures"])),
        ("acknowledged", found["acknowledged"], "uploads that got their 200"),
        ("rows", sum(found["rows_by_status"].values()), _counts(found["rows_by_status"])),
        ("lost", found["lost"], "acknowledged, but not DONE: must be 0"),
        ("not done", found["not_done"], "rows with another status: must be 0"),
        ("done twice", found["done_twice"], "under two attempts: must be 0"),
        ("differed", found["differed"], "with other bytes than were uploaded: must be 0"),
        ("unnoted", found["unnoted"], "DONE, but no worker wrote so: as many as killed at most"),
        ("uploads beside", found["uploads_beside"], milliseconds_in_words(found["uploads"])),
        ("upload errors", _sum(found), "must be 0  " + _counts(found["upload_errors"])),
    )
    if not found["kept"]:
        yield from found["examples"]


def _sum(found: dict[str, Any]) -> int:
    return sum(found["upload_errors"].values())


def tell_download(found: dict[str, Any]) -> Iterator[str]:
    """Requests a second, and the processor time of one."""
    yield (
        "download: {connections} connections, load by {generator}, MTU {mtu}; processor time a"
        " request in ms, without the load's"
    ).format_map(found)
    yield f"  {'':28}{'requests/s':>10}{'MB/s':>8}{'service':>9}{'PostgreSQL':>12}{'nginx':>8}"
    for name, case in found["cases"].items():
        cpu = case["cpu_ms_per_request"]
        yield (
            f"  {CASES[name]:28}{case['requests_per_second']:>10}{case['megabytes_per_second']:>8}"
            f"{cpu['service']:>9}{cpu['postgresql']:>12}{cpu['nginx']:>8}"
        )
        if case["errors"]:
            yield f"    {case['errors']} errors: must be 0"
    if "nginx_to_service" in found:
        yield f"  nginx serves {found['nginx_to_service']} times as many files"
    else:
        yield "  nginx is not installed, so there is nothing to compare with"


def _table(*lines: tuple[str, int, str]) -> Iterator[str]:
    for name, value, remark in lines:
        yield f"  {name:16}{value:>8}  {remark}".rstrip()


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items())
