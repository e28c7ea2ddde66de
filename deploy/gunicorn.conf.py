"""How gunicorn serves the application. Numbers come from the settings (README, "Settings")."""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

from ingest_api.components import EXTENSION
from ingest_api.database.migrations import SchemaError
from ingest_api.logs import logging_config
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
# connection to PostgreSQL is held only while a statement runs (DATABASE_POOL_SIZE a worker).
worker_class = "ingest_api.server.gthread.UploadWorker"
workers = settings.workers

# Every recorder keeps its connection, and each takes a file descriptor: use all that we may have.
# A thread takes three: the connection, the file that arrives, the folder that is synced. With as
# many kept-alive connections as threads that makes four.
_, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
threads = max(2, min(settings.threads, (descriptors - 100) // 4))
worker_connections = max(threads + 1, min(10_000, descriptors - 3 * threads - 100))

# Each worker makes its own pool after the fork: a connection must not be shared by processes.
# (The code itself is loaded before, by the imports above: new code needs a restart, not a HUP.)
preload_app = False

# Longer than an agent's pause between chunks, so that its connection is still there for the next.
keepalive = 75

# A worker that is stopping may still finish the slowest upload. systemd must wait longer.
graceful_timeout = settings.request_deadline_seconds + 10

# gthread beats its heart from another thread than the uploads: this catches a dead worker only.
timeout = 30

# No header may move the application to another path, or say what the connection is.
forwarder_headers = ""
secure_scheme_headers = {}

# Its heart beats in a file: not on a disk, whose queue is full of recordings at times.
memory = "/dev/shm"  # noqa: S108  the file is empty, and has no name
worker_tmp_dir = memory if os.access(memory, os.W_OK) else None

# A socket for commands to the master, which nothing here needs.
control_socket_disable = True

logconfig_dict = logging_config(settings)
loglevel = settings.log_level.lower()
logger_class = "ingest_api.server.gthread.Log"


def post_fork(server, worker):
    """Where memory runs out, let the kernel take a worker, which is replaced: not the master, which
    is the larger while there is little to do, and all connections with it. See proc(5)."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("200")


def worker_exit(server, worker):
    """Close the pool: Python 3.13 would wait 5 s for each of its threads."""
    if getattr(worker, "wsgi", None):
        worker.wsgi.extensions[EXTENSION].database.close()


def on_starting(server):
    """Refuse to serve on a schema that is behind or ahead."""
    try:
        prepare_to_serve(settings)
    except SchemaError as error:
        sys.exit(str(error))
