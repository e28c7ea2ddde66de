"""The wheel carries all that is needed, and runs from anywhere."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import requests
from lab.service import free_port
from support.processes import eventually
from support.service import clean_environ

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, checkout = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("checkout")
    files = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(files, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    build = [sys.executable, "-m", "build", "--outdir", str(folder)]
    subprocess.run(build, cwd=checkout, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


def test_it_contains_every_sql_file_and_gunicorns_configuration(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"ingest_api/{path.relative_to(ROOT)}" for path in ROOT.glob("sql/**/*.sql")}
    assert {name for name in names if name.endswith(".sql")} == expected
    assert {"ingest_api/deploy/gunicorn.conf.py", "ingest_api/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests", "scripts"))]


def test_it_migrates_and_serves_away_from_the_checkout(
    wheel: Path, tmp_path: Path, new_database
) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    port = free_port()
    environ = clean_environ(
        PYTHONPATH=str(site),
        DATABASE_URL=new_database(migrated=False),
        AUDIO_STORAGE_DIR=str(tmp_path / "audio"),
        HOST="127.0.0.1",
        PORT=str(port),
        WORKERS="1",
        MIN_FREE_BYTES="0",
    )
    where = [sys.executable, "-c", "import ingest_api; print(ingest_api.__file__)"]
    found = subprocess.run(where, env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout.startswith(str(site))
    migrate = [sys.executable, "-m", "flask", "ingest", "migrate"]
    subprocess.run(migrate, env=environ, cwd=tmp_path, check=True)
    serve = [sys.executable, "-m", "ingest_api.server.main"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(serve, env=environ, cwd=tmp_path, stdout=log, stderr=log)
    try:

        def is_healthy() -> bool:
            try:
                return requests.get(f"http://127.0.0.1:{port}/health").ok
            except requests.ConnectionError:
                return False

        eventually(is_healthy)
    finally:
        process.terminate()
        assert process.wait(20) == 0
