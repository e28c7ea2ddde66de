"""POST /api/v1/chunks: whom and what it refuses, with which answer, leaving nothing behind."""

from typing import Any

import pytest
import requests
from support.problems import assert_problem
from support.recorder import SPEECH, Recorder
from support.service import Service

UNKNOWN = "deadbeef-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("header", "code", "phrase"),
    [
        (None, "missing_token", "Missing Authorization header"),
        ("", "missing_token", "Missing Authorization header"),
        ("Basic dXNlcjpwYXNz", "invalid_scheme", "Invalid authorization scheme"),
        ("Token abc", "invalid_scheme", "Invalid authorization scheme"),
        ("Bearer", "empty_token", "Empty token"),
        ("Bearer  ", "empty_token", "Empty token"),
        ("Bearer unknown-token-of-nobody", "invalid_token", "Invalid or disabled device token"),
        ("Bearer \xe9\xff\xfe", "invalid_token", "Invalid or disabled device token"),
        (f"Bearer {'x' * 7000}", "invalid_token", "Invalid or disabled device token"),
    ],
)
def test_it_refuses_strangers(
    service: Service, recorder: Recorder, header: str | None, code: str, phrase: str
) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    problem = assert_problem(service.upload(recorder, headers=headers), 401, code, phrase)
    assert problem["retryable"] is False
    service.assert_nothing_left(recorder)


def test_it_refuses_a_disabled_device_until_it_is_enabled(
    service: Service, recorder: Recorder
) -> None:
    def set_enabled(value: bool) -> None:
        with service.connect() as connection:
            connection.execute(
                "UPDATE devices SET is_enabled = %s WHERE device_id = %s",
                [value, recorder.device.device_id],
            )

    set_enabled(False)
    phrase = "Invalid or disabled device token"
    assert_problem(service.upload(recorder), 401, "device_disabled", phrase)
    service.assert_nothing_left(recorder)
    set_enabled(True)
    assert service.upload(recorder).status_code == 200


@pytest.mark.parametrize(
    ("changes", "code", "phrase"),
    [
        (
            {"device_id": UNKNOWN},
            "device_mismatch",
            "device_id does not match authenticated device",
        ),
        (
            {"point_id": UNKNOWN},
            "identity_mismatch",
            "point_id or register_id does not match device registration",
        ),
        (
            {"register_id": UNKNOWN},
            "identity_mismatch",
            "point_id or register_id does not match device registration",
        ),
        (
            {"start_ts": "2026-01-28T10:00:00Z", "end_ts": "2026-01-28T09:59:59Z"},
            "invalid_interval",
            "end_ts must be after start_ts",
        ),
        (
            {"start_ts": "2026-01-28T10:00:00Z", "end_ts": "2026-01-28T12:00:00+02:00"},
            "invalid_interval",
            "end_ts must be after start_ts",
        ),
        ({"start_ts": "2026-01-28T10:00:00"}, "naive_timestamp", "NAIVE_TIMESTAMP_ZONE"),
        ({"end_ts": "2026-01-28T10:01:00"}, "naive_timestamp", "NAIVE_TIMESTAMP_ZONE"),
    ],
)
def test_it_refuses_what_contradicts_itself(
    service: Service, recorder: Recorder, changes: dict[str, Any], code: str, phrase: str
) -> None:
    problem = assert_problem(service.upload(recorder, **changes), 422, code, phrase)
    assert problem["retryable"] is False
    service.assert_nothing_left(recorder)


MALFORMED = {
    "device_id": [
        "",
        "1",
        "not-a-uuid",
        UNKNOWN[:-1],
        UNKNOWN + "0",
        "{" + UNKNOWN,
        " " + UNKNOWN[1:],
        "+" + UNKNOWN[1:],
        "12345678_1234_1234_1234_1234567890ab",
        "\uff11" * 32,
        UNKNOWN + "\x00",
    ],
    "point_id": ["null"],
    "register_id": ["0"],
    "start_ts": [
        "",
        "yesterday",
        "1767225600",
        "2026-01-28",
        "10:00:00Z",
        "2026-01-28x10:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-28T25:00:00Z",
        "10000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "2026-01-28T10:00:00Z\x00",
        "2026-01-28T10:00:00+99:00",
        "Z" * 100_000,
    ],
    "end_ts": ["9999-12-31T23:59:59-01:00", "soon"],
    "codec": ["", " ", "x" * 33, "op\x00us", "op\nus", "opüs", "\x7f"],
    "sample_rate": [
        "",
        "0",
        "-1",
        "48000.0",
        "48k",
        "4_8",
        "+48",
        "2147483648",
        "9" * 5000,
        "\uff14\uff18",
    ],
    "channels": ["", "0", "-1", "256", "mono", "1e0", "0x1", "true", "1\x00"],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in MALFORMED.items() for value in values]
)
def test_it_refuses_a_malformed_field_by_name(
    service: Service, recorder: Recorder, field: str, value: str
) -> None:
    response = service.upload(recorder, **{field: value})
    problem = assert_problem(response, 422, "validation_error", field)
    assert list(problem["errors"]) == [field]
    assert all(isinstance(message, str) for message in problem["errors"][field])
    service.assert_nothing_left(recorder)


