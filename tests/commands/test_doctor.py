"""`flask ingest doctor`: each thing that operators get wrong is got wrong, and found."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
from lab.postgres import LocalPostgres
from support.commands import flask_ingest, flask_ingest_process
from support.databases import database_maker
from support.processes import eventually
from support.service import ADMIN_TOKEN, INTERNAL_TOKEN, clean_environ

from ingest_api.database import migrations

NO_DATABASE = "postgresql://nobody:secret-word@127.0.0.1:1/none"
SETTINGS = {
    "HOST": "127.0.0.1",
    "ADMIN_TOKEN": ADMIN_TOKEN,
    "INTERNAL_TOKEN": INTERNAL_TOKEN,
    "MIN_FREE_BYTES": "0",
    "WORKERS": "2",
    "THREADS": "8",
}
# What the machine that runs the tests decides; a container's disk, for example, is an overlay.
OF_THIS_MACHINE = {"storage file system", "storage space", "storage inodes", "storage fsync"}
OF_THIS_MACHINE |= {"clock NTP"}


@pytest.fixture(scope="module")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Of a server with PostgreSQL's own settings, which the doctor looks at."""
    with LocalPostgres(tmp_path_factory.mktemp("sound")) as server:
        yield database_maker(server)
        server.kill(signal.SIGQUIT)  # at once: nobody needs its last checkpoint


@dataclass
class Report:
    """What the doctor said, by name."""

    status: int
    checks: dict[str, dict[str, str]]

    def assert_finds(self, name: str, level: str, phrase: str, advice: str = "") -> str:
        """The finding is there as told; its advice."""
        found = self.checks[name]
        assert found["level"] == level, found
        assert phrase in found["message"]
        assert advice in found["advice"]
        assert bool(found["advice"]) is (level != "ok")
        assert self.status == int(any(check["level"] == "fail" for check in self.checks.values()))
        return found["advice"]


@dataclass
class Doctor:
    """The command, in a folder of its own and with a storage that is as it should be."""

    folder: Path
    storage: Path

    def run(self, url: str = NO_DATABASE, *arguments: str, **settings: str) -> Any:
        changed = SETTINGS | {"AUDIO_STORAGE_DIR": str(self.storage)} | settings
        result = flask_ingest(url, "doctor", *arguments, cwd=self.folder, **changed)
        assert "Traceback" not in result.stderr
        return result

    def report(self, url: str = NO_DATABASE, **settings: str) -> Report:
        result = self.run(url, "--json", **settings)
        return _report(result.returncode, result.stdout)


def _report(status: int, output: str) -> Report:
    document = json.loads(output)
    levels = [check["level"] for check in document["checks"]]
    assert document == {"checks": document["checks"]} | {
        level: levels.count(level) for level in ("ok", "warn", "fail")
    }
    assert all(
        list(check) == ["name", "level", "message", "advice"] for check in document["checks"]
    )
    return Report(status, {check["name"]: check for check in document["checks"]})


@pytest.fixture
def folder() -> Iterator[Path]:
    """On a disk, which /tmp need not be."""
    with TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


@pytest.fixture
def memory() -> Iterator[Path]:
    """Not on a disk, and so on another file system."""
    with TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def doctor(folder: Path, tmp_path: Path) -> Doctor:
    (folder / "storage").mkdir(mode=0o750)
    return Doctor(tmp_path, folder / "storage")


