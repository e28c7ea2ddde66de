"""GET /api/v1/internal/chunks/<id>/file: the recording, for workers elsewhere."""

import hashlib
import os
import socket
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest
import requests
from gunicorn.http.wsgi import FileWrapper
from support.commands import flask_ingest
from support.leases import HEADERS, HttpWorker, upload_chunks
from support.problems import assert_problem
from support.processes import eventually
from support.recorder import SPEECH, Recorder
from support.service import INTERNAL_TOKEN, Service
from werkzeug.test import EnvironBuilder

from ingest_api import create_app
from ingest_api.components import EXTENSION
from ingest_api.settings import Settings

SHA256 = hashlib.sha256(SPEECH).hexdigest()


@pytest.fixture
def worker(emptied: Service) -> HttpWorker:
    return HttpWorker(emptied)


@pytest.fixture
def chunk(emptied: Service) -> dict:
    """The receipt of an upload."""
    return emptied.upload(emptied.recorder()).json()


def test_it_sends_the_bytes_that_were_uploaded(worker: HttpWorker, chunk: dict) -> None:
    response = worker.get_file(chunk["chunk_id"])
    assert response.status_code == 200
    assert response.content == SPEECH
    headers = response.headers
    assert headers["Content-Type"] == "audio/ogg"
    assert headers["Content-Length"] == str(len(SPEECH))
    name = f"chunk_{chunk['chunk_id']}.ogg"
    assert headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert headers["ETag"] == f'"{SHA256}"'
    assert headers["Accept-Ranges"] == "bytes"
    assert "X-Request-ID" in headers


def test_head_tells_the_same_without_the_bytes(worker: HttpWorker, chunk: dict) -> None:
    sent = worker.get_file(chunk["chunk_id"])
    response = worker.session.head(sent.url)
    assert response.status_code == 200
    assert response.content == b""
    ours = ("Content-Type", "Content-Length", "Content-Disposition", "ETag", "Accept-Ranges")
    assert [response.headers[name] for name in ours] == [sent.headers[name] for name in ours]


@pytest.mark.parametrize("tag", [f'"{SHA256}"', f'"other", "{SHA256}"', f'W/"{SHA256}"', "*"])
def test_who_has_it_already_gets_304(worker: HttpWorker, chunk: dict, tag: str) -> None:
    response = worker.get_file(chunk["chunk_id"], **{"If-None-Match": tag})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["ETag"] == f'"{SHA256}"'


def test_who_has_another_gets_this_one(worker: HttpWorker, chunk: dict) -> None:
    response = worker.get_file(chunk["chunk_id"], **{"If-None-Match": '"other"'})
    assert response.content == SPEECH


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("0-99", 0, 100), ("1000-", 1000, len(SPEECH)), ("-7", len(SPEECH) - 7, len(SPEECH))],
)
def test_it_sends_a_range(
    worker: HttpWorker, chunk: dict, wanted: str, start: int, end: int
) -> None:
    response = worker.get_file(chunk["chunk_id"], Range=f"bytes={wanted}")
    assert response.status_code == 206
    assert response.content == SPEECH[start:end]
    assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(SPEECH)}"
    assert response.headers["ETag"] == f'"{SHA256}"'


def test_a_range_of_another_file_is_not_mixed_in(worker: HttpWorker, chunk: dict) -> None:
    """RFC 9110, 13.1.5: with If-Range, a file that changed is sent whole."""
    conditions = {"Range": "bytes=100-", "If-Range": '"other"'}
    response = worker.get_file(chunk["chunk_id"], **conditions)
    assert (response.status_code, response.content) == (200, SPEECH)
    conditions["If-Range"] = f'"{SHA256}"'
    response = worker.get_file(chunk["chunk_id"], **conditions)
    assert (response.status_code, response.content) == (206, SPEECH[100:])


def test_a_range_beyond_the_end_is_refused(worker: HttpWorker, chunk: dict) -> None:
    response = worker.get_file(chunk["chunk_id"], Range=f"bytes={len(SPEECH)}-")
    assert_problem(response, 416, "requested_range_not_satisfiable")
    assert response.headers["Content-Range"] == f"bytes */{len(SPEECH)}"


