"""Standard error that never blocks, on each kind of descriptor."""

import os
import socket
import subprocess
import sys
from contextlib import closing

from support.processes import eventually

from ingest_api.server.standard_error import BACKLOG_BYTES, PatientStream

LINES = [f"{number} {'x' * 90}\n" for number in range(2000)]


def test_a_pipe_gets_all_lines_in_order_once_it_is_read() -> None:
    reader, writer = os.pipe()
    stream = PatientStream(writer)
    for line in LINES:
        stream.write(line)
    with os.fdopen(reader) as text:
        assert [text.readline() for _ in LINES] == LINES
    os.close(writer)


def test_a_socket_gets_all_lines_in_order_once_it_is_read() -> None:
    reader, writer = socket.socketpair()
    stream = PatientStream(writer.fileno())
    for line in LINES * 3:
        stream.write(line)
    with closing(writer), closing(reader), reader.makefile() as text:
        assert [text.readline() for _ in LINES * 3] == LINES * 3


def test_a_reader_that_keeps_up_costs_no_thread() -> None:
    reader, writer = os.pipe()
    stream = PatientStream(writer)
    stream.write("äöü \udcff\n")
    assert os.read(reader, 100).decode() == "äöü \\udcff\n"
    assert stream._thread is None
    os.close(reader)
    os.close(writer)


def test_a_stalled_reader_costs_bounded_memory() -> None:
    reader, writer = os.pipe()
    stream = PatientStream(writer)
    for _ in range(BACKLOG_BYTES // 10_000 + 50):
        stream.write("x" * 9_999 + "\n")
    assert stream._size <= BACKLOG_BYTES
    assert stream._dropped > 20
    os.close(reader)
    eventually(lambda: stream._thread is None)
    os.close(writer)


def test_a_process_that_ends_waits_for_its_reader_only_briefly() -> None:
    code = (
        "import os; from ingest_api.server.standard_error import PatientStream; "
        "PatientStream(2).write('x' * 200_000); os.fork() or os._exit(0)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        assert process.wait(20) == 0
