"""The socket that does not wait for ever, without a service around it."""

import socket
import time
from collections.abc import Iterator

import pytest

from ingest_api.server.patient_socket import PatientSocket, RequestTimedOut


@pytest.fixture
def pair() -> Iterator[tuple[PatientSocket, socket.socket]]:
    """A patient socket and its peer."""
    ours, theirs = socket.socketpair()
    with PatientSocket(fileno=ours.detach()) as patient, theirs:
        patient.stall, patient.deadline = 0.1, time.monotonic() + 60
        yield patient, theirs


def test_it_gives_up_on_a_peer_that_stalls(pair: tuple[PatientSocket, socket.socket]) -> None:
    patient, peer = pair
    peer.sendall(b"x")
    assert patient.recv(10) == b"x"
    with pytest.raises(RequestTimedOut):
        patient.recv(10)


def test_it_gives_up_on_a_peer_that_drips(pair: tuple[PatientSocket, socket.socket]) -> None:
    patient, peer = pair
    patient.deadline = time.monotonic() - 1
    with pytest.raises(RequestTimedOut):
        patient.recv(10)
    peer.sendall(b"x")  # not even what is there already: it could go on for ever
    with pytest.raises(RequestTimedOut):
        patient.recv(10)


@pytest.mark.parametrize("pipelined", [False, True])
def test_it_gives_up_on_a_peer_that_does_not_read(
    pair: tuple[PatientSocket, socket.socket], pipelined: bool
) -> None:
    patient, peer = pair
    if not pipelined:  # a request that came with the one before is answered without a read
        peer.sendall(b"x")
        patient.recv(10)
    with pytest.raises(RequestTimedOut):
        patient.sendall(b"x" * 100_000_000)


def test_a_shorter_limit_of_gunicorns_own_is_kept(
    pair: tuple[PatientSocket, socket.socket],
) -> None:
    patient, _ = pair
    patient.stall = 60
    patient.settimeout(0.1)
    with pytest.raises(RequestTimedOut):
        patient.recv(10)
    assert patient.gettimeout() == 0.1


def test_it_reads_little_at_once(pair: tuple[PatientSocket, socket.socket]) -> None:
    patient, peer = pair
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
    peer.setblocking(False)
    peer.send(b"x" * 1_000_000)
    assert len(patient.recv(1_000_000)) <= 256 * 1024
