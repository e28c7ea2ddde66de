"""POST /api/v1/chunks with a declared digest: bytes that differ are refused, and a chunk that is
known and whole gets its receipt before its bytes. POST /api/v1/chunks/known: which ones are."""

import base64
import hashlib
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.client import HTTPResponse
from typing import Any
from uuid import uuid4

import pytest
import requests
from support.problems import assert_problem
from support.processes import eventually
from support.raw import raw_upload
from support.recorder import SPEECH, Recorder, multipart
from support.service import Service

DIGEST = hashlib.sha256(SPEECH)
SHA256 = DIGEST.hexdigest()
WRONG = hashlib.sha256(b"other bytes").hexdigest()
TYPE = {"Content-Type": "multipart/form-data; boundary=XyZ-boundary"}


def repr_digest(sha256: str) -> str:
    """The value of a Repr-Digest header."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def _send(service: Service, recorder: Recorder, body: bytes, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = recorder.headers | TYPE | named
    return requests.post(f"{service.url}/api/v1/chunks", data=body, headers=sent, timeout=30)


def _after_file(form: dict[str, Any], data: bytes, **fields: str) -> bytes:
    """A form that has these fields after its file."""
    part = '\r\n--XyZ-boundary\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}'
    more = "".join(part.format(*field) for field in fields.items())
    return multipart(form, data + more.encode())


def _receive(connection: Any) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of the next final answer on a raw connection."""
    response = HTTPResponse(connection)
    response.begin()  # it skips 100 Continue
    return response.status, json.loads(response.read())


def _last_seen(service: Service, recorder: Recorder) -> datetime:
    with service.connect() as connection:
        return connection.execute(
            "SELECT last_seen_at FROM devices WHERE device_id = %s", [recorder.device.device_id]
        ).fetchone()[0]


def _set(service: Service, recorder: Recorder, assignment: str) -> None:
    """Change the rows of a device's chunks."""
    with service.connect() as connection:
        connection.execute(
            f"UPDATE audio_chunks SET {assignment} WHERE device_id = %s",
            [recorder.device.device_id],
        )


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)], ids=["sent", "asked"])
@pytest.mark.parametrize("declared", ["field", "header", "chunked"])
def test_a_known_chunk_gets_its_receipt_before_its_body(
    service: Service, recorder: Recorder, declared: str, expect: tuple[str, ...]
) -> None:
    first = service.upload(recorder).json()
    rows, seen = service.rows(recorder), _last_seen(service, recorder)
    field, header = {"sha256": SHA256}, [f"Repr-Digest: {repr_digest(SHA256)}"]
    body = multipart(recorder.form(**({} if declared == "header" else field)), SPEECH)
    begin = body.index(SPEECH)
    framing, early = f"Content-Length: {len(body)}", body[:begin]
    if declared == "chunked":
        framing, early = "Transfer-Encoding: chunked", b"%x\r\n" % len(body) + body[:begin]
    headers = [framing, *expect, *(header if declared == "header" else [])]
    with raw_upload(service, recorder, *headers) as connection:
        if expect:
            assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(early)
        status, receipt = _receive(connection)  # not one byte of the file was sent
        assert status == 200
        assert receipt.keys() == first.keys()
        told = {"duplicate": True, "server_time": receipt["server_time"]}
        assert receipt == first | told
        # Clients that send before they read go on, and use the connection again.
        connection.sendall(body[begin:] + (b"\r\n0\r\n\r\n" if declared == "chunked" else b""))
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert _receive(connection) == (200, {"status": "ok"})
    assert service.rows(recorder) == rows
    assert _last_seen(service, recorder) > seen
    eventually(lambda: not service.temporary_files())


def test_a_client_may_hang_up_after_its_receipt(service: Service, recorder: Recorder) -> None:
    service.upload(recorder)
    body = multipart(recorder.form(sha256=SHA256), SPEECH)
    with raw_upload(service, recorder, f"Content-Length: {len(body)}") as connection:
        connection.sendall(body[: body.index(SPEECH) + 1])
        assert _receive(connection)[0] == 200
    eventually(lambda: not service.temporary_files())
    assert [line for line in service.log()[-20:] if line["level"] != "INFO"] == []


