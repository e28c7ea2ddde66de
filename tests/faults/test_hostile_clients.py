"""Clients that stall, drip, hang up, or send what is no HTTP: the good ones notice nothing."""

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import requests
from support.processes import eventually
from support.raw import raw_upload, read_status
from support.recorder import SPEECH, Recorder, multipart
from support.service import Service

STALLED, GOOD = 300, 50
STALL_SECONDS, DEADLINE_SECONDS = 5, 12


@pytest.fixture(scope="module")
def patient(tmp_path_factory, new_database) -> Iterator[Service]:
    """gunicorn alone, with everything as by default but for less patience."""
    service = Service(
        tmp_path_factory.mktemp("patient"),
        new_database(),
        REQUEST_STALL_SECONDS=str(STALL_SECONDS),
        REQUEST_DEADLINE_SECONDS=str(DEADLINE_SECONDS),
    ).start()
    yield service
    assert service.stop() == 0


def _silent(service: Service, _recorder: Recorder) -> int:
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        return read_status(connection)


def _half_a_head(service: Service, _recorder: Recorder) -> int:
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(b"POST /api/v1/chunks HTTP/1.1\r\nHost: x\r\nX: ")
        return read_status(connection)


def _half_a_body(service: Service, recorder: Recorder) -> int:
    body = multipart(recorder.form(), SPEECH)
    with raw_upload(service, recorder, f"Content-Length: {len(body)}") as connection:
        connection.sendall(body[: len(body) // 2])
        return read_status(connection)


def _a_byte_a_second(service: Service, recorder: Recorder) -> int:
    body = multipart(recorder.form(), SPEECH)
    with raw_upload(service, recorder, f"Content-Length: {len(body)}") as connection:
        connection.settimeout(1)
        for byte in body:
            connection.sendall(bytes([byte]))
            try:
                return read_status(connection)
            except TimeoutError:
                continue
    raise AssertionError("the whole body was taken")


def _timed(
    client: Callable[[Service, Recorder], int], service: Service, recorder: Recorder
) -> tuple[int, float]:
    """The answer's status, and after how many seconds it came."""
    started = time.monotonic()
    return client(service, recorder), time.monotonic() - started


def _resident_mib(service: Service) -> float:
    """Of all the workers together."""
    pages = [Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in service.workers()]
    return sum(map(int, pages)) * 4096 / 2**20


def _upload_until(service: Service, recorder: Recorder, done: threading.Event) -> list[float]:
    """Upload new chunks as a good agent does; how long each took, in seconds."""
    waits, number = [], 0
    with requests.Session() as session:
        while not done.is_set():
            number += 1
            data = SPEECH + b"%d" % number
            started = time.monotonic()
            response = service.upload(recorder, data, session=session)
            waits.append(time.monotonic() - started)
            assert response.status_code == 200, response.text
            done.wait(0.5)
    return waits


def test_three_hundred_stalled_clients_do_not_hold_up_fifty_good_ones(patient: Service) -> None:
    stalling = patient.recorder()
    good = [patient.recorder() for _ in range(GOOD)]
    kinds: list[Callable[[Service, Recorder], int]]
    kinds = [_silent, _half_a_head, _half_a_body, _a_byte_a_second]
    done = threading.Event()
    memory = [_resident_mib(patient)]
    with ThreadPoolExecutor(STALLED) as pool, ThreadPoolExecutor(GOOD) as agents:
        cuts = [pool.submit(_timed, kinds[i % 4], patient, stalling) for i in range(STALLED)]
        uploads = [agents.submit(_upload_until, patient, recorder, done) for recorder in good]
        try:
            while not all(cut.done() for cut in cuts):
                memory.append(_resident_mib(patient))
                time.sleep(0.1)
        finally:
            done.set()
        assert [cut.result()[0] for cut in cuts] == [408] * STALLED
        waits = [seconds for upload in uploads for seconds in upload.result()]
    for number, kind in enumerate(kinds):
        limit = DEADLINE_SECONDS if kind is _a_byte_a_second else STALL_SECONDS
        times = [cut.result()[1] for cut in cuts[number::4]]
        assert limit - 0.5 < min(times) <= max(times) < limit + 10, kind
    print(
        f"{STALLED} stalled, all cut with 408; {len(waits)} good uploads, the longest "
        f"{max(waits):.2f} s; workers' memory {memory[0]:.0f} MiB, at most {max(memory):.0f} MiB"
    )
    assert len(waits) > 2 * GOOD
    assert max(waits) < 15
    assert max(memory) - memory[0] < 200  # about 0.5 MiB for each that holds a thread
    patient.assert_nothing_left(stalling)
    assert sum(len(patient.rows(recorder)) for recorder in good) == len(waits)
    assert len(patient.workers()) == 2
    assert "WORKER TIMEOUT" not in patient.log_path.read_text()


def test_a_client_that_does_not_close_holds_up_nobody(patient: Service) -> None:
    """Each answered with `Connection: close`, and not closing its own end."""
    with ThreadPoolExecutor(60) as pool:

        def refuse(_number: int) -> int:
            address = ("127.0.0.1", patient.port)
            with socket.create_connection(address, timeout=60) as connection:
                connection.sendall(b"nonsense\r\n\r\n")
                status = read_status(connection)
                time.sleep(3)
                return status

        refused = [pool.submit(refuse, number) for number in range(60)]
        eventually(lambda: patient.log_path.read_text().count("InvalidRequestLine") >= 60)
        started = time.monotonic()
        for _ in range(10):
            assert requests.get(f"{patient.url}/health/live", timeout=10).status_code == 200
        assert time.monotonic() - started < 3  # 60 closes of 2 s each would take minutes
        assert [answer.result() for answer in refused] == [400] * 60


def test_those_who_never_pause_leave_threads_to_others(start_service) -> None:
    """A thread stays with a connection that goes on at once, as long as nobody waits for it."""
    service = start_service(WORKERS="1", THREADS="2")
    done = threading.Event()

    def ask_without_a_pause() -> None:
        with requests.Session() as session:
            while not done.is_set():
                assert session.get(f"{service.url}/health/live", timeout=10).status_code == 200

    with ThreadPoolExecutor() as pool:
        busy = [pool.submit(ask_without_a_pause) for _ in range(3)]
        try:
            for _ in range(5):
                assert requests.get(f"{service.url}/health/live", timeout=5).status_code == 200
        finally:
            done.set()
    for client in busy:
        client.result()


def test_a_worker_that_runs_out_of_descriptors_serves_those_who_are_there(start_service) -> None:
    service = start_service()
    recorder = service.recorder()
    workers = service.workers()
    with requests.Session() as session, ExitStack() as stack:
        assert service.upload(recorder, b"1", session=session).status_code == 200
        _, hard = resource.prlimit(workers[0], resource.RLIMIT_NOFILE)
        for pid in workers:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (40, hard))
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port)))
        message = "no connection can be accepted: [Errno 24] Too many open files"
        eventually(lambda: message in service.log_path.read_text())
        assert service.upload(recorder, b"2", session=session).status_code in {200, 503}
    for pid in workers:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    eventually(lambda: service.upload(recorder, b"2").status_code == 200)
    assert service.workers() == workers