def _execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def _ordinary_role(url: str) -> tuple[str, str]:
    """A role like a service's, and the URL with which it reaches the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        role = f"role_of_{connection.info.dbname}"
        connection.execute(f"CREATE ROLE {role} LOGIN")
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    return role, url.replace("user=ingest", f"user={role}")


# The report


def test_where_all_is_well_it_says_so(doctor: Doctor, database_url: str) -> None:
    _, url = _ordinary_role(database_url)
    report = doctor.report(url)
    wrong = {name for name, check in report.checks.items() if check["level"] != "ok"}
    assert wrong <= OF_THIS_MACHINE
    assert report.status == 0
    assert list(report.checks)[:3] == ["settings", "ADMIN_TOKEN", "INTERNAL_TOKEN"]
    assert {
        *("NAIVE_TIMESTAMP_ZONE", "LD_PRELOAD", "open files", "AUDIO_STORAGE_DIR"),
        *("storage owner", "storage mode", "storage write", "storage fsync"),
        *("storage file system", "storage space", "database", "clock difference"),
        *("PostgreSQL version", "PostgreSQL fsync", "PostgreSQL full_page_writes"),
        *("PostgreSQL synchronous_commit", "PostgreSQL checksums", "PostgreSQL triggers"),
        "database writable",
        *("database role", "database connections", "database schema", "database indexes"),
        "database snapshots",
        "clock",
    } <= report.checks.keys()


def test_people_get_a_line_a_check_and_what_to_do(doctor: Doctor) -> None:
    result = doctor.run(ADMIN_TOKEN="short")
    *lines, last = result.stdout.splitlines()
    for line in lines:
        found = re.fullmatch(r"(ok  |warn|FAIL)  \S.{28}  \S.*?( -> \S.*)?", line)
        assert found, line
        assert (found[1] == "ok  ") is (found[2] is None), line
    assert [line.split()[1] for line in lines if line.startswith("FAIL")] == ["database"]
    assert "warn  ADMIN_TOKEN" in result.stdout
    assert re.fullmatch(r"\d+ ok, [1-9]\d* warn, 1 FAIL", last)
    assert (result.returncode, result.stderr) == (1, "")


def test_warnings_are_no_failure(doctor: Doctor, database_url: str) -> None:
    result = doctor.run(database_url, ADMIN_TOKEN="short")
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1].endswith(", 0 FAIL")


def test_wrong_usage_is_status_2(doctor: Doctor) -> None:
    assert doctor.run(NO_DATABASE, "--no-such-option").returncode == 2
    assert doctor.run(NO_DATABASE, "argument").returncode == 2
    assert doctor.run("nonsense", "--help").returncode == 0


# Settings


def test_each_faulty_setting_is_a_line_and_the_rest_is_still_checked(doctor: Doctor) -> None:
    report = doctor.report("mysql://host/name", PORT="99999", LOG_LEVEL="LOUD")
    for name in ("DATABASE_URL", "PORT", "LOG_LEVEL"):
        report.assert_finds(name, "fail", "must be", f"correct {name}")
    assert "settings" not in report.checks
    report.assert_finds("storage write", "ok", "")
    assert "clock" in report.checks


@pytest.mark.parametrize(
    ("name", "value", "unknown"),
    [
        ("AUDIO_STORAGE_DIR", "~no-such-user-here/audio", "storage write"),
        ("MIN_FREE_BYTES", "few", "storage space"),
        ("THREADS", "1", "open files"),
        ("WORKERS", "0", "database connections"),
        ("DATABASE_POOL_SIZE", "0", "database connections"),
        ("NAIVE_TIMESTAMP_ZONE", "Mars/Olympus", ""),
        ("INTERNAL_TOKEN", "with a space", ""),
        ("ADMIN_TOKEN_FILE", "/no/such/file", ""),
    ],
)
def test_what_hangs_on_a_faulty_setting_is_left_out(
    doctor: Doctor, database_url: str, name: str, value: str, unknown: str
) -> None:
    others = {"ADMIN_TOKEN": ""} if name == "ADMIN_TOKEN_FILE" else {}
    report = doctor.report(database_url, **others, **{name: value})
    fault = report.checks.pop(name.removesuffix("_FILE"))
    assert fault["level"] == "fail"
    assert unknown not in report.checks
    assert report.status == 1
    assert {check["level"] for check in report.checks.values()} <= {"ok", "warn"}
    assert report.checks["database schema"]["level"] == "ok"


@pytest.mark.parametrize(
    ("settings", "name", "level", "phrase"),
    [
        ({"ADMIN_TOKEN": "", "HOST": ""}, "ADMIN_TOKEN", "fail", "published default"),
        ({"ADMIN_TOKEN": "", "HOST": "192.0.2.1"}, "ADMIN_TOKEN", "fail", "192.0.2.1"),
        ({"ADMIN_TOKEN": ""}, "ADMIN_TOKEN", "warn", "published default"),
        ({"ADMIN_TOKEN": "x" * 15}, "ADMIN_TOKEN", "warn", "fewer than 16"),
        ({"ADMIN_TOKEN": "x" * 16}, "ADMIN_TOKEN", "ok", "long enough"),
        ({"INTERNAL_TOKEN": ""}, "INTERNAL_TOKEN", "ok", "answers 401"),
        ({"INTERNAL_TOKEN": "x" * 15}, "INTERNAL_TOKEN", "warn", "fewer than 16"),
        ({"INTERNAL_TOKEN": ADMIN_TOKEN}, "INTERNAL_TOKEN", "warn", "same as ADMIN_TOKEN"),
        ({"INTERNAL_TOKEN": "changeme-admin-token"}, "INTERNAL_TOKEN", "warn", "published"),
        ({}, "NAIVE_TIMESTAMP_ZONE", "ok", "get 422"),
        ({"NAIVE_TIMESTAMP_ZONE": "Europe/Berlin"}, "NAIVE_TIMESTAMP_ZONE", "ok", "Europe/Berlin"),
    ],
)
def test_tokens_are_judged(
    doctor: Doctor, settings: Mapping[str, str], name: str, level: str, phrase: str
) -> None:
    advice = f"set {name}" if level != "ok" else ""
    doctor.report(**settings).assert_finds(name, level, phrase, advice)


def test_no_secret_is_shown(doctor: Doctor) -> None:
    secrets = {"ADMIN_TOKEN": "a-secret-word", "INTERNAL_TOKEN": "secret-word"}
    for arguments in ([], ["--json"]):
        result = doctor.run(NO_DATABASE, *arguments, **secrets)
        assert "secret-word" not in result.stdout + result.stderr


def test_a_dotenv_file_is_for_its_owner_only(doctor: Doctor) -> None:
    assert ".env" not in doctor.report().checks
    file = doctor.folder / ".env"
    file.touch()
    for mode in (0o640, 0o604):
        file.chmod(mode)
        doctor.report().assert_finds(".env", "warn", f"mode {mode:o}", "chmod 600 .env")
    file.chmod(0o600)
    doctor.report().assert_finds(".env", "ok", "private")


# The process


def test_eatmydata_is_a_failure(doctor: Doctor) -> None:
    report = doctor.report(LD_PRELOAD="libeatmydata.so")
    report.assert_finds("LD_PRELOAD", "fail", "fsync does nothing", "unset LD_PRELOAD")


def test_too_few_descriptors_are_told(doctor: Doctor) -> None:
    limited = ["sh", "-c", 'ulimit -n 300 && exec "$0" "$@"']
    settings = SETTINGS | {"THREADS": "64"}
    result = flask_ingest_process(
        NO_DATABASE, "doctor", "--json", prefix=limited, cwd=doctor.folder, **settings
    )
    report = _report(result.returncode, result.stdout)
    report.assert_finds("open files", "warn", "300; THREADS=64 needs 356", "LimitNOFILE=65536")
    doctor.report().assert_finds("open files", "ok", "THREADS=8 needs 132")


# The storage


def test_the_trial_leaves_nothing_behind(doctor: Doctor) -> None:
    doctor.report().assert_finds("storage write", "ok", "")
    assert list(doctor.storage.iterdir()) == []
    (doctor.storage / ".incoming").mkdir()
    (doctor.storage / "audio").mkdir()
    (doctor.storage / "audio" / "chunk").touch()
    before = set(doctor.storage.rglob("*"))
    doctor.report().assert_finds("storage write", "ok", "")
    assert set(doctor.storage.rglob("*")) == before


@pytest.mark.parametrize(
    ("step", "signum"),
    [
        *(("opened", signal.SIGTERM), ("written", signal.SIGINT), ("folder_made", signal.SIGTERM)),
        *(("linked", signal.SIGINT), ("linked", signal.SIGTERM), ("cleaned", signal.SIGTERM)),
    ],
)
def test_nor_when_it_is_stopped_in_the_middle(
    doctor: Doctor, step: str, signum: signal.Signals
) -> None:
    stopped = (
        "import os, sys\n"
        "def listen(event, arguments):\n"
        f"    if (event, *arguments) == ('ingest_api.step', {step!r}):\n"
        f"        os.kill(os.getpid(), {signum.value})\n"
        "sys.addaudithook(listen)\n"
        "from flask.cli import main\n"
        "main()"
    )
    environ = SETTINGS | {"AUDIO_STORAGE_DIR": str(doctor.storage)}
    result = subprocess.run(
        [sys.executable, "-c", stopped, "ingest", "doctor"],
        env=clean_environ(DATABASE_URL=NO_DATABASE, **environ),
        cwd=doctor.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == (1 if signum == signal.SIGINT else -signum)
    assert "clock" not in result.stdout  # it was stopped
    assert list(doctor.storage.iterdir()) == []


def test_a_missing_folder_is_not_made(doctor: Doctor) -> None:
    doctor.storage.rmdir()
    report = doctor.report()
    report.assert_finds("AUDIO_STORAGE_DIR", "fail", "does not exist", "install -d -m 750")
    assert not doctor.storage.exists()
    assert "storage write" not in report.checks


def test_a_file_is_no_folder(doctor: Doctor, folder: Path) -> None:
    (folder / "file").touch()
    report = doctor.report(AUDIO_STORAGE_DIR=str(folder / "file"))
    report.assert_finds("AUDIO_STORAGE_DIR", "fail", "is not a folder", "correct AUDIO_STORAGE_DIR")
    report = doctor.report(AUDIO_STORAGE_DIR=str(folder / "file" / "storage"))
    report.assert_finds("AUDIO_STORAGE_DIR", "fail", "Not a directory", "correct AUDIO_STORAGE_DIR")


def test_a_folder_of_another_user_is_told(doctor: Doctor) -> None:
    theirs = Path("/")
    if os.geteuid() == 0:  # whose that is
        theirs = doctor.storage
        os.chown(theirs, 12345, -1)
    report = doctor.report(AUDIO_STORAGE_DIR=str(theirs))
    report.assert_finds("storage owner", "warn", "runs this", "as the service's user")
    assert report.checks["storage owner"]["advice"].endswith(f": {theirs}")


@pytest.mark.parametrize("mode", [0o755, 0o754, 0o752])
def test_a_folder_open_to_others_is_told(doctor: Doctor, mode: int) -> None:
    doctor.storage.chmod(mode)
    advice = f"chmod 750 {doctor.storage}"
    doctor.report().assert_finds("storage mode", "warn", f"is {mode:o}", advice)


@pytest.mark.parametrize("name", [".incoming", "audio"])
def test_two_file_systems_are_told(doctor: Doctor, memory: Path, name: str) -> None:
    (doctor.storage / name).symlink_to(memory)
    report = doctor.report()
    report.assert_finds("storage write", "fail", "different file systems", "plain folders")
    assert "storage fsync" not in report.checks
    assert list(memory.iterdir()) == []
    assert list(doctor.storage.iterdir()) == [doctor.storage / name]


def test_a_storage_that_cannot_be_written_is_told(doctor: Doctor) -> None:
    (doctor.storage / ".incoming").touch()
    doctor.report().assert_finds("storage write", "fail", "Not a directory", "repair")
    assert list(doctor.storage.iterdir()) == [doctor.storage / ".incoming"]


def test_memory_is_no_storage(doctor: Doctor, memory: Path) -> None:
    report = doctor.report(AUDIO_STORAGE_DIR=str(memory))
    report.assert_finds("storage file system", "fail", "is tmpfs, which is memory", "local disk")


def test_space_is_measured_against_the_reserve(doctor: Doctor) -> None:
    report = doctor.report(MIN_FREE_BYTES=str(2**60))
    report.assert_finds("storage space", "fail", "MIN_FREE_BYTES", "flask ingest prune")
    report.assert_finds("storage write", "ok", "")  # which is another question
    status = os.statvfs(doctor.storage)
    reserve = status.f_bavail * status.f_frsize * 3 // 4
    report = doctor.report(MIN_FREE_BYTES=str(reserve))
    report.assert_finds("storage space", "warn", "which is low", "enlarge the disk")


# The database


def test_without_a_database_the_rest_is_checked(doctor: Doctor) -> None:
    report = doctor.report(NO_DATABASE)
    report.assert_finds("database", "fail", "refused", "start PostgreSQL, or correct DATABASE_URL")
    report.assert_finds("storage write", "ok", "")
    assert "clock" in report.checks
    assert "database schema" not in report.checks


@pytest.mark.slow
def test_a_database_that_hangs_is_given_up(doctor: Doctor, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK schema_migrations")
        started = time.monotonic()
        report = doctor.report(database_url)
    assert time.monotonic() - started < 20
    report.assert_finds("database", "fail", "does not answer", "PostgreSQL's log")
    assert "database schema" not in report.checks
    assert report.checks["clock"]["level"] == "ok"


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPostgres]:
    """A server that forgets, and has few connections."""
    settings = {"fsync": "off", "synchronous_commit": "off", "max_connections": "20"}
    with LocalPostgres(tmp_path_factory.mktemp("careless"), settings=settings) as running:
        _execute(running.url(), "ALTER SYSTEM SET full_page_writes = off")
        _execute(running.url(), "SELECT pg_reload_conf()")
        with psycopg.connect(running.url(), autocommit=True) as connection:
            list(migrations.apply(connection))
            eventually(lambda: connection.execute("SHOW full_page_writes").fetchone() == ("off",))
        yield running


def test_a_server_that_forgets_is_a_failure(doctor: Doctor, careless: LocalPostgres) -> None:
    report = doctor.report(careless.url())
    line = "from the command line that starts PostgreSQL"
    report.assert_finds("PostgreSQL fsync", "fail", "is off", f"remove fsync {line}")
    report.assert_finds("PostgreSQL synchronous_commit", "ok", "is on")  # for the service
    cure = "ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf()"
    report.assert_finds("PostgreSQL full_page_writes", "fail", "is off", cure)


@pytest.mark.parametrize("where", ["ROLE {role}", "DATABASE {db}", "ROLE {role} IN DATABASE {db}"])
def test_a_setting_of_the_role_or_the_database_is_seen_and_the_advice_mends_it(
    doctor: Doctor, database_url: str, where: str
) -> None:
    role, url = _ordinary_role(database_url)
    place = where.format(role=role, db=role.removeprefix("role_of_"))
    _execute(database_url, f"ALTER {place} SET session_replication_role = replica")
    advice = doctor.report(url).assert_finds("PostgreSQL triggers", "fail", "is replica")
    _execute(database_url, advice)
    doctor.report(url).assert_finds("PostgreSQL triggers", "ok", "run")


def test_a_setting_in_the_url_is_seen(doctor: Doctor, database_url: str) -> None:
    url = f"{database_url}&options=-csession_replication_role%3Dreplica"
    doctor.report(url).assert_finds("PostgreSQL triggers", "fail", "replica", "from DATABASE_URL")


@pytest.mark.parametrize(
    ("value", "used"),
    [("off", "on"), ("local", "on"), ("remote_write", "on"), ("remote_apply", "remote_apply")],
)
def test_the_service_waits_for_the_disk_whatever_is_set(
    doctor: Doctor, database_url: str, value: str, used: str
) -> None:
    url = f"{database_url}&options=-csynchronous_commit%3D{value}"
    doctor.report(url).assert_finds("PostgreSQL synchronous_commit", "ok", f"is {used}")


@pytest.mark.parametrize(
    ("workers", "level", "phrase"),
    [("3", "ok", "= 12"), ("4", "warn", "leaves 1 for all others"), ("5", "fail", "get 503")],
)
def test_the_pools_must_fit_into_max_connections(
    doctor: Doctor, careless: LocalPostgres, workers: str, level: str, phrase: str
) -> None:
    report = doctor.report(careless.url(), WORKERS=workers)
    advice = "ALTER SYSTEM SET max_connections" if level != "ok" else ""
    report.assert_finds("database connections", level, phrase, advice)
    assert (
        "max_connections, less those reserved, allows 17"
        in (report.checks["database connections"]["message"])
    )


@pytest.mark.parametrize("where", ["ROLE {role}", "DATABASE {db}"])
@pytest.mark.parametrize(("limit", "level"), [(7, "fail"), (8, "warn"), (12, "warn"), (13, "ok")])
def test_the_pools_must_fit_into_the_limits_of_role_and_database(
    doctor: Doctor, database_url: str, where: str, limit: int, level: str
) -> None:
    role, url = _ordinary_role(database_url)
    place = where.format(role=role, db=role.removeprefix("role_of_"))
    _execute(database_url, f"ALTER {place} CONNECTION LIMIT {limit}")
    name, phrase = "database connections", f"'s CONNECTION LIMIT allows {limit}"
    advice = doctor.report(url).assert_finds(name, level, phrase)
    if advice:
        _execute(database_url, advice.partition(" or: ")[2])
        doctor.report(url).assert_finds(name, "ok", "CONNECTION LIMIT allows 18")


def test_a_read_only_database_is_a_failure(doctor: Doctor, database_url: str) -> None:
    database = database_url.partition("?")[0].rpartition("/")[2]
    _execute(database_url, f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    report = doctor.report(database_url)
    advice = report.assert_finds("database writable", "fail", "default_transaction_read_only")
    _execute(database_url, "SET default_transaction_read_only = off", advice)
    doctor.report(database_url).assert_finds("database writable", "ok", "yes")


def test_a_standby_is_a_failure(doctor: Doctor, tmp_path: Path) -> None:
    with LocalPostgres(tmp_path / "pg"):
        pass
    (tmp_path / "pg" / "postgres" / "standby.signal").touch()
    with LocalPostgres(tmp_path / "pg") as standby:
        report = doctor.report(standby.url())
    report.assert_finds("database writable", "fail", "this is a standby", "the primary server")


@pytest.mark.parametrize(
    ("statement", "phrase", "advice"),
    [
        ("DELETE FROM schema_migrations", "is behind", "run: flask ingest migrate"),
        (
            "INSERT INTO schema_migrations VALUES (9999, '9999_later', '')",
            "is ahead: it has 9999_later",
            "install the version that made it",
        ),
        ("UPDATE schema_migrations SET sha256 = ''", "was edited", "restore the file"),
        ("DROP TABLE schema_migrations", "is behind", "run: flask ingest migrate"),
    ],
)
def test_another_schema_is_a_failure(
    doctor: Doctor, database_url: str, statement: str, phrase: str, advice: str
) -> None:
    _execute(database_url, statement)
    doctor.report(database_url).assert_finds("database schema", "fail", phrase, advice)


def test_missing_rights_are_a_failure_and_end_no_other_check(
    doctor: Doctor, database_url: str
) -> None:
    role, url = _ordinary_role(database_url)
    _execute(database_url, f"REVOKE ALL ON schema_migrations FROM {role}")
    report = doctor.report(url)
    report.assert_finds("database schema", "fail", "permission denied", "GRANT")
    report.assert_finds("database indexes", "ok", "valid")


def test_an_invalid_index_is_told_and_the_advice_mends_it(
    doctor: Doctor, database_url: str
) -> None:
    for _ in range(2):
        flask_ingest(database_url, "add-device")
    with pytest.raises(psycopg.errors.UniqueViolation):
        _execute(database_url, 'CREATE UNIQUE INDEX CONCURRENTLY "ix Bad" ON devices (is_enabled)')
    report = doctor.report(database_url)
    advice = report.assert_finds("database indexes", "warn", '"ix Bad" is invalid')
    _execute(database_url, "DELETE FROM devices", advice)
    doctor.report(database_url).assert_finds("database indexes", "ok", "valid")


def test_a_worker_that_may_do_more_than_it_needs_is_told(doctor: Doctor, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE wide; GRANT SELECT, UPDATE ON audio_chunks TO wide")
        connection.execute("CREATE ROLE narrow; GRANT UPDATE (status) ON audio_chunks TO narrow")
    report = doctor.report(database_url)
    revoke = "REVOKE UPDATE ON audio_chunks FROM wide"
    report.assert_finds("database grants", "warn", "wide may UPDATE audio_chunks", revoke)


def test_an_old_snapshot_is_told(
    doctor: Doctor, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    doctor.report(database_url).assert_finds("database snapshots", "ok", "none")
    with psycopg.connect(database_url, application_name="report") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM devices")
        doctor.report(database_url).assert_finds("database snapshots", "ok", "none")
        monkeypatch.setattr("ingest_api.doctor.database.SNAPSHOT_AGE", timedelta(0))
        told = f"pid {connection.info.backend_pid} (report, role"
        doctor.report(database_url).assert_finds("database snapshots", "warn", told, "terminate")


def test_a_superuser_is_told(doctor: Doctor, database_url: str) -> None:
    report = doctor.report(database_url)
    report.assert_finds("database role", "warn", "ingest is a superuser", "ordinary role")


# The clock


def test_without_timedatectl_nothing_is_said_of_it(doctor: Doctor, tmp_path: Path) -> None:
    assert "clock NTP" not in doctor.report(PATH=str(tmp_path)).checks
    (tmp_path / "timedatectl").symlink_to("/bin/false")
    report = doctor.report(PATH=str(tmp_path))
    report.assert_finds("clock NTP", "ok", "not known")
