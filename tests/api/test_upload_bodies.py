"""POST /api/v1/chunks: bodies that are cut off, malformed, too large or too slow."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from support.problems import assert_problem
from support.processes import eventually
from support.raw import raw_upload, read_status
from support.recorder import SPEECH, Recorder, multipart
from support.service import ADMIN_TOKEN, Service

LIMIT = 10 * 1024 * 1024
TYPE = {"Content-Type": "multipart/form-data; boundary=XyZ-boundary"}


@pytest.fixture(scope="module")
def small(tmp_path_factory, new_database) -> Iterator[Service]:
    """A service whose limit is small and whose patience is short."""
    service = Service(
        tmp_path_factory.mktemp("small"),
        new_database(),
        MAX_UPLOAD_SIZE_BYTES="200000",
        REQUEST_STALL_SECONDS="1",
        REQUEST_DEADLINE_SECONDS="3",
    ).start()
    yield service
    assert service.stop() == 0


def _post(service: Service, recorder: Recorder, body: object, **headers: str) -> requests.Response:
    return requests.post(
        f"{service.url}/api/v1/chunks", data=body, headers=recorder.headers | TYPE | headers
    )


def _send_and_hang_up(service: Service, recorder: Recorder, framing: str, body: bytes) -> int:
    with raw_upload(service, recorder, framing) as connection:
        connection.sendall(body)
        connection.shutdown(socket.SHUT_WR)
        return read_status(connection)


def test_a_body_cut_off_at_any_byte_leaves_nothing(service: Service, recorder: Recorder) -> None:
    body = multipart(recorder.form(), b"x" * 100)

    def cut(length: int) -> int:
        return _send_and_hang_up(service, recorder, f"Content-Length: {len(body)}", body[:length])

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(cut, range(len(body))))
    assert set(statuses) == {400}
    service.assert_nothing_left(recorder)
    assert cut(len(body)) == 200


@pytest.mark.parametrize("length", [1000, 70_000, 150_000, len(SPEECH)])
def test_a_large_body_cut_off_leaves_nothing(
    service: Service, recorder: Recorder, length: int
) -> None:
    body = multipart(recorder.form(), SPEECH)
    declared = f"Content-Length: {len(body)}"
    assert _send_and_hang_up(service, recorder, declared, body[:length]) == 400
    service.assert_nothing_left(recorder)


def test_a_client_that_resets_in_mid_body_leaves_nothing(
    service: Service, recorder: Recorder
) -> None:
    body = multipart(recorder.form(), SPEECH)
    with raw_upload(service, recorder, f"Content-Length: {len(body)}") as connection:
        connection.sendall(body[:100_000])
        eventually(service.temporary_files)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    service.assert_nothing_left(recorder)


@pytest.mark.parametrize("off_by", [5, -20])
def test_a_content_length_that_is_not_the_bodys_is_refused(
    service: Service, recorder: Recorder, off_by: int
) -> None:
    body = multipart(recorder.form(), SPEECH)
    declared = f"Content-Length: {len(body) + off_by}"
    assert _send_and_hang_up(service, recorder, declared, body) == 400
    service.assert_nothing_left(recorder)


def test_a_chunked_body_is_as_good_as_another(service: Service, recorder: Recorder) -> None:
    body = multipart(recorder.form(), SPEECH)
    pieces = (body[i : i + 9999] for i in range(0, len(body), 9999))
    assert _post(service, recorder, pieces).status_code == 200
    assert service.files(recorder)[0].read_bytes() == SPEECH


@pytest.mark.parametrize("end", [b"", b"5\r\nab", b"0\r\n", b"zz\r\n", b"-1\r\n", b"3\r\nabcd\r\n"])
def test_a_chunked_body_that_ends_badly_leaves_nothing(
    service: Service, recorder: Recorder, end: bytes
) -> None:
    body = multipart(recorder.form(), b"x" * 1000)
    chunked = b"%x\r\n" % len(body) + body + b"\r\n" + end
    assert _send_and_hang_up(service, recorder, "Transfer-Encoding: chunked", chunked) == 400
    service.assert_nothing_left(recorder)


def test_an_empty_body_is_refused(service: Service, recorder: Recorder) -> None:
    assert_problem(_post(service, recorder, b""), 400, "bad_request")
    service.assert_nothing_left(recorder)


@pytest.mark.parametrize(
    "boundary", ["", "; boundary=", "; boundary=other", '; boundary="ä"', "; boundary=" + "x" * 200]
)
def test_a_wrong_boundary_is_refused(service: Service, recorder: Recorder, boundary: str) -> None:
    response = _post(
        service,
        recorder,
        multipart(recorder.form(), SPEECH),
        **{"Content-Type": f"multipart/form-data{boundary}".encode("latin-1")},
    )
    assert_problem(response, 400, "bad_request")
    service.assert_nothing_left(recorder)


PART = b'--XyZ-boundary\r\nContent-Disposition: form-data; name="x"\r\n\r\n'
FILE = PART.replace(b'"x"', b'"chunk_file"; filename="c"')


@pytest.mark.parametrize(
    "body",
    [
        b"not multipart at all",
        b"{}",
        b"--XyZ-boundary--\r\n" * 2,
        b"--XyZ-boundary\r\n\r\nno headers\r\n--XyZ-boundary--\r\n",
        b"--XyZ-boundary\r\nContent-Type: audio/ogg\r\n\r\nx\r\n--XyZ-boundary--\r\n",
        b"x" * 3_000_000,
        b"--XyZ-boundary\r\n" + b"X: " + b"y" * 3_000_000,
        PART + b"x" * 3_000_000 + b"\r\n--XyZ-boundary--\r\n",
        (PART + b"x\r\n") * 10_000 + b"--XyZ-boundary--\r\n",
        (PART + b"x" * 500_000 + b"\r\n") * 10 + b"--XyZ-boundary--\r\n",
        (FILE + b"x\r\n").replace(b"chunk_file", b"other") * 10_000 + b"--XyZ-boundary--\r\n",
    ],
    ids=lambda body: f"{len(body)}-{body[:12]!r}",
)
def test_a_malformed_or_bloated_form_is_refused(
    service: Service, recorder: Recorder, body: bytes
) -> None:
    assert_problem(_post(service, recorder, body), 400, "bad_request")
    service.assert_nothing_left(recorder)


def test_a_body_without_a_length_is_an_empty_one(service: Service, recorder: Recorder) -> None:
    with raw_upload(service, recorder) as connection:
        assert read_status(connection) == 400
    service.assert_nothing_left(recorder)


MALFORMED_HEADS = {
    b"nonsense\r\n\r\n": 400,
    b"GET /\x00 HTTP/1.1\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, br\r\n\r\n": 501,
    b"GET / HTTP/1.1\r\nAuthorization: Bearer to ken\x01\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n": 431,
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n": 431,
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200_000: 431,
    b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n": 414,
    b"POST / HTTP/1.1\r\nExpect: miracles\r\n\r\n": 417,
    b"GET /health/live HTTP/1.1\r\n\r\n": 400,
    b"GET /health/live HTTP/1.1\r\nHost: a b\r\n\r\n": 400,
    b"GET /health/live HTTP/1.1\r\nHost: x/y\r\n\r\n": 400,
    b"GET /health/live HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n": 400,
    b"GET /health/live HTTP/1.1\r\nHost: [::1]:80\r\n\r\n": 200,
    b"GET /health/live HTTP/1.0\r\n\r\n": 200,
    b"GET /health/live HTTP/1.1\r\nSCRIPT_NAME: /x\r\nHost: x\r\n\r\n": 200,
}


@pytest.mark.parametrize("head", list(MALFORMED_HEADS), ids=lambda head: repr(head[:60]))
def test_what_is_not_http_is_told_like_every_other_error(service: Service, head: bytes) -> None:
    status = MALFORMED_HEADS[head]
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(head)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert int(answer.split()[1]) == status
    if status != 200:
        headers, _, body = answer.partition("\r\n\r\n")
        assert "Content-Type: application/problem+json" in headers
        problem = json.loads(body)
        assert problem["status"] == status
        assert f"X-Request-ID: {problem['request_id']}" in headers
        [line] = [li for li in service.log() if li.get("request_id") == problem["request_id"]]
        assert (line["message"], line["status"]) == ("malformed request", status)
    assert "to ken" not in service.log_path.read_text()


@pytest.mark.parametrize("encoding", ["base64", "Quoted-Printable"])
def test_a_file_in_a_transfer_encoding_is_refused(
    service: Service, recorder: Recorder, encoding: str
) -> None:
    coded = f"Content-Type: audio/ogg\r\nContent-Transfer-Encoding: {encoding}".encode()
    body = multipart(recorder.form(), b"T2dnUw==").replace(b"Content-Type: audio/ogg", coded)
    assert_problem(_post(service, recorder, body), 400, "bad_request")
    service.assert_nothing_left(recorder)


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b" \r\n"])
def test_lines_that_do_not_end_in_crlf_are_refused(
    service: Service, recorder: Recorder, line_end: bytes
) -> None:
    """Else werkzeug takes a CR at the end of a file for part of the boundary."""
    body = multipart(recorder.form(), b"sound\r").replace(b"\r\n", line_end)
    assert_problem(_post(service, recorder, body), 400, "bad_request")
    service.assert_nothing_left(recorder)


@pytest.mark.parametrize("data", [b"\r", b"\n", b"\r\n", b"sound\r", b"--", b"\r\n--"])
def test_every_byte_before_the_boundary_is_kept(
    service: Service, recorder: Recorder, data: bytes
) -> None:
    assert _post(service, recorder, b"\r\n" + multipart(recorder.form(), data)).status_code == 200
    assert service.files(recorder)[0].read_bytes() == data


def test_a_client_that_never_reads_its_answer_is_dropped_quietly(start_service) -> None:
    small = start_service(WORKERS="1", THREADS="2", REQUEST_STALL_SECONDS="1")
    for _ in range(300):
        small.recorder()
    with socket.socket() as connection, socket.socket() as another:
        _ask_without_reading(small, connection)
        _ask_without_reading(small, another)  # both threads are taken
        eventually(lambda: requests.get(f"{small.url}/health/live", timeout=10).ok)
    assert all(line["level"] == "INFO" for line in small.log())


def _ask_without_reading(service: Service, connection: socket.socket) -> None:
    request = "GET /api/v1/admin/devices HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    connection.connect(("127.0.0.1", service.port))
    for _ in range(200):  # more answers than fit into the buffers between us
        connection.sendall(f"{request}{ADMIN_TOKEN}\r\n\r\n".encode())


def test_an_unquoted_boundary_that_needs_quotes_is_blamed(
    service: Service, recorder: Recorder
) -> None:
    body = multipart(recorder.form(), SPEECH).replace(b"XyZ-boundary", b"XyZ=boundary")
    bare = {"Content-Type": "multipart/form-data; boundary=XyZ=boundary"}
    assert_problem(_post(service, recorder, body, **bare), 400, "bad_request", "quotation marks")
    quoted = {"Content-Type": 'multipart/form-data; boundary="XyZ=boundary"'}
    assert _post(service, recorder, body, **quoted).status_code == 200


def test_more_than_a_hundred_parts_are_refused_by_number(
    service: Service, recorder: Recorder
) -> None:
    form = multipart(recorder.form(), SPEECH)
    assert _post(service, recorder, (PART + b"x\r\n") * 91 + form).status_code == 200
    response = _post(service, recorder, (PART + b"x\r\n") * 92 + form)
    assert_problem(response, 400, "bad_request", "more than 100 parts")


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, identity"])
def test_a_content_encoding_is_refused_with_advice(
    service: Service, recorder: Recorder, coding: str
) -> None:
    body = multipart(recorder.form(), SPEECH)
    headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
    admin = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    for response in (
        _post(service, recorder, body, **{"Content-Encoding": coding}),
        requests.post(f"{service.url}/api/v1/admin/devices", data=b"{}", headers=headers | admin),
    ):
        assert_problem(response, 415, "unsupported_media_type", "Content-Encoding")
        assert response.headers["Accept-Encoding"] == "identity"
    assert _post(service, recorder, body, **{"Content-Encoding": "identity"}).status_code == 200


FORM = "Content-Type: multipart/form-data; boundary=XyZ-boundary"


def _answer_to_head(service: Service, *lines: str, length: int) -> bytes:
    """What the service sends when it gets only the head of a request that expects 100."""
    head = [*lines, "Host: x", "Expect: 100-continue", f"Content-Length: {length}", "", ""]
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall("\r\n".join(head).encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        ("POST /api/v1/chunks", [], 401),
        ("POST /api/v1/chunks", ["Authorization: Bearer {token}", "Content-Type: text/xml"], 415),
        ("POST /api/v1/chunks", ["Authorization: Bearer {token}", FORM], 413),
        ("POST /nothing", [], 404),
        ("PUT /api/v1/chunks", [], 405),
        ("POST /api/v1/admin/devices", ["Authorization: Bearer {admin}"], 415),
        (
            "POST /api/v1/admin/devices",
            ["Authorization: Bearer {admin}", "Content-Type: application/json"],
            413,
        ),
    ],
)
def test_what_the_head_decides_is_answered_without_100_continue(
    small: Service, request_line: str, headers: list[str], status: int
) -> None:
    token = small.recorder().token
    lines = [line.format(token=token, admin=ADMIN_TOKEN) for line in headers]
    length = 20_000_000 if status == 413 else 2000
    answer = _answer_to_head(small, f"{request_line} HTTP/1.1", *lines, length=length)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"100 Continue" not in answer
    assert b"Connection: close" in answer


def test_a_body_that_is_wanted_is_asked_for(service: Service, recorder: Recorder) -> None:
    body = multipart(recorder.form(), SPEECH)
    framing = f"Content-Length: {len(body)}", "Expect: 100-continue"
    with raw_upload(service, recorder, *framing) as connection:
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert read_status(connection) == 200


def test_a_body_in_tiny_chunks_is_refused(service: Service, recorder: Recorder) -> None:
    with raw_upload(service, recorder, "Transfer-Encoding: chunked") as connection:
        connection.sendall(b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"chunks of the body are too small" in answer
    service.assert_nothing_left(recorder)


def test_a_part_without_a_name_is_ignored(service: Service, recorder: Recorder) -> None:
    nameless = b"--XyZ-boundary\r\nContent-Disposition: form-data\r\n\r\nx\r\n"
    body = nameless + multipart(recorder.form(), SPEECH)
    assert _post(service, recorder, body).status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("extra", "status"), [(-1, 200), (0, 200), (1, 413), (2_000_000, 413)])
def test_the_limit_is_on_the_file_and_exact(
    small: Service, extra: int, status: int, chunked: bool
) -> None:
    recorder = small.recorder()
    body = multipart(recorder.form(), b"x" * (200_000 + extra))
    response = _post(small, recorder, iter([body]) if chunked else body)
    assert response.status_code == status
    if status == 413:
        phrase = "File exceeds maximum size of 200000 bytes"
        assert_problem(response, 413, "file_too_large", phrase)
        small.assert_nothing_left(recorder)


EXPECT = ["Expect: 100-continue", "Expect:"]  # the latter: curl leaves it away


@pytest.mark.parametrize("megabytes", [9, 50])
@pytest.mark.parametrize(("token", "status"), [("good", 413), ("bad", 401)])
@pytest.mark.parametrize("expect", EXPECT)
def test_a_refusal_can_be_read_by_requests_while_it_sends(
    small: Service, megabytes: int, token: str, status: int, expect: str
) -> None:
    recorder = small.recorder()
    headers = {} if token == "good" else {"Authorization": "Bearer bad-one"}
    if expect != "Expect:":
        headers |= {"Expect": "100-continue"}
    body = multipart(recorder.form(), b"x" * megabytes * 1_000_000)
    assert _post(small, recorder, body, **headers).status_code == status
    small.assert_nothing_left(recorder)


@pytest.mark.parametrize("megabytes", [9, 50])
@pytest.mark.parametrize(("token", "status"), [("good", 413), ("bad", 401)])
@pytest.mark.parametrize("expect", EXPECT)
def test_a_refusal_can_be_read_by_curl_while_it_sends(
    small: Service, tmp_path: Path, megabytes: int, token: str, status: int, expect: str
) -> None:
    recorder = small.recorder()
    large = tmp_path / "large"
    large.write_bytes(b"x" * megabytes * 1_000_000)
    bearer = recorder.token if token == "good" else "bad-one"
    options = ["-H", expect, "-H", f"Authorization: Bearer {bearer}", "-F", f"chunk_file=@{large}"]
    result = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", *options, f"{small.url}/api/v1/chunks"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(status)
    small.assert_nothing_left(recorder)


def test_a_refused_connection_stays_usable(service: Service, recorder: Recorder) -> None:
    session = requests.Session()
    bad = {"Authorization": "Bearer bad-one"}
    for _ in range(3):
        assert service.upload(recorder, session=session, headers=bad).status_code == 401
        assert service.upload(recorder, session=session).status_code == 200


@pytest.mark.parametrize("sent", [0, 50, 100_000])
def test_a_stalled_body_is_cut_with_a_408(small: Service, sent: int) -> None:
    recorder = small.recorder()
    body = multipart(recorder.form(), SPEECH)
    with raw_upload(small, recorder, f"Content-Length: {len(body)}") as connection:
        connection.sendall(body[:sent])
        started = time.monotonic()
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        assert answer.count("HTTP/1.1 ") == answer.count("HTTP/1.1 408 ") == 1
        assert "Connection: close" in answer
        assert time.monotonic() - started < 10  # 1 s of stall, and no second one to discard
    small.assert_nothing_left(recorder)
    [line] = [
        line for line in small.log() if line.get("device_id") == str(recorder.device.device_id)
    ]
    assert (line["level"], line["status"], line["code"]) == ("INFO", 408, "request_timeout")


def test_a_dripping_body_is_cut_with_a_408(small: Service) -> None:
    recorder = small.recorder()
    body = multipart(recorder.form(), SPEECH)
    with raw_upload(small, recorder, f"Content-Length: {len(body)}") as connection:
        started = time.monotonic()
        connection.settimeout(0.2)
        status = None
        for byte in body:
            connection.sendall(bytes([byte]))
            try:
                status = read_status(connection)
                break
            except TimeoutError:
                assert time.monotonic() - started < 20
    assert status == 408
    small.assert_nothing_left(recorder)


@pytest.mark.parametrize("head", [b"", b"POST /api/v1/chunks HTTP/1.1\r\nHost: x\r\nX: "])
def test_a_stalled_head_is_cut_with_a_408(small: Service, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", small.port), timeout=100) as connection:
        connection.sendall(head)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    problem = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (problem["status"], problem["code"]) == (408, "request_timeout")
    assert problem["retryable"] is True
    assert all(line["level"] == "INFO" for line in small.log())


def _resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.mark.slow
@pytest.mark.parametrize("limit", [LIMIT, 10 * LIMIT])
def test_large_bodies_are_not_held_in_memory(start_service, limit: int) -> None:
    """32 at once, each as large as allowed, all under way together."""
    service = start_service(MAX_UPLOAD_SIZE_BYTES=str(limit))
    recorder = service.recorder()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: service.upload(recorder, b"%d" % i), range(32)))
    idle = {pid: _resident_kib(pid) for pid in service.workers()}
    highest = dict(idle)
    body = multipart(recorder.form(), b"x" * limit)

    def watch() -> None:
        for pid in idle:
            highest[pid] = max(highest[pid], _resident_kib(pid))

    connections = []
    for _ in range(32):
        context = raw_upload(service, recorder, f"Content-Length: {len(body)}")
        connections.append((context, context.__enter__()))
    step = 512 * 1024 if limit == LIMIT else 5 * 1024 * 1024
    for start in range(0, len(body) - 1, step):
        for _, connection in connections:
            connection.sendall(body[start : min(start + step, len(body) - 1)])
        watch()
    for _, connection in connections:
        connection.sendall(body[-1:])
    statuses = []
    for context, connection in connections:
        statuses.append(read_status(connection))
        watch()
        context.__exit__(None, None, None)
    assert statuses == [200] * 32
    growth = {pid: highest[pid] - idle[pid] for pid in idle}
    assert max(growth.values()) < 40 * 1024, growth
    assert len(service.files(recorder)) == 33