LATER, EARLIER = "Fri, 01 Jan 2100 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"
HAS, OTHER = f'"{SHA256}"', '"other"'


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        # RFC 9110, section 13.2.2: what the client has already comes before what it wants of it.
        ({"If-None-Match": HAS, "Range": "bytes=0-4"}, 304),
        ({"If-None-Match": HAS, "If-Range": HAS, "Range": "bytes=0-4"}, 304),
        ({"If-None-Match": OTHER, "If-Modified-Since": LATER}, 200),
        ({"If-Modified-Since": LATER}, 304),
        ({"If-Modified-Since": EARLIER}, 200),
        ({"If-Modified-Since": "Thu, 99999999999999999999 Jan 2026 00:00:00 GMT"}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-Match": HAS}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": OTHER}, 412),
        ({"If-Match": f"W/{HAS}"}, 412),
        ({"If-Match": OTHER, "Range": "bytes=0-4"}, 412),
        ({"If-Unmodified-Since": LATER}, 200),
        ({"If-Unmodified-Since": EARLIER}, 412),
        ({"If-Range": f"W/{HAS}", "Range": "bytes=0-4"}, 200),
        ({"If-Range": LATER, "Range": "bytes=0-4"}, 200),
        ({"Range": "items=0-4"}, 200),
        ({"Range": "bytes=0-1,5-6"}, 200),
        ({"Range": "bytes=4-0"}, 200),
        ({"Range": "bytes=x"}, 200),
        ({"Range": f"bytes=-{2 * len(SPEECH)}"}, 206),
        ({"Range": f"bytes=0-{10**30}"}, 206),
        ({"Range": f"bytes={10**30}-"}, 416),
    ],
)
def test_conditions_mean_what_the_standard_says(
    worker: HttpWorker, chunk: dict, conditions: dict, status: int
) -> None:
    response = worker.get_file(chunk["chunk_id"], **conditions)
    assert response.status_code == status
    if status in {200, 206} and conditions.get("Range") != "bytes=0-4":
        assert response.content == SPEECH
    if status in {412, 416}:
        assert response.json()["status"] == status


@pytest.mark.parametrize("wanted", ["bytes=0-4", "bytes=999999999-"])
def test_a_range_of_a_head_is_ignored(worker: HttpWorker, chunk: dict, wanted: str) -> None:
    url = worker.get_file(chunk["chunk_id"]).url
    response = worker.session.head(url, headers={"Range": wanted})
    assert (response.status_code, response.headers["Content-Length"]) == (200, str(len(SPEECH)))


def test_if_range_takes_the_date_of_this_file(worker: HttpWorker, chunk: dict) -> None:
    modified = worker.get_file(chunk["chunk_id"]).headers["Last-Modified"]
    response = worker.get_file(chunk["chunk_id"], **{"If-Range": modified, "Range": "bytes=5-"})
    assert (response.status_code, response.content) == (206, SPEECH[5:])


