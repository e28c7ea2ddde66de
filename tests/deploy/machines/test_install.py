"""A bare Debian becomes a machine that serves; installing again changes nothing; uninstalling."""

from difflib import unified_diff

from machines.site import BACKUPS, HTTP, SOURCE, Site

# Packages, users, units, and every file with its mode, owner, size and time; without what changes
# by itself.
_SNAPSHOT = """\
dpkg-query --show
getent passwd; getent group
systemctl list-unit-files --no-pager --plain --no-legend
find /etc /opt /usr /root /srv /var -xdev \\( -path /var/log -o -path /var/lib/systemd \
  -o -path /var/tmp -o -path /var/cache/apt/archives -o -path /var/cache/pip \
  -o -path /var/lib/postgresql -o -path /var/lib/redis -o -path /var/lib/ingest_api \\) -prune \
  -o -printf '%p %M %u:%g %s %T@\\n' | sort
"""
_LEFT = (
    "cd /; ls -d opt/ingest-api etc/systemd/system/ingest-* etc/systemd/system/*/ingest-api*"
    " etc/nginx/sites-*/ingest-api* usr/local/bin/ingest 2>/dev/null || true"
)
_DATABASES = "cd / && runuser -u postgres -- psql -Atc 'SELECT datname FROM pg_database'"


def _changes(before: str, after: str) -> list[str]:
    lines = unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def test_a_dry_run_changes_nothing(bare: Site) -> None:
    before = bare.machine.shell(_SNAPSHOT)
    told = bare.install("--with-redis", "--dry-run").stdout
    assert told.count("would ") > 20
    assert _changes(before, bare.machine.shell(_SNAPSHOT)) == []


def test_install_ends_with_a_healthy_service(bare: Site) -> None:
    bare.install("--with-redis")
    assert bare.ask("/health").status == 200
    assert bare.machine.shell("systemctl --failed --no-legend --plain") == ""


def test_http_is_redirected_to_https(site: Site) -> None:
    answer = site.ask("/health", address=HTTP)
    assert answer.status == 308
    assert answer.headers["location"].startswith("https://")


def test_installing_again_changes_nothing(site: Site) -> None:
    started = "systemctl show ingest-api -p MainPID -p ExecMainStartTimestamp"
    before, since = site.machine.shell(_SNAPSHOT), site.machine.shell(started)
    site.install("--with-redis")
    site.machine.run(f"{SOURCE}/deploy/install", "--server-name", "localhost")
    assert _changes(before, site.machine.shell(_SNAPSHOT)) == []
    assert site.machine.shell(started) == since


def _assert_gone(site: Site) -> None:
    assert site.machine.shell(_LEFT) == ""
    known = site.machine.shell("systemctl list-units --no-legend --plain --all 'ingest-*'")
    # For a while systemd may remember names of units that have no file any more.
    running = [line for line in known.splitlines() if "not-found" not in line.split()]
    assert running == []
    assert not site.is_healthy()


def test_uninstall_keeps_the_data_and_install_finds_it_again(site: Site) -> None:
    site.upload()
    site.machine.run(f"{SOURCE}/deploy/uninstall")
    _assert_gone(site)
    site.install("--with-redis")
    site.assert_nothing_lost()
    site.upload()


def test_uninstall_with_purge_data_removes_it(site: Site) -> None:
    site.machine.run(f"{SOURCE}/deploy/uninstall", "--purge-data", "--yes")
    _assert_gone(site)
    assert "ingest" not in site.machine.shell(_DATABASES).split()
    assert not site.outside("/var/lib/ingest_api").exists()
    assert not site.outside("/etc/ingest-api").exists()
    assert (
        site.machine.shell("getent passwd ingest; getent group ingest ingest-audio", check=False)
        == ""
    )
    assert site.outside(BACKUPS).is_dir()
