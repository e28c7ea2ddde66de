"""`./scripts/example-worker`, over HTTP: what waits gets done, whatever happens to the worker."""

import io
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from mutagen.ogg import OggPage
from support.leases import HttpWorker, row
from support.processes import eventually
from support.recorder import SPEECH
from support.service import INTERNAL_TOKEN, Service
from support.workers import EXAMPLE, SLOW, Start, status, upload


def test_it_finishes_what_waits(emptied: Service, start_worker: Start) -> None:
    ids = upload(emptied, emptied.recorder(), 3)
    worker = start_worker(emptied, "--drain", "--worker", "anna", "--limit", "2")
    assert worker.end() == 0
    for chunk_id, line in zip(ids, worker.lines(), strict=True):
        assert re.fullmatch(rf"{chunk_id} DONE: 60\.00 s of 60 s, in \d+ ms", line)
        found = row(emptied, chunk_id)
        assert (found["status"], found["worker"], found["attempts"]) == ("DONE", "anna", 1)


def test_its_folder_works_when_copied_alone_under_another_name(
    emptied: Service, start_worker: Start, tmp_path: Path
) -> None:
    copy = tmp_path / "copy" / "my_worker"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    [chunk_id] = upload(emptied, emptied.recorder())
    worker = start_worker(emptied, "--drain", program=copy, PYTHONPATH=str(copy.parent))
    assert worker.end() == 0, worker.err.read_text()
    assert status(emptied, chunk_id) == "DONE"
    sources = "".join(path.read_text() for path in copy.rglob("*.py"))
    assert not re.search(
        r"^\s*(from|import) (ingest_api|example_worker|lab)", sources, re.MULTILINE
    )


def test_it_takes_only_the_point_that_it_is_told(emptied: Service, start_worker: Start) -> None:
    mine, other = emptied.recorder(), emptied.recorder()
    [wanted], [left] = upload(emptied, mine), upload(emptied, other)
    worker = start_worker(emptied, "--drain", "--point", str(mine.device.point_id))
    assert worker.end() == 0
    assert (status(emptied, wanted), status(emptied, left)) == ("DONE", "QUEUED")


def test_what_is_no_ogg_becomes_an_error_and_the_rest_is_done(
    emptied: Service, start_worker: Start
) -> None:
    recorder = emptied.recorder()
    [broken] = upload(emptied, recorder, data=b"OggS, or so it says")
    ids = upload(emptied, recorder, 3)
    assert start_worker(emptied, "--drain").end() == 0
    found = row(emptied, broken)
    assert (found["status"], found["attempts"]) == ("ERROR", 1)
    assert found["error_message"].startswith("OggOpusHeaderError: ")
    assert {status(emptied, chunk_id) for chunk_id in ids} == {"DONE"}


def _shifted(hours: int) -> bytes:
    """A minute cut from a stream that began so long before."""
    pages = _pages()
    for page in pages[2:]:
        page.position += hours * 3600 * 48000
    return b"".join(page.write() for page in pages)


def _pages() -> list[Any]:
    file, pages = io.BytesIO(SPEECH), []
    while file.tell() < len(SPEECH):
        pages.append(OggPage(file))
    return pages


def test_it_measures_what_was_cut_from_a_longer_stream(
    emptied: Service, start_worker: Start
) -> None:
    upload(emptied, emptied.recorder(), data=_shifted(hours=1))
    worker = start_worker(emptied, "--drain")
    assert worker.end() == 0
    assert "DONE: 60.00 s of 60 s" in worker.lines()[0]


def test_headers_without_audio_become_an_error(emptied: Service, start_worker: Start) -> None:
    headers = b"".join(page.write() for page in _pages()[:2])
    [chunk_id] = upload(emptied, emptied.recorder(), data=headers)
    assert start_worker(emptied, "--drain").end() == 0
    found = row(emptied, chunk_id)
    assert found["status"] == "ERROR"
    assert found["error_message"] == "ValueError: there is no audio behind the headers"


def test_a_file_lost_from_the_disk_becomes_an_error_that_says_so(
    emptied: Service, start_worker: Start
) -> None:
    recorder = emptied.recorder()
    lost, kept = upload(emptied, recorder, 2)
    (emptied.storage / row(emptied, lost)["file_path"]).unlink()
    assert start_worker(emptied, "--drain").end() == 0
    assert (status(emptied, lost), status(emptied, kept)) == ("ERROR", "DONE")
    assert "file_missing" in row(emptied, lost)["error_message"]


def test_other_bytes_than_were_uploaded_are_not_processed(
    start_service, start_worker: Start
) -> None:
    service = start_service(MAX_ATTEMPTS="2")
    [chunk_id] = upload(service, service.recorder())
    file = service.storage / row(service, chunk_id)["file_path"]
    file.chmod(0o600)
    with file.open("r+b") as opened:
        opened.seek(1000)
        opened.write(b"\0\0\0\0")
    assert start_worker(service, "--drain").end() == 0
    found = row(service, chunk_id)
    assert (found["status"], found["attempts"]) == ("ERROR", 2)  # it might have been the network
    assert found["error_message"] == "OSError: what was downloaded is not what was uploaded"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_stopped_at_work_it_finishes_the_chunk_in_hand_and_gives_the_others_back(
    emptied: Service, start_worker: Start, signum: signal.Signals
) -> None:
    ids = upload(emptied, emptied.recorder(), 3)
    worker = start_worker(emptied, "--limit", "3", program=SLOW)
    assert worker.has_begun() == ids[0]
    worker.process.send_signal(signum)
    worker.go()
    assert worker.end() == 0
    assert [status(emptied, chunk_id) for chunk_id in ids] == ["DONE", "QUEUED", "QUEUED"]
    assert "the worker was stopped" in row(emptied, ids[1])["error_message"]


