"""What this code overrides or reaches into in gunicorn, werkzeug, psycopg and Python is as it was
when the code was written. After an upgrade of one of them, a failure here names what to read."""

import inspect
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from gunicorn.glogging import Logger
from gunicorn.http import errors as http
from gunicorn.http.body import Body, ChunkedReader, LengthReader
from gunicorn.http.unreader import Unreader
from gunicorn.workers.gthread import TConn, ThreadWorker
from psycopg_pool import ConnectionPool
from werkzeug.sansio.multipart import MultipartDecoder, State
from werkzeug.wrappers import Request

from ingest_api.database.pool import BoundedConnection, _Pool
from ingest_api.server.gthread import Log, UploadWorker, _Threads
from ingest_api.web.body import IngestRequest
from ingest_api.web.multipart import _Decoder

OVERRIDES: dict[tuple[type, type], dict[str, str]] = {
    (UploadWorker, ThreadWorker): {
        "get_thread_pool": "self",
        "accept": "self listener",
        "set_accept_enabled": "self enabled",
        "load_wsgi": "self",
        "notify": "self",
        "is_parent_alive": "self",
        "enqueue_req": "self conn",
        "murder_pending": "self",
        "_cap_keepalive": "self deadline",
        "handle": "self conn",
        "handle_request": "self req conn",
        "handle_error": "self req client addr exc",
    },
    (Log, Logger): {"access": "self resp req environ request_time"},
    (_Threads, ThreadPoolExecutor): {"_adjust_thread_count": "self"},
    (_Decoder, MultipartDecoder): {
        "_parse_headers": "self data",
        "_parse_data": "self data start",
    },
    (BoundedConnection, psycopg.Connection): {"wait": "self gen interval timeout"},
    (_Pool, ConnectionPool): {"_connect": "self timeout"},
}
"""Our class and the class of another project: which methods we override, with their parameters."""

REACHES: dict[type, str] = {
    ThreadWorker: "alive cfg log nr_conns pending_conns poller tpool wsgi",
    TConn: "cfg client data_ready initialized parser sock timeout",
    Body: "reader failed",
    ChunkedReader: "buf",
    LengthReader: "unreader length",
    Unreader: "buf",
    ThreadPoolExecutor: "_idle_semaphore _threads _work_queue",
    MultipartDecoder: "boundary buffer complete state",
}
"""The attributes of others' objects that our code reads or sets."""


def _overridden(ours: type) -> set[str]:
    """The methods of a class that one of its bases has too."""
    bases = ours.__mro__[1:]
    return {
        name
        for name, value in vars(ours).items()
        if inspect.isfunction(value)
        and name != "__init__"
        and any(name in vars(base) for base in bases)
    }


@pytest.mark.parametrize(("ours", "theirs"), OVERRIDES, ids=lambda cls: cls.__name__)
def test_every_override_is_listed_here(ours: type, theirs: type) -> None:
    assert _overridden(ours) == OVERRIDES[ours, theirs].keys()


@pytest.mark.parametrize(
    ("theirs", "ours", "name", "parameters"),
    [
        (theirs, ours, name, parameters)
        for (ours, theirs), methods in OVERRIDES.items()
        for name, parameters in methods.items()
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_is_overridden_is_as_it_was(
    theirs: type, ours: type, name: str, parameters: str
) -> None:
    upstream = f"{theirs.__module__}.{theirs.__name__}.{name}"
    method: Any = getattr(theirs, name, None)
    assert method, f"{upstream} is gone: {ours.__module__}.{ours.__name__} overrides nothing"
    found = " ".join(inspect.signature(method).parameters)
    assert found == parameters, f"{upstream} has other parameters: adapt {ours.__module__}"


@pytest.mark.parametrize("theirs", REACHES, ids=lambda cls: cls.__name__)
def test_what_is_reached_into_is_there(theirs: type) -> None:
    source = "".join(inspect.getsource(cls) for cls in theirs.__mro__[:-1])
    for name in REACHES[theirs].split():
        assert re.search(rf"\bself\.{name}\b", source), f"{theirs.__name__}.{name} is gone"


def test_gunicorn_gives_its_socket_and_its_request_to_the_application() -> None:
    from gunicorn.http.message import Message
    from gunicorn.http.wsgi import default_environ

    assert '"gunicorn.socket": sock' in inspect.getsource(default_environ)
    assert list(inspect.signature(Message.force_close).parameters) == ["self"]


def test_gunicorn_sends_100_continue_where_it_can_be_kept_from_it() -> None:
    from gunicorn.http import wsgi

    assert "if req._expected_100_continue:" in inspect.getsource(wsgi.create)


def test_gunicorn_has_the_errors_that_are_told_apart() -> None:
    for name in (
        *("NoMoreData", "ParseException", "LimitRequestLine", "LimitRequestHeaders"),
        *("ExpectationFailed", "UnsupportedTransferCoding"),
    ):
        assert issubclass(getattr(http, name), Exception), name


def test_werkzeug_reads_bodies_through_the_stream_that_is_replaced() -> None:
    assert "stream" in vars(IngestRequest)
    assert "self.stream" in inspect.getsource(Request.get_data)
    assert {state.name for state in State} >= {"PART", "EPILOGUE"}
