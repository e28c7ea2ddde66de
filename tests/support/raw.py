"""Uploads byte by byte, on a socket, to be bent by a test."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from support.recorder import Recorder
from support.service import Service


@contextmanager
def raw_upload(service: Service, recorder: Recorder, *headers: str) -> Iterator[socket.socket]:
    """A connection on which the head of an upload was sent; the body is the test's business."""
    head = [
        "POST /api/v1/chunks HTTP/1.1",
        f"Host: 127.0.0.1:{service.port}",
        f"Authorization: Bearer {recorder.token}",
        "Content-Type: multipart/form-data; boundary=XyZ-boundary",
        *headers,
    ]
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        yield connection


def read_status(connection: socket.socket) -> int:
    """The status of the answer on a raw connection; 0 when the peer closed it without one."""
    data = b""
    while b"\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return 0
        data += piece
    return int(data.split(b" ", 2)[1])
