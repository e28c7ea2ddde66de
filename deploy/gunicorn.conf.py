"""How gunicorn serves the application. deploy/README.md, "Settings", explains the numbers."""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

from ingest_api.components import EXTENSION
from ingest_api.errors import OperatorError
from ingest_api.logs import logging_config
from ingest_api.server import metric_files
from ingest_api.server.standard_error import replace_standard_error
from ingest_api.server.startup import prepare_to_serve
from ingest_api.settings import Settings, SettingsError

try:
    settings = Settings.from_environ(serving=True)
except SettingsError as error:
    sys.exit(str(error))

wsgi_app = "ingest_api.app:create_app()"
bind = (
    f"[{settings.host}]:{settings.port}"
    if ":" in settings.host
    else f"{settings.host}:{settings.port}"
)

# Many threads, few connections: a slow body holds a thread, and a thread costs little; a
# connection to PostgreSQL is held only while a statement runs (DATABASE_POOL_SIZE per process).
worker_class = "ingest_api.server.gthread.UploadWorker"
workers = settings.workers

# Every device keeps its connection, and each takes a descriptor: raise the limit to the maximum.
# A thread takes three: the connection, the arriving file, the folder being synced. With as many
# kept-alive connections as threads that makes four.
_, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
threads = max(2, min(settings.threads, (descriptors - 100) // 4))
worker_connections = max(threads + 1, min(10_000, descriptors - 3 * threads - 100))

# Each server process makes its own pool after the fork: processes must not share a connection. (The
# code itself is loaded before, by the imports above: new code needs a restart, not a HUP.)
preload_app = False

# Longer than an agent's pause between chunks, so that its connection is still there for the next.
keepalive = 75

# A server process that is stopping may still finish the slowest upload. systemd must wait longer.
graceful_timeout = settings.request_deadline_seconds + 10

# The heartbeat does not come from the threads of the uploads: this only catches a dead process.
timeout = 30

# No header may move the application to another path, or change the scheme of the connection.
forwarder_headers = ""
secure_scheme_headers = {}

# The heartbeat is a file. Keep it off the disk, whose queue is full of recordings at times.
memory = "/dev/shm"  # noqa: S108  the file is empty, and has no name
worker_tmp_dir = memory if os.access(memory, os.W_OK) else None

# A socket for commands to the master. Nothing here needs it.
control_socket_disable = True

# Before the log is set up, in the master too: a reader that stalls must not stop its heartbeats.
replace_standard_error()
logconfig_dict = logging_config(settings)
loglevel = settings.log_level.lower()
logger_class = "ingest_api.server.gthread.Log"


def pre_fork(server, worker):
    """Give the process a place to count in, for /metrics."""
    metric_files.take_slot(server, worker)


def child_exit(server, worker):
    """Forget what the process was doing; what it has counted stays."""
    metric_files.leave_slot(server, worker)


def on_exit(server):
    """Remove what the processes have counted."""
    metric_files.remove_folder(server)


def post_fork(server, worker):
    """Let the kernel kill this process first when memory runs out, because it is replaced.

    Otherwise it might kill the master, which is larger while there is little to do, and with it all
    connections. See proc(5).
    """
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("200")
    metric_files.enter_slot(server, worker)


def worker_exit(server, worker):
    """Close the pool: Python 3.13 would wait 5 s for each of its threads."""
    if getattr(worker, "wsgi", None):
        worker.wsgi.extensions[EXTENSION].database.close()


def on_starting(server):
    """Refuse to serve on a schema that is behind or ahead, or through a pooler without sessions."""
    try:
        prepare_to_serve(settings)
    except OperatorError as error:
        sys.exit(str(error))
    metric_files.make_folder(server)