@pytest.mark.slow
def test_a_client_that_sends_slowly_and_reads_at_last_gets_its_receipt(
    service: Service, recorder: Recorder
) -> None:
    """It takes longer than the rest of a refused body may take, and is no worse off than before."""
    service.upload(recorder)
    body = multipart(recorder.form(sha256=SHA256), SPEECH)
    with raw_upload(service, recorder, f"Content-Length: {len(body)}") as connection:
        connection.sendall(body[:5000])
        for sent in range(5000, 5018):
            connection.sendall(body[sent : sent + 1])
            time.sleep(1)
        connection.sendall(body[5018:])
        assert _receive(connection)[0] == 200
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert _receive(connection)[0] == 200


@pytest.mark.parametrize(
    "damage", ["deleted", "truncated", "marked as missing", "unknown", "a field after the file"]
)
def test_a_chunk_that_is_not_known_and_whole_is_received(
    service: Service, recorder: Recorder, damage: str
) -> None:
    form = recorder.form(sha256=SHA256)
    if damage != "unknown":
        service.upload(recorder)
        [file] = service.files(recorder)
    if damage == "truncated":
        file.write_bytes(SPEECH[:1000])
    elif damage in {"deleted", "marked as missing"}:
        file.unlink()
    if damage == "marked as missing":
        missing = "status = 'ERROR', file_missing_since = now(), status_before = 'QUEUED'"
        _set(service, recorder, missing)
    body = multipart(form, SPEECH)
    if damage == "a field after the file":
        codec = form.pop("codec")
        body = _after_file(form, SPEECH, codec=codec)
    answer = _send(service, recorder, body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["duplicate"] is (damage != "unknown")
    [file], [row] = service.files(recorder), service.rows(recorder)
    assert file.read_bytes() == SPEECH
    assert (row["status"], row["file_missing_since"]) == ("QUEUED", None)
    assert not service.temporary_files()


def test_a_chunk_that_retention_is_removing_is_not_confirmed(
    service: Service, recorder: Recorder
) -> None:
    service.upload(recorder)
    _set(service, recorder, "status = 'PRUNED'")
    answer = service.upload(recorder, sha256=SHA256)
    assert_problem(answer, 503, "database_unavailable", "Retention is removing this chunk")


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "{other}"])
def test_a_row_that_leads_elsewhere_confirms_no_other_file(
    service: Service, recorder: Recorder, path: str
) -> None:
    first = service.upload(recorder).json()
    elsewhere = service.recorder()
    other = service.upload(elsewhere).json()["stored_path"]
    _set(service, recorder, f"sha256 = NULL, file_path = '{path.format(other=other)}'")
    assert service.upload(recorder, sha256=SHA256).json()["stored_path"] == first["stored_path"]
    (service.storage / first["stored_path"]).unlink()
    answer = service.upload(recorder, sha256=SHA256).json()
    assert (answer["duplicate"], answer["stored_path"]) == (True, first["stored_path"])
    assert (service.storage / first["stored_path"]).read_bytes() == SPEECH


def test_whose_recording_it_is_is_checked_before_the_receipt(
    service: Service, recorder: Recorder
) -> None:
    service.upload(recorder)
    wrong = {"register_id": str(uuid4())}, {"device_id": str(uuid4())}
    for changes, code in zip(wrong, ("identity_mismatch", "device_mismatch"), strict=True):
        body = multipart(recorder.form(sha256=SHA256, **changes), SPEECH)
        with raw_upload(service, recorder, f"Content-Length: {len(body)}") as connection:
            connection.sendall(body[: body.index(SPEECH)])
            status, problem = _receive(connection)
            assert (status, problem["code"]) == (422, code)
    another = service.recorder()
    assert service.upload(another, sha256=SHA256).json()["duplicate"] is False


