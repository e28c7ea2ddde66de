"""Behind a proxy: what is believed of it, and what is left to it, over the unix socket alone.

gunicorn gets its sockets as systemd would hand them over. nginx itself is tested by
`tests/deploy/machines/`.
"""

import json
import re
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pytest
import requests
from support.leases import HEADERS
from support.processes import eventually
from support.recorder import SPEECH, Recorder, multipart
from support.service import ADMIN_TOKEN, Service

SITE = (Path(__file__).parents[2] / "deploy/nginx/ingest-api.conf").read_text()
ACCEL = {"X-Sendfile-Type": "X-Accel-Redirect"}

# Becomes the command behind it, with two sockets from descriptor 3 on (sd_listen_fds(3)).
ACTIVATE = """
import fcntl, os, socket, sys
path, port, *command = sys.argv[1:]
proxied = socket.socket(socket.AF_UNIX)
proxied.bind(path)
proxied.listen(128)
sockets = [proxied, socket.create_server(("127.0.0.1", int(port)))]
copies = [fcntl.fcntl(item, fcntl.F_DUPFD, 10) for item in sockets]
for number, copy in enumerate(copies, 3):
    os.dup2(copy, number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
os.execv(command[0], command)
"""


class ActivatedService(Service):
    """Listens on a unix socket, for the proxy, and on its port."""

    def __init__(self, folder: Path, database_url: str, **settings: str) -> None:
        super().__init__(folder, database_url, **settings)
        self.path = str(folder / "s")
        self.prefix = [sys.executable, "-c", ACTIVATE, self.path, str(self.port)]


@dataclass
class Answer:
    status: int
    headers: HTTPMessage
    body: bytes


class Proxy:
    """Sends what nginx would send, and gets what it would get."""

    def __init__(self, service: ActivatedService) -> None:
        self.service = service

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(self.service.path)
        return connection

    def ask(self, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send(method, path, body, named)

    def send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        connection = HTTPConnection("ingest.test")
        connection.sock = self.connect()
        connection.request(method, path, body, headers)
        with connection.getresponse() as response:
            answer = Answer(response.status, response.headers, response.read())
        connection.close()
        return answer

    def send_raw(self, data: bytes) -> Answer:
        """What is no HTTP, and the last answer to it."""
        with self.connect() as connection:
            connection.sendall(data)
            response = HTTPResponse(connection)
            response.begin()
            return Answer(response.status, response.headers, response.read())


@pytest.fixture(scope="module")
def service(tmp_path_factory, new_database: Callable[..., str]) -> Iterator[ActivatedService]:
    folder = tmp_path_factory.mktemp("proxied")
    running = ActivatedService(folder, new_database(), REQUEST_STALL_SECONDS="2", WORKERS="1")
    running.start()
    yield running
    assert running.stop() == 0
    assert [line for line in running.log() if line["level"] == "CRITICAL"] == []


@pytest.fixture
def proxy(service: ActivatedService) -> Proxy:
    return Proxy(service)


@pytest.fixture
def chunk(service: ActivatedService, recorder: Recorder) -> dict[str, Any]:
    """The receipt of an upload."""
    return service.upload(recorder).json()


def _file_url(chunk: dict[str, Any]) -> str:
    return f"/api/v1/internal/chunks/{chunk['chunk_id']}/file"


def _client(service: ActivatedService, headers: Any) -> Any:
    """Which client the log names for an answer."""
    request_id = headers["X-Request-ID"]
    [line] = [line for line in service.log() if line.get("request_id") == request_id]
    return line["client"]


def _ours(headers: Any) -> dict[str, str]:
    """What does not change from one answer to the next."""
    varying = {"date", "server", "connection", "x-request-id", "x-accel-redirect"}
    return {name.lower(): headers[name] for name in headers if name.lower() not in varying}


def test_an_upload_comes_over_the_socket(proxy: Proxy, recorder: Recorder) -> None:
    body = multipart(recorder.form(), SPEECH)
    kind = {"Content-Type": "multipart/form-data; boundary=XyZ-boundary"}
    answer = proxy.send("POST", "/api/v1/chunks", body, recorder.headers | kind)
    assert answer.status == 200
    [stored] = proxy.service.files(recorder)
    assert stored.read_bytes() == SPEECH


@pytest.mark.parametrize("path", ["/health", "/health/live"])
def test_health_is_told_over_both(proxy: Proxy, path: str) -> None:
    assert proxy.ask(path).status == 200
    assert requests.get(proxy.service.url + path, timeout=5).status_code == 200


@pytest.mark.parametrize(
    ("told", "logged"),
    [("192.0.2.7", "192.0.2.7"), ("2001:DB8:0::7", "2001:db8::7"), (" 192.0.2.7 ", "192.0.2.7")],
)
def test_the_proxy_is_believed_who_the_client_is(proxy: Proxy, told: str, logged: str) -> None:
    answer = proxy.ask("/health/live", X_Forwarded_For=told, X_Request_ID=uuid4().hex)
    assert _client(proxy.service, answer.headers) == logged


@pytest.mark.parametrize(
    "told",
    ["", "unknown", "192.0.2.7, 192.0.2.8", "192.0.2.7:80", "fe80::1%<b>", '"}', "7" * 5000, "ä"],
)
def test_what_is_no_address_is_not_logged(proxy: Proxy, told: str) -> None:
    answer = proxy.ask("/health/live", X_Forwarded_For=told)
    assert answer.status == 200
    assert _client(proxy.service, answer.headers) is None


def test_a_client_that_the_proxy_does_not_name_is_not_known(proxy: Proxy) -> None:
    assert _client(proxy.service, proxy.ask("/health/live").headers) is None


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
def test_nobody_else_can_say_who_the_client_is(service: ActivatedService, name: str) -> None:
    sent = {name: "192.0.2.7"}
    answer = requests.get(f"{service.url}/health/live", headers=sent, timeout=5)
    assert _client(service, answer.headers) == "127.0.0.1"


def test_no_header_moves_the_application_or_breaks_it(proxy: Proxy) -> None:
    sent = {"SCRIPT_NAME": "/health", "Script-Name": "/health", "PATH_INFO": "/x"}
    assert proxy.send("GET", "/health/live", b"", sent).status == 200
    for host in ("[::1]:1", "a:b:c", ":", "x"):
        assert proxy.send("GET", "/health/live", b"", {"Host": host}).status in {200, 400}
    assert proxy.send_raw(b"GET /health/live HTTP/1.0\r\n\r\n").status == 200


def test_headers_that_contradict_each_other_about_tls_are_not_looked_at(proxy: Proxy) -> None:
    """gunicorn would answer 400, and the client has sent them."""
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "off"}
    assert proxy.send("GET", "/health/live", b"", said).status == 200