@pytest.mark.parametrize("field", list(MALFORMED))
def test_it_refuses_a_missing_field_by_name(
    service: Service, recorder: Recorder, field: str
) -> None:
    problem = assert_problem(
        service.upload(recorder, **{field: None}), 422, "validation_error", field
    )
    assert list(problem["errors"]) == [field]
    service.assert_nothing_left(recorder)


@pytest.mark.parametrize("field", list(MALFORMED))
def test_it_refuses_a_repeated_field_by_name(
    service: Service, recorder: Recorder, field: str
) -> None:
    value = recorder.form()[field]
    response = service.upload(recorder, **{field: [value, value]})
    problem = assert_problem(response, 422, "validation_error", field)
    assert list(problem["errors"]) == [field]
    service.assert_nothing_left(recorder)


def test_it_names_all_faulty_fields_at_once(service: Service, recorder: Recorder) -> None:
    response = service.upload(recorder, codec=None, channels="two", start_ts="now")
    problem = assert_problem(response, 422, "validation_error", "channels, codec, start_ts")
    assert sorted(problem["errors"]) == ["channels", "codec", "start_ts"]
    service.assert_nothing_left(recorder)


def test_nothing_of_what_was_sent_stands_in_the_answer(
    service: Service, recorder: Recorder
) -> None:
    response = service.upload(recorder, codec="<script>\x00", start_ts="<script>")
    assert "<script>" not in response.text


def test_it_refuses_an_empty_file(service: Service, recorder: Recorder) -> None:
    assert_problem(service.upload(recorder, b""), 422, "empty_file", "Empty file")
    service.assert_nothing_left(recorder)


def test_it_refuses_a_form_without_the_file(service: Service, recorder: Recorder) -> None:
    for files in ({"file": ("c.ogg", SPEECH)}, {"chunk_file": (None, "text, not a file")}):
        response = requests.post(
            f"{service.url}/api/v1/chunks",
            data=recorder.form(),
            files=files,
            headers=recorder.headers,
        )
        problem = assert_problem(response, 422, "validation_error", "chunk_file")
        assert list(problem["errors"]) == ["chunk_file"]
        [advice] = problem["errors"]["chunk_file"]
        assert ('filename="chunk.ogg"' in advice) == ("chunk_file" in files)
        service.assert_nothing_left(recorder)


def test_it_refuses_two_files(service: Service, recorder: Recorder) -> None:
    response = requests.post(
        f"{service.url}/api/v1/chunks",
        data=recorder.form(),
        files=[("chunk_file", ("1", SPEECH)), ("chunk_file", ("2", SPEECH))],
        headers=recorder.headers,
    )
    problem = assert_problem(response, 422, "validation_error", "chunk_file")
    assert list(problem["errors"]) == ["chunk_file"]
    service.assert_nothing_left(recorder)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/x-www-form-urlencoded", "text/plain", "", "multipart/mixed"],
)
def test_it_refuses_other_media_types(
    service: Service, recorder: Recorder, content_type: str
) -> None:
    response = requests.post(
        f"{service.url}/api/v1/chunks",
        data=b'{"point_id": "x"}',
        headers=recorder.headers | {"Content-Type": content_type},
    )
    assert_problem(response, 415, "unsupported_media_type", "multipart/form-data")
    service.assert_nothing_left(recorder)


def test_other_paths_and_methods_get_problems_too(service: Service, recorder: Recorder) -> None:
    assert_problem(requests.get(f"{service.url}/api/v1/nothing"), 404, "not_found")
    assert_problem(requests.post(f"{service.url}/api//v1/chunks"), 404, "not_found")
    response = requests.get(f"{service.url}/api/v1/chunks", headers=recorder.headers)
    assert_problem(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


def test_an_unforeseen_error_tells_the_client_nothing_but_the_log_all(start_service) -> None:
    service = start_service()
    recorder = service.recorder()
    with service.connect() as connection:
        connection.execute("ALTER TABLE audio_chunks DROP COLUMN codec")
    problem = assert_problem(service.upload(recorder), 500, "internal_error")
    assert "codec" not in str(problem)
    assert problem["retryable"] is True
    [line] = [line for line in service.log() if line["message"] == "internal_error"]
    assert line["request_id"] == problem["request_id"]
    assert "codec" in line["exc_info"]
    assert not service.temporary_files()
