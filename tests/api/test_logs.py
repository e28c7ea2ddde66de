"""Request ids and log lines."""

import re

import pytest
import requests
from support.recorder import SPEECH, Recorder, multipart
from support.service import ADMIN_TOKEN, Service


def _line(service: Service, request_id: str) -> dict[str, object]:
    [line] = [
        line
        for line in service.log()
        if line.get("request_id") == request_id and line["message"] == "request"
    ]
    return line


def test_each_request_is_one_line_of_json(service: Service, recorder: Recorder) -> None:
    body = multipart(recorder.form(), SPEECH)
    response = requests.post(
        f"{service.url}/api/v1/chunks?secret=in-the-query",
        data=body,
        headers=recorder.headers | {"Content-Type": "multipart/form-data; boundary=XyZ-boundary"},
    )
    assert response.status_code == 200
    line = _line(service, response.headers["X-Request-ID"])
    assert line["logger"] == "ingest_api.access"
    assert (line["method"], line["path"]) == ("POST", "/api/v1/chunks")
    assert line["status"] == 200
    assert line["bytes"] == len(body)
    assert line["device_id"] == str(recorder.device.device_id)
    assert 0 < float(str(line["ms"])) < 60_000
    assert re.match(r"20\d\d-\d\d-\d\dT", str(line["time"]))


def test_a_refusal_is_logged_with_its_code(service: Service) -> None:
    response = requests.get(f"{service.url}/api/v1/admin/devices")
    line = _line(service, response.headers["X-Request-ID"])
    assert (line["status"], line["code"], line["device_id"]) == (401, "missing_token", None)


def test_a_sane_request_id_is_kept(service: Service) -> None:
    response = requests.get(f"{service.url}/health/live", headers={"X-Request-ID": "agent-7:0001"})
    assert response.headers["X-Request-ID"] == "agent-7:0001"
    assert _line(service, "agent-7:0001")["path"] == "/health/live"


@pytest.mark.parametrize("sent", ["", "x" * 65, 'a"b', "a b", "ä", "<x>", "a\tb", "a,b"])
def test_another_request_id_is_replaced(service: Service, sent: str) -> None:
    headers = {"X-Request-ID": sent.encode("latin-1")}
    made = requests.get(f"{service.url}/health/live", headers=headers).headers["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)


def test_no_secret_is_ever_logged(start_service) -> None:
    service = start_service(LOG_LEVEL="DEBUG", INTERNAL_TOKEN="internal-s3cret")
    recorder = service.recorder()
    service.upload(recorder)
    service.upload(recorder, headers={"Authorization": "Bearer the-wrong-token"})
    requests.get(f"{service.url}/api/v1/admin/devices", headers={"Authorization": "Bearer nope!"})
    service.stop()
    text = service.log_path.read_text()
    for secret in (recorder.token, ADMIN_TOKEN, "internal-s3cret", "the-wrong-token", "nope!"):
        assert secret not in text
    assert all(line["level"] for line in service.log())  # every line is JSON


@pytest.mark.slow
def test_the_databases_password_is_never_logged(start_service) -> None:
    service = start_service("postgresql://ingest:the-pass-word@127.0.0.1:1/ingest")
    headers = {"Authorization": "Bearer some-token-or-other"}
    assert requests.post(f"{service.url}/api/v1/chunks", headers=headers).status_code == 503
    assert requests.get(f"{service.url}/health").status_code == 503
    service.stop()
    assert "refused" in service.log_path.read_text()
    assert "the-pass-word" not in service.log_path.read_text()
