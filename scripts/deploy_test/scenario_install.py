"""A bare Debian becomes a machine that serves, and to install once more harms nothing."""

from __future__ import annotations

from difflib import unified_diff

from deploy_test.lab import Lab
from deploy_test.report import require
from deploy_test.site import HOST, HTTP_PORT, SOURCE, Site

# Packages, people, units, and every file with its mode, owner, size and time, but for what changes
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


def install(lab: Lab) -> None:
    """dry run, install, install again, the certificate and the redirect"""
    site = lab.fresh_site()
    _dry_run(lab, site)
    with lab.report.step("install: on a bare Debian 12") as step:
        done = site.install("--with-redis")
        site.let_root_look()
        health = site.ask("/health")
        require(health.status == 200, f"/health says {health.status} {health.body!r}")
        failed = site.machine.shell("systemctl --failed --no-legend --plain")
        require(not failed, f"units have failed: {failed}")
        step.saw(f"exit 0, https://localhost/health 200, version {site.release()}")
        lab.report.say(done.stdout)
    with lab.report.step("install: http is sent on to https") as step:
        answer = site.ask("/health", address=(HOST, HTTP_PORT))
        location = answer.headers.get("location", "")
        require(answer.status == 308, f"http://localhost/health says {answer.status}")
        require(location.startswith("https://"), f"sends on to {location}")
        step.saw(f"308 to {location}")
    _again(lab, site)


def _dry_run(lab: Lab, site: Site) -> None:
    with lab.report.step("install: --dry-run changes nothing") as step:
        before = site.machine.shell(_SNAPSHOT)
        told = site.install("--with-redis", "--dry-run").stdout
        _require_same(before, site.machine.shell(_SNAPSHOT))
        step.saw(f"{told.count('would ')} lines of what it would do, nothing done")


def _again(lab: Lab, site: Site) -> None:
    with lab.report.step("install: again, with nothing new, changes nothing") as step:
        before, since = site.machine.shell(_SNAPSHOT), site.serving_since()
        site.install("--with-redis")
        _require_same(before, site.machine.shell(_SNAPSHOT))
        require(site.serving_since() == since, "the service was restarted")
        site.machine.run(f"{SOURCE}/deploy/install", "--server-name", "localhost")
        require(site.serving_since() == since, "without the options the service was restarted")
        _require_same(before, site.machine.shell(_SNAPSHOT))
        step.saw("no file changed, no restart; nor without the options of the first time")


def _require_same(before: str, after: str) -> None:
    changes = [
        line
        for line in unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
        if not line.startswith(("---", "+++", "@@"))
    ]
    require(not changes, f"{len(changes)} changes: {'; '.join(changes[:12])}")