def test_a_whole_file_is_left_to_the_proxy(proxy: Proxy, chunk: dict[str, Any]) -> None:
    answer = proxy.send("GET", _file_url(chunk), b"", HEADERS | ACCEL)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["X-Accel-Redirect"] == f"/_recordings/{chunk['stored_path']}"
    direct = requests.get(proxy.service.url + _file_url(chunk), headers=HEADERS, timeout=5)
    expected = _ours(direct.headers) | {"content-length": "0"}  # nginx knows how long it is
    assert _ours(answer.headers) == expected


def test_the_site_has_the_places_that_the_service_names(
    proxy: Proxy, chunk: dict[str, Any]
) -> None:
    refused = proxy.send("GET", _file_url(chunk), b"", ACCEL).headers["X-Accel-Redirect"]
    assert f"location {refused} {{" in SITE
    file = proxy.send("GET", _file_url(chunk), b"", HEADERS | ACCEL).headers["X-Accel-Redirect"]
    [place] = re.findall(r"location (/\S+/) \{\n\s+internal;\n\s+alias @AUDIO_STORAGE_DIR@/;", SITE)
    assert file.removeprefix(place) == chunk["stored_path"]
    for check in ("/_check/device", "/_check/admin"):
        assert f"auth_request {check};" in SITE
        assert proxy.send("GET", check, b"", {}).headers["X-Problem"]
    for path in ("= /api/v1/chunks", "= /api/v1/chunks/known"):
        [place] = re.findall(rf"location {path} \{{\n(.*?)\n    \}}", SITE, re.DOTALL)
        assert "auth_request /_check/device;" in place
    assert "auth_request_set $ingest_refusal $upstream_http_x_problem;" in SITE
    assert "set $ingest_sendfile X-Accel-Redirect;" in SITE
    assert "proxy_set_header X-Sendfile-Type $ingest_sendfile;" in SITE