def test_curl_resumes_a_broken_download(emptied: Service, chunk: dict, tmp_path: Path) -> None:
    target = tmp_path / "chunk.ogg"
    target.write_bytes(SPEECH[:77_777])
    url = f"{emptied.url}/api/v1/internal/chunks/{chunk['chunk_id']}/file"
    command = ["curl", "-sS", "-f", "-v", "-C", "-", "-o", str(target)]
    command += ["-H", f"Authorization: Bearer {INTERNAL_TOKEN}", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "HTTP/1.1 206" in done.stderr
    assert f"Content-Length: {len(SPEECH) - 77_777}" in done.stderr
    assert target.read_bytes() == SPEECH


def test_many_come_over_one_connection(emptied: Service, worker: HttpWorker) -> None:
    ids = upload_chunks(emptied, emptied.recorder(), range(5))
    for _ in range(3):
        for chunk_id in ids:
            sent = worker.get_file(chunk_id)
            assert sent.headers["ETag"] == f'"{hashlib.sha256(sent.content).hexdigest()}"'


def test_gunicorn_is_left_to_send_it_by_sendfile(emptied: Service, chunk: dict) -> None:
    """It does so with what its own wrapper wraps, and with nothing else (PEP 3333)."""
    app = create_app(Settings.from_environ(emptied.settings))
    path = f"/api/v1/internal/chunks/{chunk['chunk_id']}/file"
    environ = EnvironBuilder(path, headers=HEADERS).get_environ()
    sent = app(environ | {"wsgi.file_wrapper": FileWrapper}, lambda *_: lambda _: None)
    assert type(sent) is FileWrapper
    assert os.fstat(sent.filelike.fileno()).st_size == len(SPEECH)
    sent.close()
    app.extensions[EXTENSION].database.close()


def test_an_unknown_chunk_is_not_found(worker: HttpWorker) -> None:
    for chunk_id in (uuid4(), "x"):
        assert_problem(worker.get_file(chunk_id), 404, "chunk_not_found")


def test_a_pruned_chunk_is_gone(emptied: Service, worker: HttpWorker, chunk: dict) -> None:
    device_id = _device_of(emptied, chunk)
    removed = flask_ingest(
        emptied.database_url,
        *("prune", "--device", device_id, "--status", "all", "--yes"),
        AUDIO_STORAGE_DIR=str(emptied.storage),
    )
    assert removed.returncode == 0, removed.stderr
    for answer in (worker.get_file(chunk["chunk_id"]), worker.get(chunk["chunk_id"])):
        assert_problem(answer, 410, "chunk_pruned")
    body = {"chunk_id": chunk["chunk_id"], "attempt": 1}
    assert_problem(worker.done(body), 410, "chunk_pruned")
    path = f"chunks/{chunk['chunk_id']}/claim"
    assert_problem(worker.post(path, worker="w"), 410, "chunk_pruned")


def test_a_chunk_that_is_being_pruned_is_gone(
    emptied: Service, worker: HttpWorker, chunk: dict
) -> None:
    with emptied.connect() as connection:
        connection.execute("UPDATE audio_chunks SET status = 'PRUNED'")
    assert_problem(worker.get_file(chunk["chunk_id"]), 410, "chunk_pruned")
    assert_problem(worker.get(chunk["chunk_id"]), 410, "chunk_pruned")


def test_a_pruned_chunk_that_is_sent_again_is_there_again(
    emptied: Service, worker: HttpWorker
) -> None:
    recorder = emptied.recorder()
    chunk = emptied.upload(recorder).json()
    with emptied.connect() as connection:
        connection.execute(
            "INSERT INTO pruned_chunks (chunk_id, attempts) VALUES (%s, 0)", [chunk["chunk_id"]]
        )
    assert worker.get_file(chunk["chunk_id"]).content == SPEECH


def test_a_lost_file_is_a_failure_of_its_own_and_logged(
    emptied: Service, worker: HttpWorker, chunk: dict
) -> None:
    (emptied.storage / chunk["stored_path"]).unlink()
    problem = assert_problem(worker.get_file(chunk["chunk_id"]), 500, "file_missing")
    assert chunk["stored_path"] not in str(problem)
    [line] = [
        line
        for line in emptied.log()
        if line.get("request_id") == problem["request_id"] and line["level"] == "ERROR"
    ]
    assert line["message"].startswith("file_missing: ")
    assert chunk["stored_path"] in line["message"]


def test_a_disk_that_is_not_mounted_is_no_lost_file(
    emptied: Service, worker: HttpWorker, chunk: dict
) -> None:
    """Else a worker would give up one chunk after the other."""
    recordings = emptied.storage / "audio"
    recordings.rename(emptied.storage / "elsewhere")
    problem = assert_problem(worker.get_file(chunk["chunk_id"]), 503, "storage_unavailable")
    assert problem["retryable"] is True
    (emptied.storage / "elsewhere").rename(recordings)
    assert worker.get_file(chunk["chunk_id"]).content == SPEECH


def test_a_file_of_another_length_is_not_sent(
    emptied: Service, worker: HttpWorker, chunk: dict
) -> None:
    with (emptied.storage / chunk["stored_path"]).open("ab") as file:
        file.write(b"x")
    assert_problem(worker.get_file(chunk["chunk_id"]), 500, "file_damaged")


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "audio", "."])
def test_a_path_that_leads_elsewhere_is_not_followed(
    emptied: Service, worker: HttpWorker, chunk: dict, path: str
) -> None:
    with emptied.connect() as connection:
        connection.execute("UPDATE audio_chunks SET file_path = %s", [path])
    assert worker.get_file(chunk["chunk_id"]).content == SPEECH


