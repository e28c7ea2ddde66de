"""What `flask ingest fsck` and `prune` cost on a large table, and what they cost the uploads that
go on beside them. Whether they do the right thing is for the tests."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from lab.recorder import Attempt, Chunk, Recorder, RecorderAgent
from lab.service import Site

from ingest_api.models.chunks import NewChunk, Recording
from ingest_api.usecases.uploads import new_chunk

SPEECH = (Path(__file__).resolve().parent.parent / "tests/data/speech-60s.ogg").read_bytes()
DEVICES = 100
UPLOADERS = 20
ROUNDS = 5
PRUNE = ("prune", "--older-than", "90d")
COLUMNS = (
    *("chunk_id", "device_id", "point_id", "register_id", "start_ts", "end_ts", "duration_sec"),
    *("codec", "sample_rate", "channels", "file_path", "file_size_bytes", "sha256"),
)


def main() -> None:
    """Fill, measure, print."""
    options = _parse_arguments()
    with (
        tempfile.TemporaryDirectory(prefix="maintenance-", dir=options.folder) as folder,
        Site(Path(folder), workers=4) as site,
    ):
        filling = time.monotonic()
        _fill(site, options.rows)
        print(f"{options.rows} rows and sparse files made in {time.monotonic() - filling:.0f} s")
        _measure(site, "fsck", "fsck", "--repair")
        _measure_beside(site, options.rate, options.seconds)
        _measure(site, "prune --rate 0 of the rest", *PRUNE, "--rate", "0")
        _measure(site, "fsck afterwards", "fsck")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-maintenance", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--rate", type=float, default=40, help="uploads a second beside (default %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=15, help="length of one round (default %(default)s)"
    )
    parser.add_argument("--folder", help="where there is room (default: the temporary folder)")
    return parser.parse_args()


def _fill(site: Site, rows: int) -> None:
    """Chunks of a minute each, from some devices, all received long ago and done with."""
    per_device = -(-rows // DEVICES)
    recorders = [site.new_recorder() for _ in range(DEVICES)]
    copy = f"COPY audio_chunks ({', '.join(COLUMNS)}, status, created_at) FROM STDIN"
    received = datetime.now(UTC) - timedelta(days=100)
    with site.connect() as connection:
        with connection.cursor() as cursor, cursor.copy(copy) as rows_out:
            for number in range(rows):
                chunk = _chunk(recorders[number // per_device], number % per_device)
                _make_sparse_file(site.storage / chunk.file_path, chunk.file_size_bytes)
                values = vars(chunk)
                rows_out.write_row([*(values[name] for name in COLUMNS), "DONE", received])
        connection.execute("VACUUM (ANALYZE) audio_chunks")


def _chunk(recorder: Recorder, number: int) -> NewChunk:
    start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    recording = Recording(
        recorder.device_id,
        recorder.point_id,
        recorder.register_id,
        start,
        start + timedelta(minutes=1),
        "opus",
        48000,
        1,
    )
    return new_chunk(recording, sha256=sha256(number.to_bytes(8, "big")).digest(), size=190_554)


def _make_sparse_file(path: Path, size: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o640)
    except FileNotFoundError:
        path.parent.mkdir(parents=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o640)
    os.truncate(descriptor, size)
    os.close(descriptor)


def _start(site: Site, *arguments: str) -> subprocess.Popen[bytes]:
    environ = os.environ | {
        "DATABASE_URL": site.database_url,
        "AUDIO_STORAGE_DIR": str(site.storage),
    }
    command = [sys.executable, "-m", "flask", "ingest", *arguments]
    return subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=site.folder
    )


def _measure(site: Site, name: str, *arguments: str) -> None:
    started = time.monotonic()
    process = _start(site, *arguments)
    assert process.stdout is not None
    last = process.stdout.read().decode().splitlines()[-1:]
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    print(
        f"{name}: {seconds:.1f} s, {usage.ru_maxrss / 1024:.0f} MiB at most, "
        f"exit status {os.waitstatus_to_exitcode(status)}: {' '.join(last)}",
        flush=True,
    )


def _measure_beside(site: Site, rate: float, seconds: float) -> None:
    """Alternating, because machines are noisy: alone, beside prune, alone, beside prune, ..."""
    recorders = [site.new_recorder() for _ in range(UPLOADERS)]
    alone, beside = [], []
    for number in range(ROUNDS):
        alone.append(_p99(site, recorders, rate, seconds, day=2 * number))
        process = _start(site, *PRUNE)
        time.sleep(2)  # till it has started
        beside.append(_p99(site, recorders, rate, seconds, day=2 * number + 1))
        if process.poll() is not None:
            sys.exit("prune ended too soon to be measured: use more --rows, or fewer --seconds")
        process.terminate()
        process.communicate()
    ratio = statistics.median(beside) / statistics.median(alone)
    print(
        f"uploads at {rate:g}/s, p99 of {ROUNDS} rounds: alone {_milliseconds(alone)}, "
        f"beside prune {_milliseconds(beside)}: medians {ratio:.2f} times",
        flush=True,
    )


def _milliseconds(values: list[float]) -> str:
    return " ".join(f"{1000 * value:.0f}" for value in values) + " ms"


def _p99(site: Site, recorders: list[Recorder], rate: float, seconds: float, day: int) -> float:
    """Of uploads at a steady pace, in seconds."""
    took: list[float] = []
    failed: list[Attempt] = []

    def upload(recorder: Recorder, delay: float) -> None:
        agent = RecorderAgent(recorder, site.address, lambda *_: None)
        for chunk in _paced(day, delay, len(recorders) / rate, seconds):
            started = time.monotonic()
            attempt = agent.attempt(chunk)
            took.append(time.monotonic() - started)
            if not attempt.accepted:
                failed.append(attempt)

    with ThreadPoolExecutor(len(recorders)) as pool:
        delays = [index / rate for index in range(len(recorders))]
        list(pool.map(upload, recorders, delays))
    if failed:
        sys.exit(f"{len(failed)} uploads failed, such as {failed[0].outcome}")
    return statistics.quantiles(took, n=100)[98]


def _paced(day: int, delay: float, period: float, seconds: float) -> Iterator[Chunk]:
    begin = time.monotonic() + delay
    start_ts = datetime.now(UTC) - timedelta(days=day)
    for number in range(int(seconds / period)):
        time.sleep(max(0.0, begin + number * period - time.monotonic()))
        yield Chunk(start_ts + timedelta(minutes=number), SPEECH)


if __name__ == "__main__":
    main()
