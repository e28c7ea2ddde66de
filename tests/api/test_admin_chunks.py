"""/api/v1/admin/chunks: list in pages, export, one, and its file."""

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, IncompleteRead
from itertools import chain
from typing import Any
from uuid import uuid4

import pytest
import requests
from support.problems import assert_problem
from support.recorder import SPEECH, Recorder
from support.service import ADMIN_TOKEN, Service

from ingest_api.schemas.queue import CHUNK_FIELDS

ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
START = datetime(2026, 1, 28, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def url(service: Service) -> str:
    return f"{service.url}/api/v1/admin/chunks"


def _get(url: str, **query: Any) -> requests.Response:
    return requests.get(url, params=query, headers=ADMIN)


def _fill(service: Service, recorder: Recorder, count: int) -> list[str]:
    """Upload so many chunks, a minute apart; return their ids in the order of recording."""
    ids = []
    for number in range(count):
        start = START + number * MINUTE
        times = {"start_ts": start.isoformat(), "end_ts": (start + MINUTE).isoformat()}
        ids.append(service.upload(recorder, b"%d" % number, **times).json()["chunk_id"])
    return ids


def _pages(url: str, **query: Any) -> list[list[str]]:
    """Follow the links from page to page; each must be the one that its cursor gives."""
    pages, answer = [], _get(url, **query)
    while True:
        body = answer.json()
        pages.append([chunk["chunk_id"] for chunk in body["chunks"]])
        if body["next"] is None:
            assert "Link" not in answer.headers
            return pages
        following = requests.compat.urljoin(url, answer.links["next"]["url"])
        answer = requests.get(following, headers=ADMIN)
        assert answer.json() == _get(url, **query, cursor=body["next"]).json()


def _all(url: str, **query: Any) -> list[str]:
    return list(chain.from_iterable(_pages(url, **query)))


def test_pages_have_every_chunk_once_in_the_order_of_recording(service: Service, url: str) -> None:
    recorder = service.recorder()
    ids = _fill(service, recorder, 7)
    device = {"device_id": recorder.device.device_id}
    assert _pages(url, limit=3, **device) == [ids[:3], ids[3:6], ids[6:]]
    newest = ids[::-1]
    assert _pages(url, limit=5, order="desc", **device) == [newest[:5], newest[5:]]
    assert _pages(url, limit=7, **device) == [ids]
    assert _pages(url, point_id=recorder.device.point_id, limit=4) == [ids[:4], ids[4:]]
    register = {"register_id": recorder.device.register_id}
    assert _pages(url, **register, status="QUEUED", limit=4) == [ids[:4], ids[4:]]
    assert _pages(url, **register, status="DONE") == [[]]


def test_a_list_of_everything_is_in_order_whatever_the_status(emptied: Service) -> None:
    url = f"{emptied.url}/api/v1/admin/chunks"
    assert _pages(url) == [[]]
    ids = _fill(emptied, emptied.recorder(), 3)
    ids += _fill(emptied, emptied.recorder(), 3)
    with emptied.connect() as connection:
        rows = connection.execute("SELECT chunk_id::text FROM audio_chunks ORDER BY start_ts, 1")
        ordered = [row[0] for row in rows.fetchall()]
        for status, number in (("PROCESSING", 0), ("DONE", 0), ("PROCESSING", 3)):
            connection.execute(
                "UPDATE audio_chunks SET status = %s WHERE chunk_id = %s", [status, ordered[number]]
            )
    assert sorted(ids) == sorted(ordered)
    assert _all(url, limit=2) == ordered
    assert _all(url, limit=2, order="desc") == ordered[::-1]
    assert _pages(url, status="DONE") == [[ordered[0]]]


def test_a_time_selects_what_overlaps_with_it(service: Service, url: str) -> None:
    recorder = service.recorder()
    ids = _fill(service, recorder, 4)
    device = {"device_id": recorder.device.device_id}

    def between(first: float, last: float) -> list[str]:
        bounds = {"from": (START + first * MINUTE), "to": (START + last * MINUTE)}
        texts = {name: instant.isoformat() for name, instant in bounds.items()}
        return _all(url, **device, **texts)

    assert between(1, 3) == ids[1:3]
    assert between(0.5, 1.5) == ids[:2]
    assert between(-9, 0) == []
    assert between(4, 9) == []
    assert between(-1e6, 1e6) == ids
    assert _pages(url, **device, **{"from": "2026-01-28T11:02:30 01:00"}) == [ids[2:]]  # + unquoted


def test_a_recording_of_years_is_found_at_its_start(service: Service, url: str) -> None:
    """Its clock was set while it recorded. A list does not look back for its end."""
    recorder = service.recorder()
    times = {"start_ts": "1970-01-01T00:00:10Z", "end_ts": "2026-01-28T10:00:00Z"}
    chunk_id = service.upload(recorder, **times).json()["chunk_id"]
    device = {"device_id": recorder.device.device_id}
    assert _pages(url, **device, to="1970-01-01T01:00:00Z") == [[chunk_id]]
    assert _pages(url, **device, **{"from": "2000-01-01T00:00:00Z"}) == [[]]


def test_a_chunk_is_shown_as_workers_see_it_and_its_file_served(service: Service, url: str) -> None:
    recorder = service.recorder()
    chunk_id = service.upload(recorder).json()["chunk_id"]
    chunk = _get(f"{url}/{chunk_id}").json()
    assert list(chunk) == list(CHUNK_FIELDS)
    assert _get(url, device_id=recorder.device.device_id).json()["chunks"] == [chunk]
    whole = _get(f"{url}/{chunk_id}/file")
    assert (whole.status_code, whole.content) == (200, SPEECH)
    assert whole.headers["ETag"] == f'"{chunk["sha256"]}"'
    part = requests.get(f"{url}/{chunk_id}/file", headers=ADMIN | {"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, SPEECH[10:20])
    for path in (f"{uuid4()}", f"{uuid4()}/file", "no-id", "no-id/file"):
        assert_problem(_get(f"{url}/{path}"), 404, "chunk_not_found")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1000000000"}, "limit"),
        ({"limit": "-5"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": ["1", "2"]}, "limit"),
        ({"order": "ASC"}, "order"),
        ({"status": "queued"}, "status"),
        ({"status": "UPLOADED' OR 1=1"}, "status"),
        ({"device_id": "x"}, "device_id"),
        ({"from": "2026-01-28"}, "from"),
        ({"from": "2026-01-28T10:00:00"}, "from"),
        ({"to": "0001-01-01T00:00:00+14:00"}, "to"),
        ({"from": "2026-01-29T00:00:00Z", "to": "2026-01-28T00:00:00Z"}, "from"),
        ({"point": "x"}, "point"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": "x" * 1000}, "cursor"),
        ({"cursor": "ABCD"}, "cursor"),
        ({"cursor": "ä\x00"}, "cursor"),
    ],
)
def test_it_refuses_a_malformed_query_by_field(url: str, query: dict[str, Any], field: str) -> None:
    answer = _get(url, **query)
    code = "naive_timestamp" if query == {"from": "2026-01-28T10:00:00"} else "validation_error"
    assert list(assert_problem(answer, 422, code)["errors"]) == [field]


def test_a_cursor_belongs_to_its_list(service: Service, url: str) -> None:
    recorder = service.recorder()
    _fill(service, recorder, 2)
    device = {"device_id": str(recorder.device.device_id), "limit": "1"}
    cursor = _get(url, **device).json()["next"]
    assert _get(url, **device, cursor=cursor).status_code == 200
    assert _get(url, **device | {"limit": "7"}, cursor=cursor).status_code == 200
    changed = [cursor[:20] + ("A" if cursor[20] != "A" else "B") + cursor[21:], cursor[:-1]]
    for wrong in [*changed, cursor + "=", cursor + "\n", cursor + "AAAA"]:
        assert_problem(_get(url, **device, cursor=wrong), 422, "validation_error", "cursor")
    others = [{"order": "desc"}, {"status": "QUEUED"}, {"from": "2026-01-01T00:00:00Z"}]
    for other in others:
        answer = _get(url, **device, **other, cursor=cursor)
        assert_problem(answer, 422, "validation_error", "cursor")
    fleet = url.replace("/chunks", "/fleet")
    assert_problem(_get(fleet, cursor=cursor), 422, "validation_error", "cursor")


def _export(url: str, mimetype: str, **query: Any) -> requests.Response:
    answer = requests.get(url, params=query, headers=ADMIN | {"Accept": mimetype})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].partition(";")[0] == mimetype
    assert "attachment" in answer.headers["Content-Disposition"]
    return answer


def test_an_export_has_what_the_list_has(service: Service, url: str) -> None:
    recorder = service.recorder()
    _fill(service, recorder, 3)
    device = {"device_id": recorder.device.device_id}
    listed = _get(url, **device).json()["chunks"]
    lines = _export(url, "application/x-ndjson", **device).text.splitlines()
    assert [json.loads(line) for line in lines] == listed
    rows = list(csv.DictReader(_export(url, "text/csv", **device).text.splitlines()))
    assert rows == [
        {name: "" if value is None else str(value) for name, value in chunk.items()}
        for chunk in listed
    ]
    nothing = _export(url, "text/csv", device_id=uuid4()).text
    assert nothing == ",".join(CHUNK_FIELDS) + "\r\n"
    for paging in ({"limit": "5"}, {"cursor": "x"}):
        answer = requests.get(url, params=paging, headers=ADMIN | {"Accept": "text/csv"})
        assert_problem(answer, 422, "validation_error", next(iter(paging)))


def test_no_cell_is_a_formula_or_breaks_the_terminal(service: Service, url: str) -> None:
    recorder = service.recorder()
    service.upload(recorder, codec='=HYPERLINK("http://evil")')
    with service.connect() as connection:
        connection.execute(
            "UPDATE audio_chunks SET error_message = %s WHERE device_id = %s",
            ["\x1b[31m-1+1\u202e\r\n,", recorder.device.device_id],
        )
    [row] = csv.DictReader(
        _export(url, "text/csv", device_id=recorder.device.device_id).text.splitlines()
    )
    assert row["codec"] == '\'=HYPERLINK("http://evil")'
    assert row["error_message"] == r"\x1b[31m-1+1\x202e\x0d\x0a,"


def test_a_broken_export_is_seen_to_be_broken(start_service: Callable[..., Service]) -> None:
    """The database fails between two pages: the client misses the end of the chunked coding."""
    service = start_service(WORKERS="1")
    recorder = service.recorder()
    with service.connect() as connection:
        connection.execute(
            "INSERT INTO audio_chunks (chunk_id, device_id, point_id, register_id, start_ts,"
            " end_ts, duration_sec, codec, sample_rate, channels, file_path, file_size_bytes)"
            " SELECT gen_random_uuid(), device_id, point_id, register_id, at, at + '1 min', 60,"
            " 'opus', 1, 1, repeat('x', 1000), 1"
            " FROM devices, generate_series(1, 30000) AS number,"
            " LATERAL (SELECT now() - number * interval '1 min') AS time (at)"
        )
        http = HTTPConnection(*service.address, timeout=30)
        device = f"device_id={recorder.device.device_id}"
        http.request(
            "GET", f"/api/v1/admin/chunks?{device}", headers=ADMIN | {"Accept": "text/csv"}
        )
        answer = http.getresponse()
        assert answer.status == 200
        answer.read(1000)
        connection.execute("ALTER TABLE audio_chunks RENAME TO moved")
        with pytest.raises(IncompleteRead):
            answer.read()
