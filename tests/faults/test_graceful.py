"""SIGTERM and SIGHUP, while uploads are on their way: none is dropped."""

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import requests
from support.processes import eventually, is_alive
from support.raw import raw_upload, read_status
from support.recorder import SPEECH, Recorder, multipart
from support.service import Service


def _signal_in_mid_upload(service: Service, recorder: Recorder, signum: signal.Signals) -> None:
    """Twelve uploads are half sent when the signal comes, and sent to the end after it."""
    assert service.process is not None
    with ExitStack() as stack:
        uploads = []
        for number in range(12):
            body = multipart(recorder.form(), SPEECH + b"%d" % number)
            head = f"Content-Length: {len(body)}"
            connection = stack.enter_context(raw_upload(service, recorder, head))
            connection.sendall(body[:100_000])
            uploads.append((connection, body[100_000:]))
        eventually(lambda: len(service.temporary_files()) == 12)
        workers = service.workers()
        service.process.send_signal(signum)
        if signum == signal.SIGHUP:
            eventually(lambda: len(set(service.workers()) - set(workers)) == len(workers))
        time.sleep(0.5)
        for connection, rest in uploads:
            connection.sendall(rest)
        assert [read_status(connection) for connection, _ in uploads] == [200] * 12


def test_sigterm_finishes_what_is_on_its_way(start_service) -> None:
    service = start_service()
    recorder = service.recorder()
    _signal_in_mid_upload(service, recorder, signal.SIGTERM)
    assert service.process.wait(30) == 0
    assert len(service.rows(recorder)) == len(service.files(recorder)) == 12
    assert not service.temporary_files()


def test_sighup_finishes_what_is_on_its_way(start_service) -> None:
    service = start_service()
    recorder = service.recorder()
    before = service.workers()
    _signal_in_mid_upload(service, recorder, signal.SIGHUP)
    assert len(service.rows(recorder)) == len(service.files(recorder)) == 12
    eventually(lambda: not set(before) & set(service.workers()), 20)
    assert service.upload(recorder, b"by a new worker").status_code == 200


def test_sigterm_answers_who_has_just_connected_or_waits_between_two_uploads(
    start_service,
) -> None:
    """A connection that says nothing holds the stop up for no more than a moment, and one that
    speaks within that moment is still served."""
    service = start_service()
    recorder = service.recorder()
    session = requests.Session()
    assert service.upload(recorder, b"1", session=session).status_code == 200
    with socket.create_connection(("127.0.0.1", service.port)) as silent:
        time.sleep(0.3)  # both are known to their workers
        service.process.terminate()
        eventually(lambda: "Handling signal: term" in service.log_path.read_text())
        time.sleep(0.3)  # and so the workers know
        answer = service.upload(recorder, b"2", session=session)
        assert (answer.status_code, answer.headers["Connection"]) == (200, "close")
        assert service.process.wait(15) == 0
        assert silent.recv(1000).startswith(b"HTTP/1.1 408")
    assert len(service.rows(recorder)) == 2


def test_a_worker_that_dies_is_replaced_while_others_serve(start_service) -> None:
    service = start_service()
    recorder = service.recorder()
    first = service.workers()
    with ThreadPoolExecutor(8) as pool:
        uploads = pool.map(lambda n: service.upload(recorder, b"%d" % n).status_code, range(200))
        time.sleep(0.2)
        os.kill(first[0], signal.SIGTERM)  # gracefully, as an operator may
        assert list(uploads) == [200] * 200
    eventually(lambda: len(service.workers()) == 2 and first[0] not in service.workers())
    assert len(service.rows(recorder)) == 200


def test_workers_without_a_master_end_soon_though_agents_go_on_talking(start_service) -> None:
    """They would hold the port, and a new service could not start."""
    service = start_service()
    recorder = service.recorder()
    workers = service.workers()
    session = requests.Session()
    service.process.kill()

    def are_gone() -> bool:
        with suppress(requests.ConnectionError):
            service.upload(recorder, b"still here", session=session)
        return not any(map(is_alive, workers))

    eventually(are_gone, 15)
    assert len(service.rows(recorder)) == 1
    service.log_path.unlink()  # which tells when it is ready
    service.start()
    assert service.upload(recorder).status_code == 200


def test_where_memory_runs_out_a_worker_goes_before_the_master(start_service) -> None:
    service = start_service()

    def adjustment(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    assert service.process
    assert adjustment(service.process.pid) <= 0
    assert [adjustment(pid) for pid in service.workers()] == [200, 200]