def _address_space(pid: int) -> int:
    """In bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


def test_a_worker_that_is_granted_no_more_threads_makes_do_with_those_it_has(
    start_service,
) -> None:
    service = start_service(WORKERS="1", REQUEST_STALL_SECONDS="2")
    recorder = service.recorder()
    [pid] = service.workers()
    with ThreadPoolExecutor(4) as pool:  # so that there are some
        answers = pool.map(lambda n: service.upload(recorder, b"%d" % n).status_code, range(20))
        assert set(answers) == {200}
    limit = _address_space(pid) + 64 * 2**20  # a thread's stack takes 8 MiB of it
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    with ThreadPoolExecutor(24) as pool:
        cuts = [pool.submit(_half_a_body, service, recorder) for _ in range(24)]
        message = "the system grants no more threads"
        eventually(lambda: message in service.log_path.read_text())
        assert {cut.result() for cut in cuts} == {408}  # one after the other
    assert service.upload(recorder, b"afterwards").status_code == 200
    assert service.workers() == [pid]


SMUGGLING = {
    "both lengths": "Content-Length: {length}\r\nTransfer-Encoding: chunked",
    "two lengths": "Content-Length: {length}\r\nContent-Length: 5",
    "a list of lengths": "Content-Length: {length}, {length}",
    "a signed length": "Content-Length: +{length}",
    "a length with a space inside": "Content-Length: 1 0",
    "an empty length": "Content-Length: ",
    "a coding before chunked": "Transfer-Encoding: gzip, chunked",
    "chunked twice": "Transfer-Encoding: chunked, chunked",
    "two transfer encodings": "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "a space before the colon": "Transfer-Encoding : chunked",
    "an unknown coding": "Transfer-Encoding: xchunked",
    "a folded header": "X-A: b\r\n Content-Length: 5\r\nContent-Length: {length}",
    "a bare line feed in a header": "X-A: b\nContent-Length: 5\r\nContent-Length: {length}",
    "a carriage return in a header": "X-A: b\rContent-Length: 5\r\nContent-Length: {length}",
}


@pytest.mark.parametrize("framing", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_an_ambiguous_length_is_refused_and_the_connection_ends(
    patient: Service, framing: str
) -> None:
    """Nothing behind it is taken for a second request, which another proxy may not have seen."""
    recorder = patient.recorder()
    workers = patient.workers()
    body = multipart(recorder.form(), b"smuggled")
    with raw_upload(patient, recorder, framing.format(length=len(body))) as connection:
        connection.sendall(body + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert int(answer.split()[1]) in {400, 501}
    assert answer.count(b"HTTP/1.1 ") == 1
    patient.assert_nothing_left(recorder)
    assert patient.workers() == workers


CHUNKS = {
    "no number": b"xyz\r\nabc\r\n0\r\n\r\n",
    "a negative size": b"-5\r\nabcde\r\n0\r\n\r\n",
    "a prefix": b"0x5\r\nabcde\r\n0\r\n\r\n",
    "an underscore": b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n",
    "a space before the size": b" 5\r\nabcde\r\n0\r\n\r\n",
    "an enormous size": b"f" * 40 + b"\r\nabcde\r\n0\r\n\r\n",
    "a size line without end": b"5" + b"0" * 100_000,
    "more than was said": b"3\r\nabcdefgh\r\n0\r\n\r\n",
    "no end": b"5\r\nabcde\r\n",
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
def test_a_bad_chunk_size_is_refused_and_the_connection_ends(
    patient: Service, chunks: bytes
) -> None:
    recorder = patient.recorder()
    workers = patient.workers()
    with raw_upload(patient, recorder, "Transfer-Encoding: chunked") as connection:
        connection.sendall(chunks + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert int(answer.split()[1]) == 400
    assert answer.count(b"HTTP/1.1 ") == 1
    patient.assert_nothing_left(recorder)
    assert patient.workers() == workers


def test_garbage_behind_a_good_upload_is_refused_and_the_upload_kept(patient: Service) -> None:
    recorder = patient.recorder()
    workers = patient.workers()
    body = multipart(recorder.form(), SPEECH)
    with raw_upload(patient, recorder, f"Content-Length: {len(body)}") as connection:
        connection.sendall(body + b"\x00\xff garbage \r\n\r\n" * 100)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    statuses = [int(piece.split()[0]) for piece in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 400]
    assert len(patient.rows(recorder)) == len(patient.files(recorder)) == 1
    assert patient.workers() == workers


def test_pipelined_uploads_are_answered_in_order(patient: Service) -> None:
    recorder = patient.recorder()
    bodies = [multipart(recorder.form(), b"number %d" % number) for number in range(5)]
    head = (
        f"POST /api/v1/chunks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {recorder.token}\r\n"
        "Content-Type: multipart/form-data; boundary=XyZ-boundary\r\nContent-Length: %d\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", patient.port), timeout=30) as connection:
        connection.sendall(b"".join((head % len(body)).encode() + body for body in bodies))
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200") == len(patient.rows(recorder)) == 5


def test_a_head_has_ten_seconds_whatever_arrives(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=0.2) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        started, status = time.monotonic(), None
        while status is None and time.monotonic() - started < 30:
            connection.sendall(b"x")
            with suppress(TimeoutError):
                status = read_status(connection)
    assert status == 408
    assert time.monotonic() - started < 20