@pytest.mark.parametrize("place", ["before", "after", "header", "nothing sent"])
def test_bytes_that_differ_are_refused_and_nothing_is_stored(
    service: Service, recorder: Recorder, place: str
) -> None:
    data = b"" if place == "nothing sent" else SPEECH
    body, headers = multipart(recorder.form(), data), {}
    if place == "header":
        headers = {"Repr_Digest": repr_digest(WRONG)}
    elif place == "after":
        body = _after_file(recorder.form(), data, sha256=WRONG)
    else:
        body = multipart(recorder.form(sha256=WRONG), data)
    problem = assert_problem(_send(service, recorder, body, **headers), 422, "checksum_mismatch")
    assert problem["retryable"] is True
    service.assert_nothing_left(recorder)
    with service.connect() as connection:  # a card that has lost bytes blocks its spool for ever
        query = "SELECT code FROM refusals WHERE device_id = %s"
        refused = connection.execute(query, [recorder.device.device_id]).fetchone()
    assert refused == ("checksum_mismatch",)


@pytest.mark.parametrize("place", ["before", "after"])
def test_two_digests_must_be_the_same(service: Service, recorder: Recorder, place: str) -> None:
    def send(sha256: str) -> requests.Response:
        body = multipart(recorder.form(sha256=sha256), SPEECH)
        if place == "after":
            body = _after_file(recorder.form(), SPEECH, sha256=sha256)
        return _send(service, recorder, body, Repr_Digest=repr_digest(SHA256))

    problem = assert_problem(send(WRONG), 422, "validation_error")
    assert problem["errors"] == {"sha256": ["Differs from the Repr-Digest of the request."]}
    service.assert_nothing_left(recorder)
    for duplicate in (False, True):
        assert send(SHA256.upper()).json()["duplicate"] is duplicate


def test_a_field_sent_twice_is_refused(service: Service, recorder: Recorder) -> None:
    body = _after_file(recorder.form(sha256=SHA256), SPEECH, sha256=SHA256)
    problem = assert_problem(_send(service, recorder, body), 422, "validation_error")
    assert problem["errors"] == {"sha256": ["Sent more than once."]}
    service.assert_nothing_left(recorder)


@pytest.mark.parametrize(
    "sha256", ["", SHA256[:-1], SHA256 + "0", "g" * 64, f" {SHA256}", f"{SHA256}\n", "٣" * 64]
)
def test_a_field_that_is_no_digest_is_refused(
    service: Service, recorder: Recorder, sha256: str
) -> None:
    problem = assert_problem(service.upload(recorder, sha256=sha256), 422, "validation_error")
    assert problem["errors"] == {"sha256": ["Must be 64 hexadecimal digits."]}
    service.assert_nothing_left(recorder)


B64 = base64.b64encode(DIGEST.digest()).decode()
SHA512 = base64.b64encode(hashlib.sha512(SPEECH).digest()).decode()


@pytest.mark.parametrize(
    "header",
    [
        f"sha-256=:{B64}:",
        f"sha-512=:{SHA512}:, sha-256=:{B64}:",
        f"sha-256=:{B64}: ,\tunixsum=:AAAA:",
        f'md5=:AAAA:, of-the-future="a, sha-256=:x:\\"";q=1, sha-256=:{B64}:;a=b;c',
        f"sha-256=:{B64.rstrip('=')}:",  # RFC 9651, section 4.2.7: padding may be missing
        f"sha-256=:{B64}:, sha-256=:{B64}:",
        f"bare, sha-256=:{B64}:",
        "",
    ],
)
def test_a_digest_of_the_head_is_understood(
    service: Service, recorder: Recorder, header: str
) -> None:
    body = multipart(recorder.form(), SPEECH)
    assert _send(service, recorder, body, Repr_Digest=header).status_code == 200
    assert _send(service, recorder, body, Repr_Digest=header).json()["duplicate"] is True


