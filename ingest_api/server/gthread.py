"""gunicorn's threaded worker, on sockets with time limits. It reports its own errors in the
application's format."""

import errno
import logging
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from selectors import EVENT_READ
from time import monotonic
from typing import Any, cast

from flask import Flask
from gunicorn.glogging import Logger
from gunicorn.http import errors as http
from gunicorn.workers.gthread import TConn, ThreadWorker

from ingest_api.components import EXTENSION, Components
from ingest_api.server.heads import HEAD_SECONDS, HERE_SECONDS, WaitingHeads, can_wait, look
from ingest_api.server.patient_socket import RECEIVE_BYTES, PatientSocket
from ingest_api.server.refusals import refuse

_MALFORMED = {
    http.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    http.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    http.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    http.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
}
_worker_log = logging.getLogger(__name__)

FOLLOWING_SECONDS = 0.02
"""How long a thread stays with a connection that it has answered: an agent that drains its spool
sends the next recording at once. Returning the connection to the poller and fetching it again wakes
two threads; without that a process serves a tenth more. (Not behind the nginx of deploy/, which
opens a connection for each request.)"""

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(:[0-9]*)?", re.ASCII)

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_REST_SECONDS = 1.0


class InvalidHost(http.ParseException):
    """The Host header is missing or malformed (RFC 9112, section 3.2)."""


class Log(Logger):
    """gunicorn's logger without its access log, which would prepare each line in vain:
    `web/access_log.py` logs the requests."""

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        pass


class _Threads(ThreadPoolExecutor):
    """A pool that carries on with its threads when the system grants no more."""

    @property
    def awaited(self) -> bool:
        """Return whether a connection waits for a thread."""
        return not self._work_queue.empty()

    @property
    def busy(self) -> int:
        """Return how many threads serve a connection."""
        return len(self._threads) - self._idle_semaphore._value

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise
            _worker_log.error("the system grants no more threads; raise its limits, see TasksMax")


