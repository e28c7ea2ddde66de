"""Cross-origin requests: off by default, by flask-cors when wanted."""

import subprocess
import sys

import requests
from support.service import Service, clean_environ

ORIGIN = {"Origin": "https://shop.example"}
PREFLIGHT = ORIGIN | {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization",
}


def test_it_is_off_by_default(service: Service) -> None:
    response = requests.get(f"{service.url}/health/live", headers=ORIGIN)
    assert not [name for name in response.headers if name.startswith("Access-Control")]


def test_it_allows_the_named_origins_only(start_service) -> None:
    service = start_service(
        CORS_ENABLED="true", CORS_ORIGINS="https://shop.example, https://b.example"
    )
    for path in ("chunks", "admin/devices", "internal/chunks/x"):
        response = requests.options(f"{service.url}/api/v1/{path}", headers=PREFLIGHT)
        assert response.status_code == 200
        assert response.headers["Access-Control-Allow-Origin"] == "https://shop.example"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert "authorization" in response.headers["Access-Control-Allow-Headers"]
    # An error must be readable by the page as well.
    response = requests.post(f"{service.url}/api/v1/chunks", headers=ORIGIN)
    assert response.status_code == 401
    assert response.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert response.headers["Access-Control-Expose-Headers"] == "Link, X-Request-ID"
    other = requests.get(f"{service.url}/health/live", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in other.headers


def test_without_the_library_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['flask_cors'] = None\n"
        "sys.argv = ['ingest-api']\n"
        "from ingest_api.server.main import main\n"
        "main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environ(CORS_ENABLED="true", HOST="127.0.0.1", AUDIO_STORAGE_DIR="/dev/null/x"),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "pip install 'ingest-api[cors]'" in result.stderr
    assert "Traceback" not in result.stderr