@pytest.mark.parametrize(
    ("header", "phrase"),
    [
        (f"sha-512=:{SHA512}:", "has no sha-256"),
        ("md5=:AAAA:, unixsum=:AAAA:", "has no sha-256"),
        ("sha-256=:AAAA:", "is not :<base64 of 32 bytes>:"),
        (f"sha-256=:{SHA512}:", "is not :<base64 of 32 bytes>:"),
        (f"sha-256={B64}", "is not :<base64 of 32 bytes>:"),
        (f"sha-256=:{SHA256}:", "is not :<base64 of 32 bytes>:"),
        (f"sha-256=:{B64[:-2]}*=:", "is not :<base64 of 32 bytes>:"),
        ("sha-256", "is not :<base64 of 32 bytes>:"),
        (f"sha-256=:{B64}:, sha-256=:{'A' * 43}=:", "two different values"),
        (f"SHA-256=:{B64}:", "is malformed"),
        (f'sha-256=:{B64}:, x="', "is malformed"),
        (f"sha-256=:{B64}:,,", "is malformed"),
        (f",sha-256=:{B64}:", "is malformed"),
        (B64, "is malformed"),
        ('a="' + '\\"' * 3000, "is malformed"),
        ("a=" + '"b"c' * 1500 + '"', "is malformed"),
    ],
)
def test_a_digest_of_the_head_that_says_nothing_is_refused_by_the_head(
    service: Service, recorder: Recorder, header: str, phrase: str
) -> None:
    lines = f"Repr-Digest: {header}", "Content-Length: 100000", "Expect: 100-continue"
    with raw_upload(service, recorder, *lines) as connection:
        status, problem = _receive(connection)
    assert (status, problem["code"]) == (400, "bad_request")
    assert phrase in problem["detail"]
    service.assert_nothing_left(recorder)


def test_ten_at_once_that_declare_it_make_one_row_and_one_file(
    service: Service, recorder: Recorder
) -> None:
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: service.upload(recorder, sha256=SHA256), range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20
    assert sum(not answer.json()["duplicate"] for answer in answers) == 1
    assert len(service.rows(recorder)) == 1
    [file] = service.files(recorder)
    assert file.read_bytes() == SPEECH
    assert not service.temporary_files()


def _ask(service: Service, recorder: Recorder, body: Any) -> requests.Response:
    return requests.post(
        f"{service.url}/api/v1/chunks/known", json=body, headers=recorder.headers, timeout=30
    )


def _known(service: Service, recorder: Recorder, chunks: Iterable[tuple[str, str]]) -> list[bool]:
    """What the service says of recordings, each given by its start and its SHA-256."""
    asked = [{"start_ts": start, "sha256": sha256} for start, sha256 in chunks]
    answer = _ask(service, recorder, {"chunks": asked})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert [entry | {"known": None} for entry in told["chunks"]] == [
        entry | {"known": None} for entry in asked
    ]
    return [entry["known"] for entry in told["chunks"]]


def test_a_device_learns_which_recordings_are_stored(service: Service, recorder: Recorder) -> None:
    starts = [recorder.clock + timedelta(minutes=number) for number in range(5)]
    for recorder.clock in starts:
        service.upload(recorder)
    lost, short, removed, missing, _ = [row["chunk_id"] for row in service.rows(recorder)]
    paths = {row["chunk_id"]: service.storage / row["file_path"] for row in service.rows(recorder)}
    before = _last_seen(service, recorder)
    asked = [(start.isoformat(), SHA256) for start in starts]
    assert _known(service, recorder, asked) == [True] * 5
    other_spelling = starts[4].strftime("%Y-%m-%d %H:%M:%S.000+00:00"), SHA256.upper()
    others = [(starts[4].isoformat(), WRONG), ("2026-01-28T11:00:00Z", SHA256), other_spelling]
    assert _known(service, recorder, [*others, asked[4], asked[4]]) == [False, False, *[True] * 3]
    assert _known(service, service.recorder(), asked) == [False] * 5
    assert _known(service, recorder, []) == []
    paths[lost].unlink()
    paths[short].write_bytes(b"short")
    with service.connect() as connection:
        update = "UPDATE audio_chunks SET {} WHERE chunk_id = %s"
        connection.execute(update.format("status = 'PRUNED'"), [removed])
        no_file = "status = 'ERROR', file_missing_since = now(), status_before = 'DONE'"
        connection.execute(update.format(no_file), [missing])
    assert _known(service, recorder, asked) == [False] * 4 + [True]
    assert _last_seen(service, recorder) == before  # it is no upload


