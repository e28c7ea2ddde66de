"""Commands whose output nobody takes: one sentence, and a status that means nothing else."""

import os
import subprocess
from collections.abc import Iterator

import pytest
from support.commands import COMMAND
from support.service import Service, clean_environ

pytestmark = pytest.mark.slow

CLEAN = ("fsck",)
COMMANDS = [CLEAN, ("fsck", "--help"), ("list-devices", "--json")]


@pytest.fixture(params=["closed by its reader", "full"])
def output(request: pytest.FixtureRequest) -> Iterator[tuple[int, str]]:
    """A descriptor that takes nothing, and what is said of it."""
    if request.param == "full":
        output, reason = os.open("/dev/full", os.O_WRONLY), "No space left on device"
    else:
        reading, output = os.pipe()
        os.close(reading)
        reason = request.param
    yield output, reason
    os.close(output)


def _run(service: Service, arguments: tuple[str, ...], **streams: int) -> tuple[int, str]:
    environ = clean_environ(
        DATABASE_URL=service.database_url, AUDIO_STORAGE_DIR=str(service.storage)
    )
    done = subprocess.run(
        [*COMMAND, *arguments], env=environ, text=True, timeout=60,
        **({"stderr": subprocess.PIPE} | streams),
    )  # fmt: skip
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_an_output_that_takes_nothing_is_no_finding(
    emptied: Service, arguments: tuple[str, ...], output: tuple[int, str]
) -> None:
    status, said = _run(emptied, arguments, stdout=output[0])
    assert (status, len(said.splitlines())) == (3, 1)
    assert said.startswith("Error: Standard output ") and output[1] in said


def test_notices_that_nobody_takes_stop_nothing(emptied: Service, output: tuple[int, str]) -> None:
    fails = ("prune", "--older-than", "never")
    assert _run(emptied, fails, stdout=subprocess.DEVNULL, stderr=output[0])[0] == 2
    assert _run(emptied, CLEAN, stdout=subprocess.DEVNULL, stderr=output[0])[0] == 0
