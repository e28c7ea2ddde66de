"""The processing, and what becomes of each chunk. To make the worker yours, replace `measure`."""

import argparse
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from .api import MAY_PASS, Api, Chunk, Refused, Stop, complain, describe, growing
from .opus import seconds_of_audio
from .sources import Queue, Source, Stream

Process = Callable[[Path, Chunk], str]


def measure(file: Path, chunk: Chunk) -> str:
    """Process a recording; return a line to be printed.

    An OSError counts as temporary: the chunk is queued again. Any other exception ends it as ERROR.
    The lease is renewed for as long as this runs, so it must end by itself. Store results before
    returning, under the chunk's id: a chunk is processed twice when the report on it is lost.
    """
    return f"{seconds_of_audio(file):.2f} s of {chunk.duration_sec} s"


def main(process: Process = measure) -> None:
    """Process chunks until a signal comes; with --drain, until none is waiting."""
    options = _options()
    stop = Stop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop.ask)
    token, worker, lease_sec = _token(), options.worker, options.lease_sec
    api = Api(options.url, token, stop, worker=worker, lease_sec=lease_sec)
    try:
        source = _source(options, api, stop)
        _work(source, api, stop, process, drain=options.drain)
    except Refused as refused:
        sys.exit(f"{options.url}: {describe(refused)}{_HINTS.get(refused.status, '')}")
    except MAY_PASS:
        if not stop.asked:
            raise


_HINTS = {
    401: ". INTERNAL_TOKEN must be the one that the service was started with",
    404: ". Is --url the address of the service?",
}


def _source(options: argparse.Namespace, api: Api, stop: Stop) -> Source:
    if options.redis:
        try:
            return Stream(options.redis, api, stop, queue_seconds=0 if options.drain else 30)
        except ValueError as error:
            sys.exit(f"--redis: {error}")
    return Queue(api, stop, options.limit or 1, options.point)


def _work(source: Source, api: Api, stop: Stop, process: Process, *, drain: bool) -> None:
    failures = 0
    while not stop.asked:
        idle = True
        for job in source.jobs():
            idle = False
            status = _settle(job.chunk, api, stop, process)
            if status in {"DONE", "ERROR"}:
                job.over()
            failures = failures + 1 if status == "QUEUED" else 0
            if failures:  # a full disk, say: haste would only use up the chunk's attempts
                stop.wait(growing(failures))
        if idle and drain:
            complain("no chunk is waiting")
            return


def _settle(chunk: Chunk, api: Api, stop: Stop, process: Process) -> str:
    """Return the chunk's new status, or nothing if another worker has it by then."""
    try:
        if stop.asked:
            return api.error(chunk, "the worker was stopped before it began", retry=True)
        return _process(chunk, api, process)
    except Refused as refused:
        if refused.code not in {"lease_lost", "chunk_not_found", "chunk_pruned"}:
            raise
        complain(f"{chunk.chunk_id} is dropped ({describe(refused)})")
    except MAY_PASS as error:
        complain(f"{chunk.chunk_id} is left until its lease expires ({describe(error)})")
    return ""


def _process(chunk: Chunk, api: Api, process: Process) -> str:
    began = time.monotonic()
    try:
        with tempfile.NamedTemporaryFile(suffix=".ogg") as file:
            api.download(chunk, file)
            result = process(Path(file.name), chunk)
    except Exception as error:
        status = api.error(chunk, describe(error), retry=isinstance(error, OSError))
        print(f"{chunk.chunk_id} {status}: {describe(error)}", flush=True)
    else:
        status = api.done(chunk)
        spent = 1000 * (time.monotonic() - began)
        print(f"{chunk.chunk_id} {status}: {result}, in {spent:.0f} ms", flush=True)
    return status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="example-worker",
        description="Read the real duration of each waiting chunk. The token comes from "
        "INTERNAL_TOKEN in the environment, or from the file that INTERNAL_TOKEN_FILE names.",
    )
    add = parser.add_argument
    add(
        "--url",
        type=_url,
        default="http://127.0.0.1:8000",
        help="address of the service (%(default)s)",
    )
    add("--redis", nargs="?", const=os.environ.get("REDIS_URL") or "redis://localhost:6379/0",
        help="take chunks from the stream; the URL defaults to REDIS_URL")  # fmt: skip
    add(
        "--worker",
        default=f"{socket.gethostname()}:{os.getpid()}",
        help="name of this worker (%(default)s)",
    )
    add("--limit", type=int, help="chunks to claim at a time from the queue, 1 to 100 (1)")
    add(
        "--lease-sec",
        type=int,
        default=300,
        help="seconds, 1 to 86400 (%(default)s); renewed while it works",
    )
    add("--point", type=UUID, help="only chunks of this point, from the queue")
    add("--drain", action="store_true", help="end when no chunk is waiting")
    options = parser.parse_args()
    if options.redis is not None and (options.point or options.limit):
        parser.error("--point and --limit are for the queue: the stream has no order by point")
    return options


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
        raise argparse.ArgumentTypeError("must be like https://ingest.example:8000")
    return text.rstrip("/")


def _token() -> str:
    file = os.environ.get("INTERNAL_TOKEN_FILE")
    try:
        token = (Path(file).read_text() if file else os.environ.get("INTERNAL_TOKEN", "")).strip()
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"INTERNAL_TOKEN_FILE cannot be read: {error}")
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        sys.exit("Set INTERNAL_TOKEN to the service's, or INTERNAL_TOKEN_FILE to a file with it.")
    return token