def test_a_second_signal_does_not_wait_for_the_work(emptied: Service, start_worker: Start) -> None:
    upload(emptied, emptied.recorder())
    worker = start_worker(emptied, program=SLOW)
    worker.has_begun()
    worker.process.terminate()
    eventually(lambda: _catches_no(signal.SIGTERM, worker.process.pid))
    worker.process.terminate()
    assert worker.end(5) == -signal.SIGTERM


def _catches_no(signum: signal.Signals, pid: int) -> bool:
    [caught] = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return not int(caught, 16) >> (signum - 1) & 1


def test_with_nothing_to_do_it_stops_at_once(emptied: Service, start_worker: Start) -> None:
    seen = len(emptied.log())
    worker = start_worker(emptied)
    eventually(lambda: any(line.get("status") == 200 for line in emptied.log()[seen:]))
    worker.process.terminate()
    assert worker.end(5) == 0


def test_the_lease_is_renewed_while_it_works(emptied: Service, start_worker: Start) -> None:
    [chunk_id] = upload(emptied, emptied.recorder())
    worker = start_worker(emptied, "--drain", "--lease-sec", "6", program=SLOW)
    worker.has_begun()
    other, end = HttpWorker(emptied), time.monotonic() + 8
    while time.monotonic() < end:
        assert other.claim() == []
        time.sleep(0.1)
    worker.go()
    assert worker.end() == 0
    assert row(emptied, chunk_id)["attempts"] == 1


def test_when_it_is_killed_another_finishes_its_work(emptied: Service, start_worker: Start) -> None:
    [chunk_id] = upload(emptied, emptied.recorder())
    killed = start_worker(emptied, "--lease-sec", "3", program=SLOW)
    killed.has_begun()
    killed.process.kill()
    start_worker(emptied, "--worker", "heir")
    eventually(lambda: status(emptied, chunk_id) == "DONE", 30)
    found = row(emptied, chunk_id)
    assert (found["worker"], found["attempts"]) == ("heir", 2)


def test_work_of_which_it_lost_the_lease_is_dropped(emptied: Service, start_worker: Start) -> None:
    [chunk_id] = upload(emptied, emptied.recorder())
    worker = start_worker(emptied, "--drain", "--lease-sec", "1", program=SLOW)
    worker.has_begun()
    worker.process.send_signal(signal.SIGSTOP)
    other = HttpWorker(emptied, "other")
    [taken] = eventually(other.claim)
    worker.process.send_signal(signal.SIGCONT)
    worker.go()
    assert worker.end() == 0
    worker.complaint("is dropped (Refused: lease_lost")
    assert other.done(taken).status_code == 200
    assert row(emptied, chunk_id)["worker"] == "other"


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"INTERNAL_TOKEN": "wrong"}, "INTERNAL_TOKEN must be the one that the service"),
        ({"INTERNAL_TOKEN": ""}, "Set INTERNAL_TOKEN"),
        ({"INTERNAL_TOKEN": "two words"}, "Set INTERNAL_TOKEN"),
        ({"INTERNAL_TOKEN_FILE": "/nowhere"}, "INTERNAL_TOKEN_FILE cannot be read"),
    ],
)
def test_without_the_token_it_ends_with_a_sentence(
    emptied: Service, start_worker: Start, environ: dict[str, str], sentence: str
) -> None:
    worker = start_worker(emptied, **environ)
    assert worker.end() == 1
    [line] = worker.err.read_text().splitlines()
    assert sentence in line


def test_the_token_can_come_from_a_file(
    emptied: Service, start_worker: Start, tmp_path: Path
) -> None:
    [chunk_id] = upload(emptied, emptied.recorder())
    file = tmp_path / "token"
    file.write_text(f"{INTERNAL_TOKEN}\n")
    worker = start_worker(emptied, "--drain", INTERNAL_TOKEN="", INTERNAL_TOKEN_FILE=str(file))
    assert worker.end() == 0
    assert status(emptied, chunk_id) == "DONE"


def test_it_outlives_restarts_of_the_service(start_service, start_worker: Start) -> None:
    service = start_service()
    ids = upload(service, service.recorder(), 2)
    worker = start_worker(service, program=SLOW)
    worker.has_begun()
    service.stop()
    worker.go()  # and so it has to report to a service that is away
    worker.complaint("again in")
    service.start()
    eventually(lambda: {status(service, chunk_id) for chunk_id in ids} == {"DONE"}, 30)
    assert {row(service, chunk_id)["attempts"] for chunk_id in ids} == {1}


def test_it_waits_for_a_service_that_is_not_there_yet(start_service, start_worker: Start) -> None:
    service = start_service()
    [chunk_id] = upload(service, service.recorder())
    service.stop()
    worker = start_worker(service, "--drain")
    worker.complaint("ConnectionError")
    service.start()
    assert worker.end(30) == 0
    assert status(service, chunk_id) == "DONE"
