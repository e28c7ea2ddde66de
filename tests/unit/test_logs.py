"""How log lines look to people, and when they look so."""

import logging
import os
import re
import sys
from typing import Any

import pytest

from ingest_api.logs import TextFormatter, logging_config
from ingest_api.settings import Settings


def _line(message: str, **fields: Any) -> str:
    record = logging.makeLogRecord({"msg": message, "levelname": "INFO", **fields})
    return TextFormatter().format(record)


def test_a_request_is_one_readable_line() -> None:
    line = _line("request", method="POST", path="/api/v1/chunks", status=200, ms=3.1, code=None)
    assert re.fullmatch(
        r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d INFO    POST /api/v1/chunks 200 3.1 ms", line
    )


def test_the_fields_beside_a_message_are_shown() -> None:
    assert _line("pruned", chunks=5, bytes=100).endswith("INFO    pruned chunks=5 bytes=100")


def test_nothing_from_outside_reaches_the_terminal_as_a_command() -> None:
    line = _line("request", method="GET", path="/\x1b[2J\r\nINFO forged", status=404, ms=1)
    assert '"/\\x1b[2J\\x0d\\x0aINFO forged" 404' in line


def test_a_path_looks_like_no_other_field() -> None:
    forged = '/" 200 1 ms client=192.0.2.1'
    line = _line("request", method="GET", path=forged, status=404, ms=2, client="127.0.0.1")
    assert line.endswith('GET "/\\" 200 1 ms client=192.0.2.1" 404 2 ms client=127.0.0.1')


def test_a_traceback_follows_its_line() -> None:
    try:
        raise ValueError("bad \x1b]0;title\x07")
    except ValueError:
        line = _line("internal_error", exc_info=sys.exc_info())
    first, *trace = line.splitlines()
    assert first.endswith("internal_error")
    assert trace[0] == "  Traceback (most recent call last):"
    assert trace[-1] == "  ValueError: bad \\x1b]0;title\\x07"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (
            '/\\" 200 client=x',
            r'"/\\\" 200 client=x"',
        ),  # a backslash must not free the quotation mark
        ('"/a', r'"\"/a"'),
        ("/a\\b", r"/a\b"),
    ],
)
def test_a_quotation_mark_ends_no_value(path: str, shown: str) -> None:
    assert f"GET {shown} 404" in _line("request", method="GET", path=path, status=404, ms=2)


def test_an_exceptions_text_forges_no_line() -> None:
    forged = _line("forged")
    try:
        raise ValueError(f"bad\n{forged}")
    except ValueError:
        line = _line("internal_error", exc_info=sys.exc_info())
    assert forged not in line.splitlines()
    assert f"  {forged}" in line.splitlines()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("half a pair: \ud800", "half a pair: \\xd800"),
        ("a byte of a file name: \udcff", "a byte of a file name: \\xff"),
    ],
)
def test_text_without_an_encoding_is_logged(text: str, shown: str) -> None:
    assert _line(text, path=text).endswith(f'INFO    {shown} path="{shown}"')


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("chosen", ["", "json", "text", "TEXT"])
def test_the_format_is_chosen_or_follows_the_terminal(
    monkeypatch: pytest.MonkeyPatch, chosen: str, terminal: bool
) -> None:
    ends = os.openpty() if terminal else os.pipe()
    with os.fdopen(ends[0], "rb"), os.fdopen(ends[1], "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        config = logging_config(Settings.from_environ({"LOG_FORMAT": chosen}))
        monkeypatch.undo()
    assert config["handlers"]["stderr"]["formatter"] == (
        chosen.lower() or ("text" if terminal else "json")
    )
