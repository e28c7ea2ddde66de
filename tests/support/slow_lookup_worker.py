"""A gunicorn worker for which the look-up of slow.invalid takes longer than anybody waits.

Used through GUNICORN_CMD_ARGS; the service's own code is as it always is.
"""

import socket
import threading
from typing import Any

from ingest_api.server.gthread import UploadWorker

_look_up = socket.getaddrinfo


class SlowLookupWorker(UploadWorker):
    def init_process(self) -> None:
        socket.getaddrinfo = _slow_look_up
        super().init_process()


def _slow_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
    if host == "slow.invalid":
        threading.Event().wait(60)
    return _look_up(host, *arguments, **options)
