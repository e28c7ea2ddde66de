"""A real PgBouncer for tests, of Debian's package, in front of a test's database."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from lab.postgres_programs import choose
from lab.service_process import free_port
from psycopg.conninfo import conninfo_to_dict

from support.processes import eventually


@contextmanager
def pooled(
    folder: Path, database_url: str, pool_mode: str, *, size: int = 10, port: int | None = None
) -> Iterator[str]:
    """Run a PgBouncer and lend the URL that leads through it to the database."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    assert program, "PgBouncer is not installed: apt install pgbouncer"
    folder.mkdir()
    user, _ = choose(folder)
    user.take(folder)
    port = port or free_port()
    config = folder / "pgbouncer.ini"
    config.write_text(_config(folder, database_url, port, pool_mode, size))
    with (folder / "log").open("ab") as log:
        process = user.spawn([program, str(config)], log, signal.SIGINT, [])
    url = f"postgresql://ingest@127.0.0.1:{port}/pooled"
    try:
        eventually(lambda: _answers(process, url))
        yield url
    finally:
        process.kill()
        process.wait()


def _config(folder: Path, database_url: str, port: int, pool_mode: str, size: int) -> str:
    server = conninfo_to_dict(database_url)
    (folder / "users").write_text('"ingest" ""\n')
    return f"""[databases]
pooled = host={server["host"]} port={server["port"]} dbname={server["dbname"]} user=ingest
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder / "users"}
pool_mode = {pool_mode}
default_pool_size = {size}
"""


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    assert process.poll() is None, "PgBouncer did not start"
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
