"""The scripts in deploy/, as far as they go without a machine of their own: their options, the
functions they share, and what deploy/restore does when something fails. The rest is done by
`tests/deploy/machines/`.
"""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPTS = ["backup", "install", "restore", "uninstall"]
SHELL_FILES = [*(DEPLOY / name for name in SCRIPTS), *sorted((DEPLOY / "lib").glob("*.sh"))]
NOT_ROOT = ("unshare", "--user", "--map-user=1000", "--map-group=1000")


def _bash(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("path", SHELL_FILES, ids=lambda path: path.name)
def test_every_script_is_bash(path: Path) -> None:
    read = _bash('bash -n "$0"', str(path))
    assert (read.returncode, read.stderr) == (0, "")


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_tells_its_usage_to_anybody(name: str) -> None:
    told = _bash('"$0" --help', str(DEPLOY / name))
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(f"Usage: sudo deploy/{name}")


@pytest.mark.parametrize("name", ["install", "restore", "uninstall"])  # backup hands them on
def test_every_script_refuses_an_option_that_is_not_there(name: str) -> None:
    refused = _bash('"$0" --nothing', str(DEPLOY / name))
    assert refused.returncode == 2
    assert refused.stderr == f"{name}: unknown option --nothing (see --help)\n"


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_does_anything_for_others_than_root(name: str) -> None:
    prefix = NOT_ROOT if os.geteuid() == 0 else ()
    arguments = ["/tmp/none/20260128T013000Z"] if name in ("backup", "restore") else []
    command = [*prefix, str(DEPLOY / name), *arguments]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 1
    assert f"{name}: must be run as root" in refused.stderr


COMMON = '. "$0/lib/common.sh"; me=$(id -un):$(id -gn); '


def _common(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _bash(COMMON + script, str(DEPLOY), *arguments)


def test_put_writes_the_file_with_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "file"
    put = _common('put "$1" 0640 "$me" <<< "a \\$b"; echo "wrote=$wrote"', str(file))
    assert put.stdout == f"wrote {file}\nwrote=yes\n"
    assert file.read_text() == "a $b\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    again = _common('put "$1" 0640 "$me" <<< "a \\$b"; echo "wrote=$wrote"', str(file))
    assert again.stdout == "wrote=\n"


@pytest.mark.parametrize("errors", ["set -e", "set +e"])
def test_put_on_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, errors: str) -> None:
    file = tmp_path / "file"
    file.write_text("ADMIN_TOKEN=old\n")
    # No file may grow: a write fails as on a full disk, and a rename would not.
    script = '; trap \'\' XFSZ; ulimit -f 0; put "$1" 0640 "$me" < <(echo ADMIN_TOKEN=new)'
    put = _common(errors + script, str(file))
    assert put.returncode == 1
    assert f"{file} could not be written" in put.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_text() == "ADMIN_TOKEN=old\n"


def test_setting_is_the_last_value_as_systemd_has_it(tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_text("RETENTION=90d\n#RETENTION=1d\nRETENTION_X=2d\nRETENTION=30d\nURL=a=b c\n")
    read = _common("settings_file=$1; setting RETENTION; setting URL; setting X; echo .", str(file))
    assert read.stdout == "30d\na=b c\n.\n"
    missing = _common("set -e; settings_file=$1.none; setting RETENTION; echo .", str(file))
    assert (missing.stdout, missing.stderr) == (".\n", "")


# The functions of deploy/install, with the settings file $1; then $2 is run.
INSTALL = """
. <(sed '$d' "$0" | sed '/^trap/d; s,^deploy=.*,deploy='"${0%/*}"',')
settings_file=$1
eval "$2"
"""
PLANTED = [
    "SERVER_NAME=x,g;e touch {mark}",
    "SERVER_NAME=x;}} server {{ root /",
    "SERVER_NAME=$(touch {mark})",
    "MAX_UPLOAD_SIZE_BYTES=a[$(touch {mark})]",
    "MAX_UPLOAD_SIZE_BYTES=1;",
    "AUDIO_STORAGE_DIR=/var/lib/ingest_api/x,g;e touch {mark}",
    "AUDIO_STORAGE_DIR=/var/lib/ingest_api/../../etc",
    "AUDIO_STORAGE_DIR=/etc",
    "BACKUP_DIR=/srv/x /etc",
    "BACKUP_DIR=%t",
    "RETENTION=1d --force",
]


def _install(settings: Path, script: str) -> subprocess.CompletedProcess[str]:
    return _bash(INSTALL, str(DEPLOY / "install"), str(settings), script)


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_setting_runs_nothing(tmp_path: Path, planted: str) -> None:
    """Whoever planted the file must not become root by `deploy/install`."""
    settings = tmp_path / "settings"
    settings.write_text(f"DATABASE_URL=x\n{planted.format(mark=tmp_path / 'mark')}\n")
    ran = _install(settings, "check_arguments; site_text")
    assert [path.name for path in tmp_path.iterdir()] == ["settings"]  # no mark
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"{settings}: {planted.partition('=')[0]} must " in ran.stderr


def test_the_site_has_the_values_of_the_settings(tmp_path: Path) -> None:
    settings = tmp_path / "settings"
    lines = [
        "SERVER_NAME=a-1.example",
        "MAX_UPLOAD_SIZE_BYTES=1000",
        "AUDIO_STORAGE_DIR=/var/lib/x&y",
    ]
    settings.write_text("\n".join(lines))
    site = _install(settings, "server_name=$(setting SERVER_NAME); site_text").stdout
    assert site.count("server_name a-1.example;") == 2
    assert "client_max_body_size 2098152;" in site
    assert "alias /var/lib/x&y/;" in site
    assert not re.search("@[A-Z_]+@", site)


def test_no_secret_is_an_argument_of_a_program(tmp_path: Path) -> None:
    """Every user sees the arguments of all programs: here each program reports its own."""
    settings = tmp_path / "settings"
    settings.write_text("ADMIN_TOKEN=hidden-1\nDATABASE_URL=old\nREDIS_URL=old\n")
    programs = ("grep", "sed", "tail", "cat", "tr", "awk", "cut", "sort")
    report = f'echo "$0" "$@" >> {tmp_path}/ran'
    shells = "; ".join(
        f'{it}() {{ bash -c \'{report}\' {it} "$@"; command {it} "$@"; }}' for it in programs
    )
    given = "postgres='' with_redis=yes redis_url=redis://:hidden-2@h DATABASE_URL=postgresql://i:hidden-3@h"
    ran = _install(settings, f"{shells}; {given}; require_plain_settings; wanted_settings")
    assert ran.returncode == 0, ran.stderr
    assert "DATABASE_URL=postgresql://i:hidden-3@h\n" in ran.stdout
    assert "REDIS_URL=redis://:hidden-2@h\n" in ran.stdout
    assert ran.stdout.count("_URL=") == 2
    reported = (tmp_path / "ran").read_text()
    assert "grep" in reported
    assert "hidden" not in reported


# deploy/restore without its last line, and with these instead of what it needs a machine for. `ask`
# answers from the files `exists`, `tables` and `rows` of the folder $1; without one it fails.
RESTORE = """
. <(sed '$d' "$0")
told=$1
require_root() { :; }
require_alone() { :; }
require_backup() { :; }
read_database_url() { name=ingest is_local=yes owner=ingest; }
as_postgres() { echo "$*" >> "$told/run"; [ "$1" != "$fails" ]; }
ask() {
  case $1 in
    ALTER*) echo "$1" >> "$told/run"; [ "$fails" != rename ] ;;
    *starts_with*) ;;
    *pg_database*) cat "$told/exists" ;;
    *string_agg*) cat "$told/tables" ;;
    *) cat "$told/rows" ;;
  esac 2>/dev/null
}
stop() { echo stop >> "$told/run"; }
start() { echo start >> "$told/run"; }
settings_file=$1/settings.env
put() { cat > "$1"; }
fails=$2
shift 2
now=NOW
"""
MAIN = """
main --yes "$told" "$@"
"""


def _restore(
    folder: Path, *arguments: str, fails: str = "createdb", **answers: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """It fails in the end anyhow, when it makes the new database: there is no machine."""
    folder.joinpath("backup.json").write_text("{}\n")
    for name, answer in answers.items():
        folder.joinpath(name).write_text(answer + "\n" * bool(answer))
    ran = _bash(RESTORE + MAIN, str(DEPLOY / "restore"), str(folder), fails, *arguments)
    assert ran.returncode == 1, ran.stderr
    log = folder / "run"
    return ran, log.read_text().splitlines() if log.exists() else []


ALL_AS_IT_WAS = "Not restored. The database and the settings are as they were."
ASIDE = 'ALTER DATABASE "ingest" RENAME TO "ingest_before_NOW"'
BACK = 'ALTER DATABASE "ingest_before_NOW" RENAME TO "ingest"'
CREATEDB = "createdb --owner=ingest --template=template0 --encoding=UTF8 --locale=C.UTF-8 ingest"


def test_restore_touches_nothing_while_postgresql_does_not_answer(tmp_path: Path) -> None:
    for arguments in ((), ("--replace",)):
        ran, did = _restore(tmp_path, *arguments)
        assert "PostgreSQL does not answer" in ran.stderr
        assert did == []


@pytest.mark.parametrize("rows", [{}, {"rows": ""}, {"rows": "x"}])
def test_restore_replaces_what_it_cannot_look_into_only_when_told(
    tmp_path: Path, rows: dict[str, str]
) -> None:
    known = {"exists": "1", "tables": "EXISTS (SELECT FROM public.devices)"} | rows
    ran, did = _restore(tmp_path, **known)
    assert "cannot read the database ingest; --replace keeps it under another name" in ran.stderr
    assert did == []
    _, did = _restore(tmp_path, "--replace", **known)
    assert did == ["stop", ASIDE, CREATEDB, BACK, "start"]


def test_restore_refuses_a_database_that_has_rows(tmp_path: Path) -> None:
    ran, did = _restore(tmp_path, exists="1", tables="EXISTS (...)", rows="t")
    assert "the database ingest is not empty; --replace" in ran.stderr
    assert did == []


def test_restore_drops_no_database_that_it_did_not_make(tmp_path: Path) -> None:
    known = {"exists": "1", "tables": "false", "rows": "f"}
    ran, did = _restore(tmp_path, **known)
    assert did == ["stop", ASIDE, CREATEDB, BACK, "start"]
    assert ALL_AS_IT_WAS in ran.stderr


def test_restore_says_so_when_a_database_cannot_be_put_aside(tmp_path: Path) -> None:
    ran, did = _restore(tmp_path, fails="rename", exists="1", tables="false", rows="f")
    assert did == ["stop", ASIDE, "start"]
    assert "is in use" in ran.stderr
    assert ALL_AS_IT_WAS in ran.stderr


@pytest.mark.parametrize(("rows", "dropped"), [("t", False), ("", False), ("f", True)])
def test_restore_drops_what_it_put_aside_only_when_that_is_empty(
    tmp_path: Path, rows: str, dropped: bool
) -> None:
    (tmp_path / "tables").write_text("false\n")
    (tmp_path / "rows").write_text(rows)
    script = RESTORE + "read_database_url; set_aside=ingest_before_NOW; drop_if_empty"
    script += "; tell_what_is_kept"
    ran = _bash(script, str(DEPLOY / "restore"), str(tmp_path), "nothing")
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "run").exists() == dropped
    assert ("The previous database is kept" in ran.stdout) != dropped


def test_restore_says_where_the_database_is_that_it_could_not_put_back(tmp_path: Path) -> None:
    script = RESTORE + "read_database_url; made=yes; set_aside=ingest_before_NOW; undo 130"
    ran = _bash(script, str(DEPLOY / "restore"), str(tmp_path), "rename")
    assert ran.returncode == 130
    assert (tmp_path / "run").read_text().splitlines() == ["dropdb --force ingest", BACK, "start"]
    assert "not everything could be put back" in ran.stderr
    assert "ingest_before_NOW" in ran.stderr


def test_restore_puts_the_settings_back(tmp_path: Path) -> None:
    backup, settings = tmp_path / "settings.env", tmp_path / "machine.env"
    backup.write_text("ADMIN_TOKEN=new\n")
    settings.write_text("ADMIN_TOKEN=old\n")
    settings.chmod(0o640)
    script = (RESTORE + MAIN).replace(
        "settings_file=$1/settings.env", "settings_file=$1/machine.env"
    )
    (tmp_path / "exists").write_text("")
    (tmp_path / "backup.json").write_text("{}\n")
    ran = _bash(script, str(DEPLOY / "restore"), str(tmp_path), "createdb", "--with-settings")
    assert ran.returncode == 1
    assert ALL_AS_IT_WAS in ran.stderr
    assert settings.read_text() == "ADMIN_TOKEN=old\n"
    assert stat.S_IMODE(settings.stat().st_mode) == 0o640
    assert not list(tmp_path.glob("machine.env.*"))
