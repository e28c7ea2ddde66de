"""POST /api/v1/chunks: what is accepted, and what 200 means."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
import requests
from support.problems import assert_problem
from support.processes import eventually
from support.raw import raw_upload, read_status
from support.recorder import SPEECH, Recorder, multipart
from support.service import Service

SHA256 = hashlib.sha256(SPEECH).hexdigest()


def test_it_stores_the_bytes_and_the_row(service: Service, recorder: Recorder) -> None:
    before = datetime.now(UTC)
    response = service.upload(recorder)
    assert response.status_code == 200
    answer = response.json()
    [row] = service.rows(recorder)
    [file] = service.files(recorder)
    assert answer["status"] == "ok"
    assert answer["queued"] is True
    assert answer["duplicate"] is False
    assert answer["sha256"] == SHA256
    assert answer["file_size_bytes"] == len(SPEECH)
    assert datetime.fromisoformat(answer["server_time"]) >= before
    assert file == service.storage / answer["stored_path"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == SHA256
    assert str(row["chunk_id"]) == answer["chunk_id"]
    assert row["file_path"] == answer["stored_path"]
    assert row["sha256"].hex() == SHA256
    assert row["status"] == "QUEUED"
    assert row["duration_sec"] == 60
    assert (row["codec"], row["sample_rate"], row["channels"]) == ("opus", 48000, 1)
    assert row["start_ts"] == recorder.clock
    assert row["end_ts"] == recorder.clock + timedelta(seconds=60)
    assert not service.temporary_files()


def test_the_path_and_the_id_follow_the_recording_time_in_utc(
    service: Service, recorder: Recorder
) -> None:
    answer = service.upload(
        recorder, start_ts="2026-01-28T01:59:30+03:00", end_ts="2026-01-28T02:00:30+03:00"
    ).json()
    chunk_id = UUID(answer["chunk_id"])
    device = recorder.device
    assert answer["stored_path"] == (
        f"audio/{device.point_id}/{device.register_id}/2026-01-27/22/"
        f"chunk_20260127_225930_{chunk_id}.ogg"
    )
    assert (chunk_id.version, chunk_id.variant) == (8, "specified in RFC 4122")
    milliseconds = datetime(2026, 1, 27, 22, 59, 30, tzinfo=UTC).timestamp() * 1000
    assert chunk_id.int >> 80 == milliseconds


def test_ids_sort_by_recording_time(service: Service, recorder: Recorder) -> None:
    ids = []
    for minute in (2, 0, 1):
        recorder.clock = datetime(2026, 1, 28, 10, minute, tzinfo=UTC)
        ids.append((recorder.clock, service.upload(recorder, b"sound").json()["chunk_id"]))
    assert [chunk_id for _, chunk_id in sorted(ids)] == sorted(chunk_id for _, chunk_id in ids)


def test_a_replay_gets_the_same_answer_and_changes_nothing(
    service: Service, recorder: Recorder
) -> None:
    first = service.upload(recorder).json()
    before = service.rows(recorder)
    again = service.upload(recorder).json()
    assert again["duplicate"] is True
    for name in ("chunk_id", "stored_path", "sha256", "file_size_bytes", "queued"):
        assert again[name] == first[name]
    assert service.rows(recorder) == before
    assert len(service.files(recorder)) == 1


def test_a_replay_after_processing_does_not_queue_it_again(
    service: Service, recorder: Recorder
) -> None:
    service.upload(recorder)
    with service.connect() as connection:
        connection.execute(
            "UPDATE audio_chunks SET status = 'DONE' WHERE device_id = %s",
            [recorder.device.device_id],
        )
    assert service.upload(recorder).json()["queued"] is True
    assert service.rows(recorder)[0]["status"] == "DONE"


def test_fifty_at_once_make_one_row_and_one_file(service: Service, recorder: Recorder) -> None:
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: service.upload(recorder), range(50)))
    assert [answer.status_code for answer in answers] == [200] * 50
    assert len({answer.json()["chunk_id"] for answer in answers}) == 1
    assert sum(not answer.json()["duplicate"] for answer in answers) == 1
    assert len(service.rows(recorder)) == 1
    [file] = service.files(recorder)
    assert file.read_bytes() == SPEECH
    assert not service.temporary_files()


@pytest.mark.parametrize("damage", ["deleted", "truncated", "overwritten", "folder deleted"])
def test_a_replay_brings_a_damaged_file_back(
    service: Service, recorder: Recorder, damage: str
) -> None:
    recorder.clock = datetime.now(UTC) - timedelta(hours=1)  # so that folders are remembered
    service.upload(recorder)
    [file] = service.files(recorder)
    if damage == "truncated":
        file.write_bytes(SPEECH[:1000])
    elif damage == "overwritten":
        file.write_bytes(b"x" * len(SPEECH))
    else:
        file.unlink()
    if damage == "folder deleted":
        file.parent.rmdir()
    for _ in range(4):  # so that both workers, who remember the folder, are asked
        answer = service.upload(recorder)
        assert answer.status_code == 200
        assert answer.json()["duplicate"] is True
    assert file.read_bytes() == SPEECH
    assert len(service.rows(recorder)) == 1


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize(
    "path", ["../outside", "/etc/outside", "audio/{id}/../../{other}", "{other}"]
)
def test_a_row_that_leads_elsewhere_costs_no_other_file(
    service: Service, recorder: Recorder, path: str, earlier: bool
) -> None:
    """Even if it also says that it is a row of the earlier service."""
    other = service.upload(recorder, b"another").json()["stored_path"]
    first = service.upload(recorder, b"first").json()
    with service.connect() as connection:
        connection.execute(
            "UPDATE audio_chunks SET file_path = %s WHERE chunk_id = %s",
            [path.format(id=first["chunk_id"], other=other), first["chunk_id"]],
        )
        if earlier:
            connection.execute(
                "UPDATE audio_chunks SET sha256 = NULL WHERE chunk_id = %s", [first["chunk_id"]]
            )
    (service.storage / first["stored_path"]).unlink()
    again = service.upload(recorder, b"first")
    assert again.status_code == 200
    assert again.json()["stored_path"] == first["stored_path"]
    assert (service.storage / first["stored_path"]).read_bytes() == b"first"
    assert (service.storage / other).read_bytes() == b"another"


@pytest.mark.parametrize("age", [timedelta(hours=1), timedelta(days=60)], ids=["new", "old"])
def test_folders_may_be_removed_at_any_time(service: Service, age: timedelta) -> None:
    """Retention takes away what is empty, and recorders bring what they have kept for long."""
    recorder, over = service.recorder(), threading.Event()
    recorder.clock = datetime.now(UTC) - age
    point = service.storage / "audio" / str(recorder.device.point_id)

    def remove_what_is_empty() -> None:
        while not over.wait(0.001):
            for folder in sorted(point.glob("**/"), reverse=True):
                with suppress(OSError):
                    folder.rmdir()

    def upload(data: bytes) -> None:
        for _ in range(20):
            answer = service.upload(recorder, data)
            assert answer.status_code == 200, answer.text
            (service.storage / answer.json()["stored_path"]).unlink()

    with ThreadPoolExecutor() as pool:
        removal = pool.submit(remove_what_is_empty)
        try:
            list(pool.map(upload, [b"1", b"2", b"3", b"4"]))
        finally:
            over.set()
        removal.result()


def test_a_replay_from_a_device_that_was_moved_finds_its_first_place(
    service: Service, recorder: Recorder
) -> None:
    first = service.upload(recorder).json()
    (service.storage / first["stored_path"]).unlink()
    elsewhere = UUID("00000000-0000-4000-8000-000000000001")
    with service.connect() as connection:
        connection.execute(
            "UPDATE devices SET register_id = %s WHERE device_id = %s",
            [elsewhere, recorder.device.device_id],
        )
    again = service.upload(recorder, register_id=str(elsewhere)).json()
    assert again["stored_path"] == first["stored_path"]
    assert (service.storage / first["stored_path"]).read_bytes() == SPEECH


def test_a_clock_that_went_back_loses_nothing(service: Service, recorder: Recorder) -> None:
    one = service.upload(recorder, b"the first minute").json()
    other = service.upload(recorder, b"another minute").json()
    assert one["chunk_id"] != other["chunk_id"]
    assert {file.read_bytes() for file in service.files(recorder)} == {
        b"the first minute",
        b"another minute",
    }
    assert len(service.rows(recorder)) == 2


def test_two_devices_with_the_same_bytes_and_time_are_two_chunks(service: Service) -> None:
    one, other = service.recorder(), service.recorder()
    assert service.upload(one).json()["chunk_id"] != service.upload(other).json()["chunk_id"]


def test_it_notes_when_a_device_was_seen(service: Service, recorder: Recorder) -> None:
    def last_seen() -> datetime | None:
        with service.connect() as connection:
            return connection.execute(
                "SELECT last_seen_at FROM devices WHERE device_id = %s",
                [recorder.device.device_id],
            ).fetchone()[0]

    assert last_seen() is None
    service.upload(recorder)
    first = last_seen()
    assert first is not None
    service.upload(recorder)
    assert last_seen() > first


@pytest.mark.parametrize("spelling", ["{}", "{{{}}}", "urn:uuid:{}", "upper", "no dashes"])
def test_it_takes_uuids_in_every_legal_spelling(
    service: Service, recorder: Recorder, spelling: str
) -> None:
    def spell(value: UUID) -> str:
        if spelling == "upper":
            return str(value).upper()
        return value.hex if spelling == "no dashes" else spelling.format(value)

    device = recorder.device
    response = service.upload(
        recorder,
        device_id=spell(device.device_id),
        point_id=spell(device.point_id),
        register_id=spell(device.register_id),
    )
    assert response.status_code == 200
    assert str(device.point_id) in response.json()["stored_path"]


@pytest.mark.parametrize(
    ("start", "end", "utc"),
    [
        ("2026-01-28T10:00:00Z", "2026-01-28T10:01:00Z", "2026-01-28T10:00:00+00:00"),
        ("2026-01-28T10:00:00+05:30", "2026-01-28T10:01:00+05:30", "2026-01-28T04:30:00+00:00"),
        ("2026-01-28T10:00:00-08:00", "2026-01-28T18:01:00Z", "2026-01-28T18:00:00+00:00"),
        ("2026-01-28T10:00:00.5Z", "2026-01-28T10:01:00Z", "2026-01-28T10:00:00.500000+00:00"),
        ("2026-01-28 10:00:00,123456Z", "2026-01-28T10:01:00Z", "2026-01-28T10:00:00.123456+00:00"),
        ("9999-12-31T23:58:00Z", "9999-12-31T23:59:00Z", "9999-12-31T23:58:00+00:00"),
        ("1969-12-31T21:00:00Z", "1969-12-31T21:01:00Z", "1969-12-31T21:00:00+00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:01:00Z", "0001-01-01T00:00:00+00:00"),
        ("2026-01-28t10:00:00z", "2026-01-28T10:01:00Z", "2026-01-28T10:00:00+00:00"),
        ("2026-01-28T10:00:00Z", "2026-02-28T10:00:00Z", "2026-01-28T10:00:00+00:00"),
        ("1970-01-01T00:00:30Z", "2026-01-28T10:00:00Z", "1970-01-01T00:00:30+00:00"),
        ("0001-01-01T00:00:30Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:30+00:00"),
        ("2026-01-28T10:00:00Z", "2026-01-28T10:00:00.000001Z", "2026-01-28T10:00:00+00:00"),
    ],
)
def test_it_takes_every_instant_that_a_clock_may_show(
    service: Service, recorder: Recorder, start: str, end: str, utc: str
) -> None:
    response = service.upload(recorder, start_ts=start, end_ts=end)
    assert response.status_code == 200, response.text
    with service.connect() as connection:
        connection.execute("SET timezone TO 'UTC'")
        [stored] = connection.execute(
            "SELECT start_ts FROM audio_chunks WHERE chunk_id = %s", [response.json()["chunk_id"]]
        ).fetchone()
    assert stored == datetime.fromisoformat(utc)
    [file] = service.files(recorder)
    assert file.parts[-3] == utc[:10]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_zone_of_the_database_does_not_matter(start_service, new_database, zone: str) -> None:
    url = new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET timezone = '{zone}'")
    service = start_service(url)
    recorder = service.recorder()
    first, last = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"
    for duplicate in (False, True):
        response = service.upload(recorder, start_ts=first, end_ts=last)
        assert (response.status_code, response.json()["duplicate"]) == (200, duplicate)


@pytest.mark.parametrize(
    "filename", ["../../../etc/passwd", "/etc/passwd", "chunk.ogg\\..\\x", "ü" * 300, "a b;c"]
)
def test_the_name_of_the_file_part_does_not_matter(
    service: Service, recorder: Recorder, filename: str
) -> None:
    response = service.upload(recorder, filename=filename)
    assert response.status_code == 200
    assert service.files(recorder) == [service.storage / response.json()["stored_path"]]


def test_fields_and_files_it_does_not_know_are_ignored(
    service: Service, recorder: Recorder
) -> None:
    response = requests.post(
        f"{service.url}/api/v1/chunks",
        data=recorder.form(agent_version="9.9", chunk_id="x", status="DONE"),
        files={"thumbnail": ("t.png", b"x" * 2_000_000), "chunk_file": ("c.ogg", SPEECH)},
        headers=recorder.headers,
    )
    assert response.status_code == 200
    assert service.rows(recorder)[0]["status"] == "QUEUED"
    assert [file.read_bytes() for file in service.files(recorder)] == [SPEECH]


def test_a_file_it_does_not_know_takes_nothing_from_the_limit(service: Service) -> None:
    recorder = service.recorder()
    response = requests.post(
        f"{service.url}/api/v1/chunks",
        data=recorder.form(),
        files={"video": ("v", b"v" * 2_000_000), "chunk_file": ("c", b"x" * 10_485_760)},
        headers=recorder.headers,
    )
    assert response.status_code == 200


def test_bytes_that_look_like_a_boundary_are_kept(service: Service, recorder: Recorder) -> None:
    data = b"\r\n--XyZ-boundar\r\n--XyZ" + b"\r\n" * 70_000 + b"x--XyZ-boundary\r\n--X\r"
    response = requests.post(
        f"{service.url}/api/v1/chunks",
        data=multipart(recorder.form(), data),
        headers=recorder.headers | {"Content-Type": "multipart/form-data; boundary=XyZ-boundary"},
    )
    assert response.status_code == 200
    assert service.files(recorder)[0].read_bytes() == data


def test_the_scheme_is_read_without_regard_to_case(service: Service, recorder: Recorder) -> None:
    headers = {"Authorization": f"bearer  {recorder.token} "}
    assert service.upload(recorder, headers=headers).status_code == 200


def _field_agent_empties_its_spool(service: Service, recorder: Recorder, chunks: int) -> list[int]:
    """As the agents in the field do: one session, oldest first, local time without an offset."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {recorder.token}"
    start = datetime(2026, 7, 1, 9)  # what such a clock shows
    statuses = []
    for number in range(chunks):
        begin = start + timedelta(minutes=number)
        response = service.upload(
            recorder,
            SPEECH + number.to_bytes(2, "big"),
            session=session,
            headers={},
            start_ts=begin.strftime("%Y-%m-%dT%H:%M:%S"),
            end_ts=(begin + timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%S"),
        )
        statuses.append(response.status_code)
        if response.status_code != 200:
            assert "NAIVE_TIMESTAMP_ZONE" in response.text
            assert_problem(response, 422, "naive_timestamp")
            break
    return statuses


@pytest.fixture(scope="module")
def berlin(tmp_path_factory, new_database) -> Iterator[Service]:
    """A service that reads timestamps without an offset in Berlin's time."""
    service = Service(
        tmp_path_factory.mktemp("berlin"), new_database(), NAIVE_TIMESTAMP_ZONE="Europe/Berlin"
    ).start()
    yield service
    assert service.stop() == 0


def test_an_agent_of_the_field_empties_its_spool_when_the_zone_is_set(berlin: Service) -> None:
    recorder = berlin.recorder()
    assert _field_agent_empties_its_spool(berlin, recorder, 80) == [200] * 80
    rows = berlin.rows(recorder)
    assert len(rows) == len(berlin.files(recorder)) == 80
    assert rows[0]["start_ts"] == datetime(2026, 7, 1, 7, tzinfo=UTC)
    assert rows[-1]["end_ts"] == datetime(2026, 7, 1, 8, 20, tzinfo=UTC)


def test_an_agent_of_the_field_is_told_which_setting_helps(
    service: Service, recorder: Recorder
) -> None:
    assert _field_agent_empties_its_spool(service, recorder, 200) == [422]
    service.assert_nothing_left(recorder)


@pytest.mark.parametrize(
    ("start", "end", "utc", "seconds"),
    [
        ("2026-07-01T10:00:00", "2026-07-01T10:01:00", "2026-07-01T08:00:00", 60),
        # The hour that comes twice: across its end the clock seems to run backwards.
        ("2026-10-25T02:59:30", "2026-10-25T02:00:30", "2026-10-25T00:59:30", 60),
        ("2026-10-25T01:59:30", "2026-10-25T02:00:30", "2026-10-24T23:59:30", 60),
        ("2026-10-25T02:59:30", "2026-10-25T03:00:30", "2026-10-25T01:59:30", 60),
        # The hour that never comes, as an agent that adds a minute to the start says it.
        ("2026-03-29T01:59:30", "2026-03-29T02:00:30", "2026-03-29T00:59:30", 60),
        ("2026-10-25T02:10:00Z", "2026-10-25T02:11:00Z", "2026-10-25T02:10:00", 60),
    ],
)
def test_local_times_are_read_in_the_zone_across_its_changes(
    berlin: Service, start: str, end: str, utc: str, seconds: int
) -> None:
    recorder = berlin.recorder()
    assert berlin.upload(recorder, start_ts=start, end_ts=end).status_code == 200
    [row] = berlin.rows(recorder)
    assert row["start_ts"] == datetime.fromisoformat(utc).replace(tzinfo=UTC)
    assert row["duration_sec"] == seconds


def test_a_recording_of_the_hour_that_comes_twice_is_known_by_either_reading(
    berlin: Service,
) -> None:
    recorder = berlin.recorder()
    url = f"{berlin.url}/api/v1/chunks/known"

    def is_known(start: str) -> bool:
        body = {"chunks": [{"start_ts": start, "sha256": SHA256}]}
        answer = requests.post(url, json=body, headers=recorder.headers, timeout=5).json()
        assert answer["chunks"][0]["start_ts"] == start
        return answer["chunks"][0]["known"]

    for utc, local in (("00:30", "02:30"), ("01:45", "02:45")):
        assert not is_known(f"2026-10-25T{local}:00")
        start, end = f"2026-10-25T{utc}:00Z", f"2026-10-25T{utc}:59Z"
        assert berlin.upload(recorder, start_ts=start, end_ts=end).status_code == 200
        assert is_known(f"2026-10-25T{local}:00")
    assert not is_known("2026-10-25T02:30:00Z")


def test_a_local_time_that_no_reading_makes_positive_is_refused(berlin: Service) -> None:
    recorder = berlin.recorder()
    response = berlin.upload(recorder, start_ts="2026-07-01T10:00:00", end_ts="2026-07-01T09:59:00")
    assert_problem(response, 422, "invalid_interval", "end_ts must be after start_ts")


def test_a_device_deleted_in_mid_upload_is_refused(service: Service, recorder: Recorder) -> None:
    body = multipart(recorder.form(), SPEECH)
    with raw_upload(service, recorder, f"Content-Length: {len(body)}") as connection:
        connection.sendall(body[:-1])
        eventually(service.temporary_files)
        with service.connect() as database:
            database.execute(
                "DELETE FROM devices WHERE device_id = %s", [recorder.device.device_id]
            )
        connection.sendall(body[-1:])
        assert read_status(connection) == 401