@pytest.mark.parametrize("kind", ["pipe", "socket", "directory", "device"])
def test_what_is_no_file_is_a_missing_file(
    emptied: Service, worker: HttpWorker, chunk: dict, kind: str
) -> None:
    path = emptied.storage / chunk["stored_path"]
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            os.chdir(path.parent)  # such a name must be short
            listener.bind(path.name[-20:])
            Path(path.name[-20:]).rename(path)
            os.chdir("/")
    assert_problem(worker.get_file(chunk["chunk_id"]), 500, "file_missing")


@pytest.mark.parametrize("wanted", ["", "bytes=5-"])
def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection(
    start_service, wanted: str
) -> None:
    """Else the client would take the next answer for the rest of the recording."""
    service = start_service(WORKERS="1")
    receipt = service.upload(service.recorder(), b"OggS" * 2_000_000).json()
    path = f"/api/v1/internal/chunks/{receipt['chunk_id']}/file"
    head = [f"GET {path} HTTP/1.1", "Host: x", *(f"{n}: {v}" for n, v in HEADERS.items())]
    head += [f"Range: {wanted}"] if wanted else []
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        received = len(connection.recv(1000))
        os.truncate(service.storage / receipt["stored_path"], 4_000_000)
        while piece := connection.recv(1 << 20):
            received += len(piece)
    assert received < 8_000_000
    eventually(lambda: any(line["level"] == "ERROR" for line in service.log()))


def test_a_row_of_the_earlier_service_has_no_etag(
    emptied: Service, worker: HttpWorker, chunk: dict
) -> None:
    with emptied.connect() as connection:
        connection.execute("UPDATE audio_chunks SET sha256 = NULL")
    response = worker.get_file(chunk["chunk_id"])
    assert response.content == SPEECH
    assert "ETag" not in response.headers
    modified = {"If-Modified-Since": response.headers["Last-Modified"]}
    assert worker.get_file(chunk["chunk_id"], **modified).status_code == 304


@pytest.mark.slow
def test_who_stops_taking_it_holds_no_thread_for_ever(start_service) -> None:
    service = start_service(REQUEST_STALL_SECONDS="1", WORKERS="1", THREADS="2")
    recorder = service.recorder()
    large = b"OggS" * 2_000_000
    receipt = service.upload(recorder, large).json()
    head = f"GET /api/v1/internal/chunks/{receipt['chunk_id']}/file HTTP/1.1\r\nHost: x\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    stalled = []
    for _ in range(4):
        connection = socket.create_connection(("127.0.0.1", service.port))
        connection.sendall(f"{head}\r\n".encode())
        stalled.append(connection)
    assert service.upload(recorder, b"OggS next").status_code == 200
    for connection in stalled:
        connection.close()
    errors = [line for line in service.log() if line["level"] == "ERROR"]
    assert errors == []


def _device_of(service: Service, chunk: dict) -> str:
    with service.connect() as connection:
        found = connection.execute(
            "SELECT device_id FROM audio_chunks WHERE chunk_id = %s", [chunk["chunk_id"]]
        )
        return str(found.fetchall()[0][0])


def test_a_file_is_not_for_recorders(emptied: Service, recorder: Recorder, chunk: dict) -> None:
    url = f"{emptied.url}/api/v1/internal/chunks/{chunk['chunk_id']}/file"
    response = requests.get(url, headers=recorder.headers)
    assert_problem(response, 401, "invalid_internal_token")
