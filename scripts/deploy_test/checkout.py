"""What is installed: this checkout as it is now, newer versions of it, and broken ones.

How they are installed does not belong here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Harmless, and still one that an older version does not know.
_MIGRATION = "-- Nothing that anybody needs.\nCREATE TABLE {name} (nothing integer);\n"


def copy_checkout(target: Path) -> None:
    """All that git knows, as it is now, and what is new and not ignored; readable for all."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():  # one may be deleted and not yet committed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def set_version(checkout: Path, version: str) -> None:
    _edit(checkout / "setup.cfg", r"(?m)^version = .*$", f"version = {version}")


def add_migration(checkout: Path, name: str, statement: str = "") -> None:
    """The next one in number; without a statement a harmless one."""
    folder = checkout / "sql" / "migrations"
    number = max(int(path.name[:4]) for path in folder.glob("*.sql")) + 1
    text = statement or _MIGRATION.format(name=name)
    (folder / f"{number:04}_{name}.sql").write_text(text)


@dataclass(frozen=True)
class Broken:
    """A version that must not be let in, and a word of what install has to say about it."""

    name: str
    spoil: Callable[[Path], None]
    must_say: str  # a regular expression; nothing that install says of itself
    migrates: bool = False  # before it fails, so that the old version finds a schema that is ahead


def _cannot_import(checkout: Path) -> None:
    _prepend(checkout / "ingest_api" / "worker.py", "import a_module_that_is_nowhere\n")


def _cannot_migrate(checkout: Path) -> None:
    add_migration(checkout, "cannot_work", "-- Cannot work.\nSELECT 1 / 0;\n")


def _refuses_settings(checkout: Path) -> None:
    settings = checkout / "ingest_api" / "settings.py"
    _edit(settings, r"\n    faults = \[\]\n", '\n    faults = ["REGION: must be set"]\n')


def _is_never_healthy(checkout: Path) -> None:
    add_migration(checkout, "of_a_version_that_failed")
    health = checkout / "ingest_api" / "blueprints" / "health.py"
    _edit(health, r"healthy = db and storage_writable", "healthy = False")


def _dies_under_systemd(checkout: Path) -> None:
    """Where it is tried before, no unit starts it."""
    add_migration(checkout, "of_a_version_that_failed")
    dies = 'if os.environ.get("LISTEN_FDS"):\n    sys.exit("it dies under systemd")\n'
    with (checkout / "deploy" / "gunicorn.conf.py").open("a") as file:
        file.write(f"\n{dies}")


BROKEN = (
    Broken("an import error at its start", _cannot_import, "a_module_that_is_nowhere"),
    Broken("a migration that fails", _cannot_migrate, "division by zero"),
    Broken("a setting that it refuses", _refuses_settings, "REGION"),
    Broken("a /health that is never green", _is_never_healthy, '"degraded"', migrates=True),
    Broken(
        "a death under its unit only", _dies_under_systemd, "it dies under systemd", migrates=True
    ),
)


def _edit(file: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, lambda _match: replacement, file.read_text())
    if count != 1:
        raise ValueError(f"{file}: {pattern} is there {count} times, and should be once")
    file.write_text(text)


def _prepend(file: Path, text: str) -> None:
    file.write_text(text + file.read_text())
