"""What deploy/install and the Dockerfile install: packages whose hashes are in the lock files."""

import base64
import configparser
import hashlib
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
EXTRAS = ("cors", "redis")
_ENTRY = re.compile(
    r"^([A-Za-z0-9._-]+)==(\S+)((?: ;.*?)?) \\\n((?:    --hash=.*\n)+)", re.MULTILINE
)
INSTALL_LOCKED = """
. "$0/lib/common.sh"; . "$0/lib/release.sh"
deploy=$2
install_locked "$1" requirements.lock
"""


def _locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Return the version and the hashes of each package of a lock file."""
    text = (DEPLOY / name).read_text()
    entries = {
        canonicalize_name(match[1]): (match[2], re.findall(r"--hash=(\S+)", match[4]))
        for match in _ENTRY.finditer(text)
    }
    assert len(entries) == len(re.findall(r"^[^ #\n]", text, re.MULTILINE))
    return entries


def _declared() -> Iterator[Requirement]:
    lines = SETUP["options"]["install_requires"].splitlines()
    for extra in EXTRAS:
        lines += SETUP["options.extras_require"][extra].splitlines()
    return (Requirement(line) for line in lines if line)


def _needed(requirement: Requirement) -> Iterator[Requirement]:
    """Yield what a requirement needs here, and what that needs, as the installed packages say."""
    yield requirement
    try:
        lines = requires(requirement.name) or []
    except PackageNotFoundError:  # then the lock has it, or the test fails
        return
    for needed in map(Requirement, lines):
        extras = requirement.extras or {""}
        if not needed.marker or any(needed.marker.evaluate({"extra": it}) for it in extras):
            yield from _needed(needed)


@pytest.mark.parametrize("requirement", list(_declared()), ids=str)
def test_what_setup_cfg_wants_is_locked_with_all_that_it_needs(requirement: Requirement) -> None:
    locked = _locked("requirements.lock")
    for needed in _needed(requirement):
        assert locked[canonicalize_name(needed.name)][0] in needed.specifier, needed


def test_the_build_backend_is_locked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    locked = _locked("build.lock")
    for requirement in map(Requirement, settings["build-system"]["requires"]):
        assert locked[canonicalize_name(requirement.name)][0] in requirement.specifier


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_every_package_has_hashes(name: str) -> None:
    for _, hashes in _locked(name).values():
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", it) for it in hashes)


def test_binary_packages_are_locked_for_all_machines_and_versions() -> None:
    """A wheel for each of x86-64 and ARM with Python 3.11 to 3.13, at the very least."""
    locked = _locked("requirements.lock")
    assert all(len(locked[name][1]) > 6 for name in ("psycopg-binary", "markupsafe"))


def test_each_installer_uses_the_lock_files_alone() -> None:
    for file in (DEPLOY / "Dockerfile", DEPLOY / "lib/release.sh"):
        commands = re.split(r"\n|&&", file.read_text().replace("\\\n", " "))
        installs = [
            line for line in commands if re.search(r"pip\S* .*\b(install|wheel)\b .*--", line)
        ]
        assert len(installs) >= 2
        for line in installs:
            assert "--require-hashes" in line or "--no-index" in line, line
            assert "--no-deps" in line


def _make_wheel(folder: Path) -> Path:
    """Make a package that is nowhere else, `locked-nothing`."""
    info, path = "locked_nothing-1.0.dist-info", folder / "locked_nothing-1.0-py3-none-any.whl"
    files = {
        "locked_nothing.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: locked-nothing\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        digests = {
            name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
            for name, text in files.items()
        }
        record = [f"{name},sha256={digest.rstrip('=')}," for name, digest in digests.items()]
        wheel.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))
    return path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    return folder


@pytest.mark.parametrize("right", [False, True])
def test_install_refuses_a_package_whose_hash_differs(
    tmp_path: Path, environment: Path, right: bool
) -> None:
    wheel = _make_wheel(tmp_path)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest() if right else "0" * 64
    (tmp_path / "requirements.lock").write_text(f"locked-nothing==1.0 --hash=sha256:{digest}\n")
    done = subprocess.run(
        ["bash", "-c", INSTALL_LOCKED, DEPLOY, environment, tmp_path],
        env={"PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    [site] = environment.glob(f"lib/python{sys.version_info[0]}*/site-packages")
    assert (done.returncode == 0) is right, done.stderr
    assert (site / "locked_nothing.py").exists() is right
    if not right:
        assert "DO NOT MATCH THE HASHES" in done.stderr
