"""The command `scripts/test-deploy`, as far as it goes without root. The rest of it takes a machine
of its own: see README.md."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMAND = ROOT / "scripts" / "test-deploy"


def _run(*arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, str(COMMAND), *arguments], capture_output=True, text=True, check=False
    )


def test_it_tells_its_scenarios_to_anybody() -> None:
    listed = _run("--list")
    assert listed.returncode == 0
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert names[0] == "install"
    assert {"upgrade", "reboot", "faults", "backup", "uninstall"} <= set(names)


def test_it_refuses_a_scenario_that_is_not_there() -> None:
    refused = _run("--only", "nothing")
    assert refused.returncode == 2
    assert "nothing" in refused.stderr


def test_it_refuses_to_run_without_root() -> None:
    # Another user, who yet may read the checkout.
    not_root = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    prefix = not_root if os.geteuid() == 0 else ()
    refused = _run(prefix=prefix)
    assert refused.returncode == 2
    assert "root" in refused.stderr
