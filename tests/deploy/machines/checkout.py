"""What is installed: this checkout as it is now, the version before it, and broken versions."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BEFORE_RELEASES = "64ba560"
"""The last commit before the modules were moved into folders; older than every release."""
# Harmless, and still a migration that an older version does not know.
_MIGRATION = "-- Nothing that anybody needs.\nCREATE TABLE {name} (nothing integer);\n"


def copy_checkout(target: Path) -> None:
    """Copy what git tracks, as it is now, and what is new and not ignored."""
    for name in _git("ls-files", "-z", "-co", "--exclude-standard").decode().split("\0"):
        if name and (ROOT / name).is_file():  # one may be deleted and not yet committed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def copy_version_before(target: Path) -> str:
    """Copy the version that operators upgrade from, and return its revision.

    That is UPGRADE_FROM, else the newest tag before this commit, else `BEFORE_RELEASES`.
    """
    revision = os.environ.get("UPGRADE_FROM") or _newest_tag() or BEFORE_RELEASES
    target.mkdir(parents=True)
    archive = _git("archive", revision)
    subprocess.run(["tar", "-x", "-C", target], input=archive, check=True)
    return revision


def _newest_tag() -> str:
    try:
        return _git("describe", "--tags", "--abbrev=0", "HEAD^").decode().strip()
    except subprocess.CalledProcessError:
        return ""


def _git(*arguments: str) -> bytes:
    safe = ["git", "-c", f"safe.directory={ROOT}"]
    return subprocess.run([*safe, *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def set_version(checkout: Path, version: str) -> None:
    """Give the checkout this version."""
    _edit(checkout / "setup.cfg", r"(?m)^version = .*$", f"version = {version}")


def add_migration(checkout: Path, name: str, statement: str = "") -> None:
    """Add the next migration; without a statement, a harmless one."""
    folder = checkout / "sql" / "migrations"
    number = max(int(path.name[:4]) for path in folder.glob("*.sql")) + 1
    (folder / f"{number:04}_{name}.sql").write_text(statement or _MIGRATION.format(name=name))


@dataclass(frozen=True)
class Broken:
    """A version that must not be let in."""

    spoil: Callable[[Path], None]
    must_say: str  # a regular expression; nothing that install says by itself
    migrates: bool = False  # before it fails: then the old version finds a newer schema


def _cannot_import(checkout: Path) -> None:
    module = checkout / "ingest_api" / "server" / "gthread.py"
    module.write_text(f"import a_module_that_is_nowhere\n{module.read_text()}")


def _cannot_migrate(checkout: Path) -> None:
    add_migration(checkout, "cannot_work", "-- Cannot work.\nSELECT 1 / 0;\n")


def _refuses_settings(checkout: Path) -> None:
    """Add a setting whose default is refused."""
    metadata = '{"default": "nowhere", "parse": int, "secret": False}'
    region = f'    region: int = __import__("dataclasses").field(metadata={metadata})\n'
    last = "    cors_origins: "
    _edit(checkout / "ingest_api" / "settings.py", rf"(?m)^{last}", f"{region}{last}")


def _is_never_healthy(checkout: Path) -> None:
    health = checkout / "ingest_api" / "web" / "blueprints" / "health.py"
    _edit(health, r"(?m)^    healthy = .*$", "    healthy = False")


def die_under_systemd(checkout: Path) -> None:
    """Die only after the switch: no unit starts the trial before it."""
    dies = 'if os.environ.get("LISTEN_FDS"):\n    sys.exit("it dies under systemd")\n'
    with (checkout / "deploy" / "gunicorn.conf.py").open("a") as file:
        file.write(f"\n{dies}")


BROKEN = {
    "import error": Broken(_cannot_import, "a_module_that_is_nowhere"),
    "failing migration": Broken(_cannot_migrate, "division by zero"),
    "refused setting": Broken(_refuses_settings, "REGION"),
    "never healthy": Broken(_is_never_healthy, '"degraded"', migrates=True),
    "dies under systemd": Broken(die_under_systemd, "it dies under systemd", migrates=True),
}


def _edit(file: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, lambda _match: replacement, file.read_text())
    assert count == 1, f"{file}: {pattern} is there {count} times"
    file.write_text(text)
