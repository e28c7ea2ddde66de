"""The supervisor behind `scripts/serve`: PostgreSQL, migrations, a demo device and token, gunicorn,
and with QUEUE_BACKEND=redis the relay.

For development and demonstrations. In production systemd does this work.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.error import URLError
from urllib.request import urlopen

from lab.postgres import LocalPostgres, PostgresError, die_with_parent

from ingest_api.server.main import read_dotenv_file
from ingest_api.settings import Settings, SettingsError
from ingest_api.tokens import generate_token

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 30
STOP_SECONDS = 15


def main() -> None:
    """Run until a signal comes or a part dies."""
    if len(sys.argv) > 1:
        sys.exit(
            "usage: scripts/serve   (settings come from the environment, see deploy/README.md)"
        )
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(signum, _interrupt)
    try:
        read_dotenv_file()
        data_dir = Path(os.environ.get("DATA_DIR") or ".data").absolute()
        if os.environ.get("DATABASE_URL") or os.environ.get("DATABASE_URL_FILE"):
            _serve(data_dir)
        else:
            print("starting PostgreSQL ...", flush=True)
            with LocalPostgres(data_dir) as postgres:
                _serve(data_dir, postgres)
    except (PostgresError, SettingsError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("stopped", flush=True)


def _interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _serve(data_dir: Path, postgres: LocalPostgres | None = None) -> None:
    defaults = {"HOST": "127.0.0.1", "AUDIO_STORAGE_DIR": str(data_dir / "audio")}
    # Nothing of it shall live on for long after a kill, not even an upload in flight.
    defaults["GUNICORN_CMD_ARGS"] = f"--graceful-timeout={STOP_SECONDS - 5}"
    environ = defaults | {name: value for name, value in os.environ.items() if value}
    if postgres:
        environ["DATABASE_URL"] = postgres.url()
    _flask_ingest(environ, "migrate")
    # A database of the user's own gets no demo device, and opens to no demo token.
    device = _demo_device(data_dir / "demo-device.json", environ) if postgres else None
    if postgres and not environ.keys() & {"INTERNAL_TOKEN", "INTERNAL_TOKEN_FILE"}:
        environ["INTERNAL_TOKEN_FILE"] = str(_demo_token(data_dir / "demo-internal-token"))
    with ExitStack() as stack:
        parts = {"gunicorn": stack.enter_context(_running(environ, "ingest_api"))}
        base_url = f"http://{_reachable(environ['HOST'])}:{environ.get('PORT', '8000')}"
        _wait_until_ready(parts["gunicorn"], base_url)
        if Settings.from_environ(environ).queue_backend == "redis":
            relay = _running(environ, "flask", "ingest", "relay")
            parts["the relay"] = stack.enter_context(relay)
        print(_invitation(base_url, device, environ, relay="the relay" in parts), flush=True)
        _wait_until_a_part_dies(parts, postgres)


@contextmanager
def _running(environ: Mapping[str, str], *module: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *module],
        env=environ,
        preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509  one thread only
        start_new_session=True,  # Ctrl-C is for this process, which stops the parts in order
    )
    try:
        yield process
    finally:
        _stop(process)


def _stop(part: subprocess.Popen[bytes]) -> None:
    """Let uploads in flight finish, within reason.

    Tell all of gunicorn's processes, again and again: one that is just being forked misses it.
    """
    for _ in range(STOP_SECONDS):
        with suppress(ProcessLookupError):
            os.killpg(part.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            part.wait(1)
            return
    with suppress(ProcessLookupError):
        os.killpg(part.pid, signal.SIGKILL)
    part.wait()


def _flask_ingest(environ: Mapping[str, str], *arguments: str) -> str:
    """Run a command of the service; its messages are shown when it fails."""
    result = subprocess.run(
        [sys.executable, "-m", "flask", "ingest", *arguments],
        env=environ,
        text=True,
        capture_output=True,
        check=False,
    )
    if result.returncode:
        sys.exit(result.stderr or result.stdout)
    return result.stdout


def _demo_device(file: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The device to try uploads with: registered on the first start, remembered after it."""
    if not file.exists():
        _keep_secret(file, _flask_ingest(environ, "add-device", "--json"))
    content: dict[str, str] = json.loads(file.read_text())
    return content