class UploadWorker(ThreadWorker):
    """`ThreadWorker` on patient sockets. Threads serve only clients that have sent the head of a
    request: until then a connection waits in the poller."""

    _accept_again = 0.0  # monotonic
    _told_busy = 0

    def get_thread_pool(self) -> ThreadPoolExecutor:
        return _Threads(self.cfg.threads)

    def accept(self, listener: Any) -> None:
        """Accept a connection. With no descriptors left, pause and serve the present clients:
        gunicorn would end the process, and all its uploads."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            _worker_log.error("no connection can be accepted: %s", error)
            self._accept_again = monotonic() + _REST_SECONDS
            self.set_accept_enabled(False)

    def set_accept_enabled(self, enabled: bool | None) -> None:
        if not enabled or monotonic() >= self._accept_again:
            super().set_accept_enabled(enabled)

    def load_wsgi(self) -> None:
        super().load_wsgi()
        application = cast(Flask, self.wsgi)
        components: Components = application.extensions[EXTENSION]
        self.settings, self.metrics = components.settings, components.metrics
        self.heads = WaitingHeads(self.poller, super().enqueue_req)
        self.log.info("Worker ready (pid: %s)", self.pid)

    def notify(self) -> None:
        """Tell the master that this process is alive, and /metrics how many threads are busy: once
        a second or oftener."""
        super().notify()
        if (busy := cast(_Threads, self.tpool).busy) != self._told_busy:
            self._told_busy = busy
            self.metrics.tell_threads(busy)

    def is_parent_alive(self) -> bool:
        """Return whether the master is alive; without it, stop as on a signal. gunicorn only leaves
        its loop: clients that keep their connections would then keep it, and the port, for long."""
        if not super().is_parent_alive():
            self.alive = False
        return self.alive

    def enqueue_req(self, conn: TConn) -> None:
        if not (conn.initialized or conn.data_ready):
            self._await_first_byte(conn)
        elif not can_wait(conn):
            super().enqueue_req(conn)
        else:
            is_ready, seen = look(conn)
            if is_ready:
                super().enqueue_req(conn)
            else:
                self.heads.add(conn, seen, seconds=self._head_seconds)

    def murder_pending(self) -> None:
        """Answer 408 to connections that sent nothing, or no whole head, in time; close them."""
        now = monotonic()
        while self.pending_conns and (self.pending_conns[0].timeout or 0) <= now:
            conn = self.pending_conns.popleft()
            self.poller.unregister(conn.sock)
            self._give_up(conn, "silent")
        for conn in self.heads.take_late():
            self._give_up(conn, "stalled head")

    def _cap_keepalive(self, deadline: float) -> None:
        """Wait no longer for silent connections than for kept-alive ones when stopping."""
        super()._cap_keepalive(deadline)  # type: ignore[misc]  # not in typeshed yet
        self.heads.cap(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout or deadline, deadline)

    @property
    def _head_seconds(self) -> float:
        settings = self.settings
        return min(HEAD_SECONDS, settings.request_stall_seconds, settings.request_deadline_seconds)

    def _await_first_byte(self, conn: TConn) -> None:
        conn.sock.setblocking(False)
        conn.timeout = monotonic() + self.settings.request_stall_seconds
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def _give_up(self, conn: TConn, reason: str) -> None:
        self.nr_conns -= 1
        refuse(conn.sock, conn.client, HTTPStatus.REQUEST_TIMEOUT, reason)
        with suppress(OSError):  # closing with bytes unread resets, and the answer may be lost
            socket.socket.recv(conn.sock, RECEIVE_BYTES, socket.MSG_DONTWAIT)
        conn.close()

    def handle(self, conn: TConn) -> Any:
        """Serve a request, and those that follow at once unless others wait for a thread."""
        keep, threads = self._handle_one(conn), cast(_Threads, self.tpool)
        while keep and self.alive and not threads.awaited and _goes_on(conn):
            keep = self._handle_one(conn)
        return keep

    def _handle_one(self, conn: TConn) -> Any:
        """Serve one request, whose time begins when its head is here."""
        if not isinstance(conn.sock, PatientSocket):
            conn.sock = PatientSocket(fileno=conn.sock.detach())
            conn.sock.stall = self.settings.request_stall_seconds
        deadline = self.settings.request_deadline_seconds
        started = monotonic()
        conn.sock.deadline = started + (HERE_SECONDS if can_wait(conn) else self._head_seconds)
        conn.sock.body_deadline = started + deadline
        conn.sock.in_head, conn.sock.received = True, 0
        keep = super().handle(conn)
        if conn.sock.timed_out and conn.sock.in_head and not conn.sock.request:
            refuse(conn.sock, conn.client, HTTPStatus.REQUEST_TIMEOUT, "stalled head")
        if not keep:
            conn.sock.linger()  # here: gunicorn would block its main thread
        return keep

    def handle_request(self, req: Any, conn: TConn) -> Any:
        """Pass a request with a complete head to the application, which answers from here on.

        gunicorn would send 100 Continue now. The socket does so with the first read of the body:
        many refusals need only the head.
        """
        _require_host(req)
        connection = cast(PatientSocket, conn.sock)
        connection.in_head, connection.request = False, req
        connection.deadline = connection.body_deadline
        connection.awaits_continue = req._expected_100_continue
        req._expected_100_continue = False
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Refuse a malformed request, which never reaches the application."""
        if not isinstance(exc, http.ParseException):
            super().handle_error(req, client, addr, exc)
            return
        # The name only: the text may quote a header, and so a token.
        name = type(exc).__name__
        refuse(client, addr, _MALFORMED.get(type(exc), HTTPStatus.BAD_REQUEST), name)


def _require_host(req: Any) -> None:
    hosts = [value for name, value in req.headers if name == "HOST"]
    if req.version < (1, 1) and not hosts:
        return
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise InvalidHost


def _goes_on(conn: TConn) -> bool:
    """Return whether the head of the client's next request is here, or comes soon."""
    if cast(Any, conn.parser).unreader.buf.getvalue():  # it is read already, perhaps in part
        return look(conn)[0]
    return cast(PatientSocket, conn.sock).is_readable(FOLLOWING_SECONDS) and look(conn)[0]
