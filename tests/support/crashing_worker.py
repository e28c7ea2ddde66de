"""A gunicorn worker that can be told to die, by kill -9, at a step of an upload.

Used through GUNICORN_CMD_ARGS; the service's own code is as it always is.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from ingest_api.failpoints import EVENT
from ingest_api.server.gthread import UploadWorker


class CrashingWorker(UploadWorker):
    """Dies at the step that the file named by CRASH_AT holds, which it takes away first: so the
    upload is repeated to a worker that lives."""

    def init_process(self) -> None:
        order = Path(os.environ["CRASH_AT"])

        def listen(event: str, arguments: tuple[Any, ...]) -> None:
            if event == EVENT and order.exists() and order.read_text() == arguments[0]:
                order.unlink()
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(listen)
        super().init_process()
