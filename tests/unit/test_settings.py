"""Settings: defaults, faults that stop the process with a sentence, secrets from files."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.service import clean_environ

from ingest_api.settings import Settings, SettingsError, is_loopback

SECRET = "s3cr3t-w0rd"


def _start(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ingest_api"],
        env=clean_environ(**settings),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_the_defaults_are_the_specifications() -> None:
    settings = Settings.from_environ({})
    assert settings.database_url == "postgresql://ingest:ingest@localhost:5432/ingest"
    assert settings.redis_url == "redis://localhost:6379/0"
    assert str(settings.audio_storage_dir) == "/var/lib/ingest_api/audio"
    assert settings.max_upload_size_bytes == 10485760
    assert settings.admin_token == "changeme-admin-token"
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)
    assert (settings.log_level, settings.cors_enabled) == ("INFO", False)
    assert (settings.internal_token, settings.naive_timestamp_zone) == ("", None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "99999"),
        ("PORT", "0"),
        ("PORT", "http"),
        ("PORT", "8000 8001"),
        ("MAX_UPLOAD_SIZE_BYTES", "-1"),
        ("MAX_UPLOAD_SIZE_BYTES", "10MB"),
        ("MAX_UPLOAD_SIZE_BYTES", "1e7"),
        ("MAX_UPLOAD_SIZE_BYTES", "9" * 5000),
        ("MIN_FREE_BYTES", "-5"),
        ("LOG_LEVEL", "LOUD"),
        ("NAIVE_TIMESTAMP_ZONE", "Mars/Olympus"),
        ("NAIVE_TIMESTAMP_ZONE", "../../etc/passwd"),
        ("NAIVE_TIMESTAMP_ZONE", "+03:00"),
        ("CORS_ENABLED", "maybe"),
        ("DATABASE_URL", "localhost"),
        ("DATABASE_URL", "mysql://a:b@c/d"),
        ("DATABASE_URL", "postgresql://a:b@c:99999/d"),
        ("DATABASE_URL", "postgresql://a:b@c:port/d"),
        ("DATABASE_URL", "postgresql://a:b@c/d?no_such_option=1"),
        ("REDIS_URL", "localhost:6379"),
        ("HOST", "not a host"),
        ("HOST", "unix:socket"),
        ("HOST", "fe80::zz"),
        ("AUDIO_STORAGE_DIR", "~no-such-user-here/audio"),
        ("CORS_ORIGINS", "*,["),
        ("CORS_ORIGINS", "shop.example"),
        ("ADMIN_TOKEN", "with a space"),
        ("INTERNAL_TOKEN", "ünïcode"),
        ("WORKERS", "0"),
        ("THREADS", "many"),
        ("DATABASE_POOL_SIZE", "0"),
        ("REQUEST_STALL_SECONDS", "0"),
        ("REQUEST_DEADLINE_SECONDS", "1.5"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({name: value})
    assert caught.value.faults.keys() == {name}
    assert "\n" not in str(caught.value.faults[name])


def test_all_faults_are_told_at_once_and_stop_the_process(tmp_path: Path) -> None:
    result = _start(
        tmp_path,
        PORT="99999",
        LOG_LEVEL="LOUD",
        DATABASE_URL=f"postgresql://user:{SECRET}@host:0/x",
        ADMIN_TOKEN=f"{SECRET} {SECRET}",
    )
    assert result.returncode == 1
    faults = [line.split(":")[0] for line in result.stderr.splitlines()[1:]]
    assert sorted(faults) == ["ADMIN_TOKEN", "DATABASE_URL", "LOG_LEVEL", "PORT"]
    assert SECRET not in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("host", [None, "::", "192.0.2.1", "example.org"])
def test_the_published_admin_token_is_refused_beyond_loopback(host: str | None) -> None:
    with pytest.raises(SettingsError, match="ADMIN_TOKEN: the published default"):
        Settings.from_environ({"HOST": host} if host else {}, serving=True)


def test_it_is_refused_by_the_process_beside_other_faults(tmp_path: Path) -> None:
    result = _start(tmp_path, PORT="0")
    assert result.returncode == 1
    assert [line.split(":")[0] for line in result.stderr.splitlines()[1:]] == [
        "PORT",
        "ADMIN_TOKEN",
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_loopback_the_published_admin_token_may_be_used(host: str) -> None:
    Settings.from_environ({"HOST": host}, serving=True)
    assert is_loopback(host)


@pytest.mark.parametrize("driver", ["", "+asyncpg", "+psycopg", "+psycopg2"])
@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_driver_suffixes_are_dropped(scheme: str, driver: str) -> None:
    url = f"{scheme}{driver}://u:p@h:5433/d"
    settings = Settings.from_environ({"DATABASE_URL": url})
    assert settings.database_url == "postgresql://u:p@h:5433/d"


def test_several_hosts_and_sockets_are_good_urls() -> None:
    for url in ("postgresql://a:1,b:2/d", "postgresql:///d?host=/run/postgresql"):
        assert Settings.from_environ({"DATABASE_URL": url}).database_url == url


def test_secrets_may_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    (tmp_path / "url").write_text("postgresql+asyncpg://u:p@h/d\n")
    settings = Settings.from_environ(
        {
            "ADMIN_TOKEN_FILE": str(tmp_path / "token"),
            "INTERNAL_TOKEN_FILE": str(tmp_path / "token"),
            "DATABASE_URL_FILE": str(tmp_path / "url"),
        }
    )
    assert settings.admin_token == settings.internal_token == SECRET
    assert settings.database_url == "postgresql://u:p@h/d"


def test_a_secret_file_that_cannot_be_read_or_is_one_too_many_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ADMIN_TOKEN: the file that ADMIN_TOKEN_FILE names"):
        Settings.from_environ({"ADMIN_TOKEN_FILE": str(tmp_path / "missing")})
    (tmp_path / "token").write_text(SECRET)
    with pytest.raises(SettingsError, match="is set twice") as caught:
        Settings.from_environ(
            {"ADMIN_TOKEN_FILE": str(tmp_path / "token"), "ADMIN_TOKEN": "another"}
        )
    assert SECRET not in str(caught.value)
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SettingsError, match=r"DATABASE_URL: the file .* is empty"):
        Settings.from_environ({"DATABASE_URL_FILE": str(tmp_path / "empty")})


def test_settings_do_not_show_secrets() -> None:
    settings = Settings.from_environ(
        {
            "ADMIN_TOKEN": SECRET,
            "INTERNAL_TOKEN": SECRET,
            "DATABASE_URL": f"postgresql://u:{SECRET}@h/d",
            "REDIS_URL": f"redis://:{SECRET}@h",
        }
    )
    assert SECRET not in repr(settings)


def test_an_empty_value_means_the_default() -> None:
    assert Settings.from_environ({"PORT": "", "ADMIN_TOKEN": " "}) == Settings.from_environ({})


def test_a_dotenv_file_in_the_current_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=nonsense\nHOST=127.0.0.1\n")
    result = _start(tmp_path)
    assert result.returncode == 1
    assert "PORT: must be a whole number from 1 to 65535" in result.stderr


def test_a_dotenv_file_of_another_encoding_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"ADMIN_TOKEN=\xff\xfe\n")
    result = _start(tmp_path)
    assert result.returncode == 1
    assert ".env: is not UTF-8 text" in result.stderr
    assert "Traceback" not in result.stderr


def test_gunicorn_started_directly_refuses_bad_settings_too(tmp_path: Path) -> None:
    config = Path(__file__).parents[2] / "deploy" / "gunicorn.conf.py"
    result = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", str(config)],
        env=clean_environ(PORT="x", HOST="127.0.0.1"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert result.returncode == 1
    assert "PORT: must be a whole number" in result.stderr
    assert "Traceback" not in result.stderr
