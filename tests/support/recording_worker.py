"""A gunicorn worker that writes down what it asks of the file system, and in which order.

What another worker may see at any time from its beginning to its end has a line for both.

Used through GUNICORN_CMD_ARGS; the service's own code is as it always is, and so are the calls:
each is made.
"""

import base64
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns
from typing import Any

from ingest_api.failpoints import EVENT, Failpoint
from ingest_api.server.gthread import UploadWorker

_open, _write, _fsync = os.open, os.write, os.fsync
_mkdir, _unlink = os.mkdir, os.unlink


class RecordingWorker(UploadWorker):
    """Appends a line of JSON for each call to the file named by RECORD."""

    def init_process(self) -> None:
        calls = _Calls(_open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT))
        os.open, os.write, os.fsync = calls.open, calls.write, calls.fsync
        os.link, os.replace = calls.named(os.link, "link"), calls.named(os.replace, "rename")
        os.mkdir, os.unlink = calls.mkdir, calls.unlink
        os.rename = os.truncate = os.ftruncate = calls.unforeseen
        sys.addaudithook(calls.listen)
        super().init_process()


class _Calls:
    """The functions of `os` that matter, with a record of what they did."""

    def __init__(self, log: int) -> None:
        self._log = log
        self._paths: dict[int, str] = {}
        self._thread = threading.local()

    def _record(self, call: str, **values: Any) -> None:
        line = {"time": monotonic_ns(), "thread": threading.get_native_id(), "call": call} | values
        _write(self._log, json.dumps(line).encode() + b"\n")

    def open(self, path: Any, flags: int, *mode: int, **options: Any) -> int:
        descriptor = _open(path, flags, *mode, **options)
        self._paths[descriptor] = str(path)
        if flags & os.O_CREAT:
            self._record("create", path=str(path))
        return descriptor

    def write(self, descriptor: int, data: Any) -> int:
        done = _write(descriptor, data)
        if descriptor in self._paths:
            text = base64.b64encode(bytes(data[:done])).decode()
            self._record("write", path=self._paths[descriptor], data=text)
        return done

    def fsync(self, descriptor: int) -> None:
        self._record("sync begins", path=self._paths[descriptor])
        _fsync(descriptor)
        self._record("sync ends", path=self._paths[descriptor])

    def named(self, function: Callable[..., None], call: str) -> Callable[..., None]:
        def wrapper(source: Any, target: Any, **options: Any) -> None:
            names = {"path": str(source), "target": str(target)}
            self._record(f"{call} begins", **names)
            function(source, target, **options)
            self._record(f"{call} ends", **names)
            self._thread.target = str(target)

        return wrapper

    def mkdir(self, path: Any, *arguments: Any, **options: Any) -> None:
        self._record("mkdir begins", path=str(path))
        try:
            _mkdir(path, *arguments, **options)
        finally:
            if Path(path).exists():  # be it this one's doing or another's
                self._record("mkdir ends", path=str(path))

    def unlink(self, path: Any, **options: Any) -> None:
        _unlink(path, **options)
        self._record("unlink", path=str(path))

    def unforeseen(self, *arguments: Any, **options: Any) -> None:
        raise NotImplementedError("record this call, and let the model of the disk know of it")

    def listen(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == EVENT and arguments[0] == Failpoint.FOLDER_SYNCED:
            # From here on the row is sent, and may be durable whenever the power is cut.
            self._record("promise", path=self._thread.target)


def read_record(path: Path) -> list[dict[str, Any]]:
    """The calls of all workers, in order."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted(lines, key=lambda line: line["time"])