def test_five_hundred_of_the_longest_entries_fit(service: Service, recorder: Recorder) -> None:
    start = datetime(2026, 1, 28, 10, 0, 0, 123456, tzinfo=UTC)
    recorder.clock = start
    service.upload(recorder)
    asked = [((start + timedelta(minutes=n)).isoformat(), SHA256) for n in range(500)]
    assert _known(service, recorder, asked) == [True, *[False] * 499]
    entries = [{"start_ts": at, "sha256": sha256} for at, sha256 in [*asked, asked[0]]]
    problem = assert_problem(_ask(service, recorder, {"chunks": entries}), 422, "validation_error")
    assert problem["errors"] == {"chunks": ["Longer than maximum length 500."]}


ENTRY = {"start_ts": "2026-01-28T10:00:00Z", "sha256": SHA256}


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"chunks"}),
        ([], {"_schema"}),
        ("null", {"_schema"}),
        ({"chunks": None}, {"chunks"}),
        ({"chunks": "x"}, {"chunks"}),
        ({"chunks": [1]}, {"chunks.0._schema"}),
        ({"chunks": [ENTRY], "more": 1}, {"more"}),
        ({"chunks": [ENTRY, ENTRY | {"more": 1}]}, {"chunks.1.more"}),
        ({"chunks": [{}]}, {"chunks.0.start_ts", "chunks.0.sha256"}),
        ({"chunks": [ENTRY | {"start_ts": 1}]}, {"chunks.0.start_ts"}),
        ({"chunks": [ENTRY | {"start_ts": "2026-01-28"}]}, {"chunks.0.start_ts"}),
        ({"chunks": [ENTRY | {"start_ts": "0001-01-01T00:00:00+14:00"}]}, {"chunks.0.start_ts"}),
        ({"chunks": [ENTRY | {"sha256": SHA256[1:]}]}, {"chunks.0.sha256"}),
        ({"chunks": [ENTRY | {"sha256": None}]}, {"chunks.0.sha256"}),
        ({"chunks": [ENTRY | {"sha256": "\ud800"}]}, {"chunks.0.sha256"}),
    ],
)
def test_a_question_that_is_malformed_is_refused(
    service: Service, recorder: Recorder, body: Any, errors: set[str]
) -> None:
    problem = assert_problem(_ask(service, recorder, body), 422, "validation_error")
    assert problem["errors"].keys() == errors
    assert all(isinstance(messages, list) for messages in problem["errors"].values())


def test_of_many_malformed_entries_the_first_are_named(
    service: Service, recorder: Recorder
) -> None:
    problem = assert_problem(
        _ask(service, recorder, {"chunks": [{}] * 500}), 422, "validation_error"
    )
    assert len(problem["errors"]) == 20


def test_a_question_without_an_offset_needs_the_zone(service: Service, recorder: Recorder) -> None:
    body = {"chunks": [ENTRY, ENTRY | {"start_ts": "2026-01-28T10:00:00"}]}
    problem = assert_problem(_ask(service, recorder, body), 422, "naive_timestamp")
    assert problem["errors"].keys() == {"chunks.1.start_ts"}


def test_only_a_device_may_ask(service: Service, recorder: Recorder) -> None:
    url = f"{service.url}/api/v1/chunks/known"
    assert_problem(requests.post(url, json={"chunks": []}, timeout=5), 401, "missing_token")
    with service.connect() as connection:
        connection.execute(
            "UPDATE devices SET is_enabled = false WHERE device_id = %s",
            [recorder.device.device_id],
        )
    assert_problem(_ask(service, recorder, {"chunks": [ENTRY]}), 401, "device_disabled")
    assert_problem(service.upload(recorder, sha256=SHA256), 401, "device_disabled")