CONDITIONS: list[dict[str, str]] = [
    {"Range": "bytes=5-"},
    {"Range": "bytes=0-1,5-6"},
    {"Range": "bytes=999999999-"},
    {"If-Match": "*"},
    {"If-Match": '"other"'},
    {"If-None-Match": "*"},
    {"If-None-Match": '"other"'},
    {"If-Range": '"other"', "Range": "bytes=5-"},
    {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
    {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
    {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_a_part_of_a_file_and_conditions_are_not_left_to_the_proxy(
    proxy: Proxy, chunk: dict[str, Any], condition: dict[str, str]
) -> None:
    answer = proxy.send("GET", _file_url(chunk), b"", HEADERS | ACCEL | condition)
    direct = requests.get(
        proxy.service.url + _file_url(chunk), headers=HEADERS | condition, timeout=5
    )
    assert "X-Accel-Redirect" not in answer.headers
    assert (answer.status, _ours(answer.headers)) == (direct.status_code, _ours(direct.headers))
    if answer.status < 400:
        assert answer.body == direct.content


def test_a_head_is_not_left_to_the_proxy(proxy: Proxy, chunk: dict[str, Any]) -> None:
    answer = proxy.send("HEAD", _file_url(chunk), b"", HEADERS | ACCEL)
    assert "X-Accel-Redirect" not in answer.headers
    assert answer.headers["Content-Length"] == str(len(SPEECH))


def test_a_proxy_that_did_not_offer_it_gets_the_bytes(proxy: Proxy, chunk: dict[str, Any]) -> None:
    for headers in (HEADERS, HEADERS | {"X-Sendfile-Type": "X-Sendfile"}):
        answer = proxy.send("GET", _file_url(chunk), b"", headers)
        assert "X-Accel-Redirect" not in answer.headers
        assert answer.body == SPEECH


def test_over_tcp_nothing_is_left_to_anybody(
    service: ActivatedService, chunk: dict[str, Any]
) -> None:
    url = service.url + _file_url(chunk)
    answer = requests.get(url, headers=HEADERS | ACCEL, timeout=5)
    assert answer.content == SPEECH
    refused = requests.get(url, headers=ACCEL, timeout=5)
    assert refused.status_code == 401
    for response in (answer, refused):
        assert "X-Accel-Redirect" not in response.headers


@pytest.mark.parametrize(
    "name", ["a b.ogg", "a%2e?b#c.ogg", "a\r\nX-Injected: 1.ogg", "ünï.ogg", "a..b;c&d.ogg", '"\\']
)
def test_a_strange_name_is_one_header(
    proxy: Proxy, recorder: Recorder, chunk: dict[str, Any], name: str
) -> None:
    path = f"audio/{name}"
    (proxy.service.storage / chunk["stored_path"]).rename(proxy.service.storage / path)
    _set_path(proxy.service, chunk, path, sha256=None)  # of an earlier service
    answer = proxy.send("GET", _file_url(chunk), b"", HEADERS | ACCEL)
    assert answer.status == 200
    assert "X-Injected" not in answer.headers
    assert re.fullmatch(r"/_recordings/[A-Za-z0-9/_.~%-]+", answer.headers["X-Accel-Redirect"])
    assert unquote(answer.headers["X-Accel-Redirect"]) == f"/_recordings/{path}"


@pytest.mark.parametrize("spelling", ["./{path}", "{root}/{path}", "audio/../{path}"])
def test_a_path_of_the_earlier_service_is_told_as_this_one_would(
    proxy: Proxy, chunk: dict[str, Any], spelling: str
) -> None:
    path = chunk["stored_path"]
    _set_path(proxy.service, chunk, spelling.format(path=path, root=proxy.service.storage))
    answer = proxy.send("GET", _file_url(chunk), b"", HEADERS | ACCEL)
    assert answer.headers["X-Accel-Redirect"] == f"/_recordings/{path}"


def test_a_file_that_is_not_as_its_row_says_is_not_left_to_the_proxy(
    proxy: Proxy, chunk: dict[str, Any]
) -> None:
    file = proxy.service.storage / chunk["stored_path"]
    file.write_bytes(SPEECH + b"x")
    damaged = proxy.send("GET", _file_url(chunk), b"", HEADERS | ACCEL)
    file.unlink()
    missing = proxy.send("GET", _file_url(chunk), b"", HEADERS | ACCEL)
    for answer in (damaged, missing):
        assert answer.status == 500
        assert "X-Accel-Redirect" not in answer.headers


def test_a_file_that_is_left_to_the_proxy_is_closed(proxy: Proxy, chunk: dict[str, Any]) -> None:
    [worker] = proxy.service.workers()
    descriptors = Path(f"/proc/{worker}/fd")
    proxy.send("GET", _file_url(chunk), b"", HEADERS | ACCEL)
    before = len(list(descriptors.iterdir()))
    for _ in range(30):
        proxy.send("GET", _file_url(chunk), b"", HEADERS | ACCEL)
    eventually(lambda: len(list(descriptors.iterdir())) < before + 20)


@pytest.mark.parametrize("path", ["/api/v1/chunks", "/api/v1/admin/devices"])
def test_the_proxy_is_asked_to_let_a_refused_token_wait(proxy: Proxy, path: str) -> None:
    """It asks again, later, and without the header."""
    wrong = {"Authorization": "Bearer of-nobody-at-all"}
    answer = proxy.send("POST", path, b"", wrong | ACCEL)
    assert (answer.status, answer.headers["X-Accel-Redirect"]) == (401, "@unauthorized")
    again = proxy.send("POST", path, b"", wrong)
    assert again.status == 401
    assert "X-Accel-Redirect" not in again.headers


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"", 408),
        (b"GET / HT", 408),
    ],
)
def test_what_is_no_request_is_refused_and_logged(proxy: Proxy, sent: bytes, status: int) -> None:
    """The peer of a unix socket has no address."""
    answer = proxy.send_raw(sent)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert _client(proxy.service, answer.headers) is None
    assert proxy.ask("/health").status == 200


def _set_path(service: ActivatedService, chunk: dict[str, Any], path: str, **columns: Any) -> None:
    columns |= {"file_path": path}
    names = ", ".join(f"{name} = %s" for name in columns)
    with service.connect() as connection:
        connection.execute(
            f"UPDATE audio_chunks SET {names} WHERE chunk_id = %s",
            [*columns.values(), chunk["chunk_id"]],
        )


CHECKED = {"X-Original-Method": "POST", "X-Original-URI": "/api/v1/chunks?a=b"}


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_head_with_a_good_token_is_allowed_and_not_logged(
    proxy: Proxy, recorder: Recorder, method: str
) -> None:
    """Nothing else says that nginx may take the body. (Its request comes next, and is logged.)"""
    request_id = uuid4().hex
    checked = CHECKED | {"X-Original-Method": method, "X-Request-ID": request_id}
    answer = proxy.send("GET", "/_check/device", b"", checked | recorder.headers)
    assert (answer.status, answer.body) == (204, b"")
    assert "X-Problem" not in answer.headers
    assert [line for line in proxy.service.log() if line.get("request_id") == request_id] == []


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_token"),
        ({"Authorization": "Basic x"}, "invalid_scheme"),
        ({"Authorization": "Bearer "}, "empty_token"),
        ({"Authorization": "Bearer of-nobody-at-all"}, "invalid_token"),
    ],
)
def test_a_head_is_refused_with_the_document_of_the_request(
    proxy: Proxy, headers: dict[str, str], code: str
) -> None:
    answer = proxy.send("GET", "/_check/device", b"", CHECKED | headers)
    direct = proxy.send("POST", "/api/v1/chunks", b"", headers)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "X-Accel-Redirect" not in answer.headers
    told, expected = json.loads(answer.headers["X-Problem"]), json.loads(direct.body)
    assert told["code"] == code
    assert told | {"request_id": ""} == expected | {"request_id": ""}
    [line] = [line for line in proxy.service.log() if line.get("request_id") == told["request_id"]]
    assert (line["method"], line["path"], line["status"]) == ("POST", "/api/v1/chunks", 401)


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        *[("device", "GET", 204), ("device", "OPTIONS", 204), ("device", "", 401)],
        *[("admin", "OPTIONS", 204), ("admin", "GET", 401), ("admin", "HEAD", 401)],
        ("admin", "", 401),
    ],
)
def test_a_head_needs_a_token_unless_the_method_needs_none(
    proxy: Proxy, path: str, method: str, status: int
) -> None:
    checked = CHECKED | {"X-Original-Method": method}
    assert proxy.send("GET", f"/_check/{path}", b"", checked).status == status


def test_a_head_with_the_admin_token_is_allowed(proxy: Proxy) -> None:
    token = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    assert proxy.send("GET", "/_check/admin", b"", CHECKED | token).status == 204
    assert proxy.send("GET", "/_check/device", b"", CHECKED | token).status == 401


def test_a_head_that_cannot_be_checked_is_refused_for_now(
    service: ActivatedService, proxy: Proxy, recorder: Recorder
) -> None:
    """nginx knows 401 and 403: it makes 503 of the latter."""
    with service.connect() as connection:
        connection.execute("BEGIN")
        connection.execute("LOCK TABLE devices")
        answer = proxy.send("GET", "/_check/device", b"", CHECKED | recorder.headers)
    assert answer.status == 403
    told = json.loads(answer.headers["X-Problem"])
    assert (told["status"], told["code"]) == (503, "database_unavailable")
    [line] = [line for line in service.log() if line.get("request_id") == told["request_id"]][-1:]
    assert line.get("status", 503) == 503


@pytest.mark.parametrize("path", ["/_check/device", "/_check/admin", "/_check/other"])
def test_over_tcp_no_head_is_checked(service: ActivatedService, path: str) -> None:
    assert requests.get(service.url + path, headers=CHECKED, timeout=5).status_code == 404