def _demo_token(file: Path) -> Path:
    """The token for workers, in a file that they can be pointed to: made on the first start."""
    if not file.exists():
        _keep_secret(file, generate_token())
    return file


def _keep_secret(file: Path, content: str) -> None:
    unfinished = file.with_suffix(".new")
    unfinished.touch(mode=0o600)
    unfinished.write_text(content)
    unfinished.replace(file)


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)


def _wait_until_ready(service: subprocess.Popen[bytes], base_url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if service.poll() is not None:
            sys.exit(service.returncode or 1)  # it has said why
        try:
            with urlopen(f"{base_url}/health/live", timeout=1):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    sys.exit(f"the service did not answer on {base_url} within {READY_SECONDS} s")


def _wait_until_a_part_dies(
    parts: Mapping[str, subprocess.Popen[bytes]], postgres: LocalPostgres | None
) -> None:
    while True:
        for name, part in parts.items():
            if part.poll() is not None:
                sys.exit(f"{name} stopped by itself (status {part.returncode})")
        if postgres and postgres.process.poll() is not None:
            sys.exit("PostgreSQL stopped by itself; see postgres.log in the data folder")
        time.sleep(0.5)


def _invitation(
    base_url: str, device: Mapping[str, str] | None, environ: Mapping[str, str], *, relay: bool
) -> str:
    return f"""\
ready on {base_url}

Is it well?
  curl -sS {base_url}/health

{_first_upload(base_url, device) if device else _FIRST_DEVICE}

{_first_worker(base_url, environ)}
{_RELAY if relay else ""}
{_operation(environ) if device else ""}
Ctrl-C stops everything; the data stays.
"""


_FLASK = shlex.quote(str(Path(sys.executable).with_name("flask")))
_FIRST_DEVICE = f"""\
Register a device (DATABASE_URL as now):
  {_FLASK} ingest add-device"""


_RELAY = """\
The relay runs as well. With --redis (REDIS_URL as now) the worker takes them from the stream.
"""


def _first_worker(base_url: str, environ: Mapping[str, str]) -> str:
    if "INTERNAL_TOKEN_FILE" in environ:
        file = Path(environ["INTERNAL_TOKEN_FILE"]).absolute()
        hint, token = "", f"INTERNAL_TOKEN_FILE={shlex.quote(str(file))} "
    else:
        is_set = "INTERNAL_TOKEN" in environ
        hint, token = " (INTERNAL_TOKEN as now)" if is_set else "; first set INTERNAL_TOKEN", ""
    worker = shlex.quote(str(ROOT / "scripts/example-worker"))
    return f"""\
Let a worker process what was uploaded{hint}:
  {token}{worker} --url {base_url} --drain"""


def _operation(environ: Mapping[str, str]) -> str:
    names = ("DATABASE_URL", "AUDIO_STORAGE_DIR", "INTERNAL_TOKEN_FILE", "HOST")
    known = [name for name in (*names, "QUEUE_BACKEND", "REDIS_URL") if name in environ]
    settings = " ".join(f"{name}={shlex.quote(environ[name])}" for name in known)
    return f"""\
Operate it from another shell:
  export {settings}
  {_FLASK} ingest doctor
"""


def _first_upload(base_url: str, device: Mapping[str, str]) -> str:
    fields = {name: device[name] for name in ("point_id", "register_id", "device_id")}
    fields |= {"start_ts": "2026-01-28T10:00:00Z", "end_ts": "2026-01-28T10:01:00Z"}
    fields |= {"codec": "opus", "sample_rate": "48000", "channels": "1"}
    form = " ".join(f"-F {name}={value}" for name, value in fields.items())
    speech = shlex.quote(f"chunk_file=@{ROOT / 'tests/data/speech-60s.ogg'}")
    return f"""\
Upload a minute of speech as the demo device:
  curl -sS -H 'Authorization: Bearer {device["token"]}' {form} -F {speech} \
{base_url}/api/v1/chunks"""


if __name__ == "__main__":
    main()
