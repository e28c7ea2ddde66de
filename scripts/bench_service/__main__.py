"""The command `scripts/bench`: its options and its exit status.

Exit status 0: as promised. 1: not as promised. 2: it could not run.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import click
import psycopg
from lab.postgres import PostgresError
from lab.service import SiteError

from bench_service import claim, download, fill, ledger, maintenance, paced, upload
from bench_service.load import require_wrk
from bench_service.machine import describe, in_words, loopback_mtu

KEPT, BROKEN, NOT_RUN = range(3)
_NOT_MEASURABLE = (SiteError, PostgresError, psycopg.Error, HTTPException, OSError)
_COUNT = click.IntRange(min=1)
_ABOVE_ZERO = click.FloatRange(min=0, min_open=True)


def _rounds(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a measurement in rounds."""
    add = click.option
    command = add("--connections", type=_COUNT, default=16)(command)
    command = add("--seconds", type=_COUNT, default=5, help="Length of a round of each.")(command)
    text = "Rounds, of which the median counts."
    return add("--rounds", type=_COUNT, default=5, help=text)(command)


class Options:
    """What holds for every subcommand."""

    def __init__(self, folder: Path, *, as_json: bool) -> None:
        self._folder = folder
        self._as_json = as_json
        self.kept = True

    def measure(self, module: ModuleType, **plan: Any) -> None:
        """Run a benchmark in a throw-away folder and print what it found."""
        with (
            loopback_mtu(),
            tempfile.TemporaryDirectory(prefix="bench-", dir=self._folder) as folder,
        ):
            machine = describe(Path(folder))
            found: dict[str, Any] = module.run(Path(folder), **plan)
        self.kept = found["kept"]
        if self._as_json:
            print(json.dumps({"machine": machine} | found))
        else:
            verdict = "AS PROMISED" if self.kept else "NOT AS PROMISED"
            print(in_words(machine), *module.tell(found), verdict, sep="\n")


@click.group(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=tempfile.gettempdir(),
    help="Where there is room, on the disk to be measured.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def bench(context: click.Context, folder: Path, as_json: bool) -> None:
    """Measure the service on this machine, in throw-away folders.

    As root, the loopback device gets the MTU of a network meanwhile.

    Exit status 0: as promised. 1: not as promised. 2: it could not run.
    """
    context.obj = Options(folder, as_json=as_json)


@bench.command("upload")
@_rounds
@click.option(
    "--beside",
    multiple=True,
    metavar="seaweedfs|CHECKOUT",
    help="Another one to measure; a checkout of another version needs its .venv.",
)
@click.pass_obj
def upload_command(options: Options, /, **plan: Any) -> None:
    """Compare uploads with the bare durable limit and others, in turn."""
    require_wrk()
    options.measure(upload, **plan)


@bench.command("paced")
@click.option("--devices", type=_COUNT, default=10_000, help="Devices, each with a connection.")
@click.option("--minutes", type=_ABOVE_ZERO, default=5.0)
@click.pass_obj
def paced_command(options: Options, /, **plan: Any) -> None:
    """Upload a chunk a minute from each device, timed from when it was due."""
    require_wrk()
    options.measure(paced, **plan)


@bench.command("claim")
@click.option("--rows", type=click.IntRange(min=20_000), default=1_000_000, help="In the table.")
@click.option("--claims", type=_COUNT, default=200, help="Claims to measure, each way.")
@click.pass_obj
def claim_command(options: Options, /, **plan: Any) -> None:
    """Time claims from a large table, by way of its indexes."""
    options.measure(claim, **plan)


@bench.command("download")
@_rounds
@click.pass_obj
def download_command(options: Options, /, **plan: Any) -> None:
    """Download recordings by the internal API."""
    require_wrk()
    options.measure(download, **plan)


@bench.command("maintenance")
@click.option("--rows", type=_COUNT, default=1_000_000, help="Rows and sparse files.")
@click.option("--rounds", type=_COUNT, default=5, help="Rounds, of which the median counts.")
@click.option("--seconds", type=_COUNT, default=15, help="Length of a round.")
@click.option("--rate", type=_ABOVE_ZERO, default=40.0, help="Uploads a second beside prune.")
@click.pass_obj
def maintenance_command(options: Options, /, **plan: Any) -> None:
    """Time fsck and prune on a large table, and uploads beside prune."""
    require_wrk()
    options.measure(maintenance, **plan)


@bench.command("ledger")
@click.option("--rows", type=_COUNT, default=10_000_000, help="Chunks in the table.")
@click.option("--devices", type=_COUNT, default=10_000)
@click.option("--days", type=_COUNT, default=90, help="Days of recorded hours of each device.")
@click.pass_obj
def ledger_command(options: Options, /, **plan: Any) -> None:
    """Time questions to the ledger on a large table, and a whole export."""
    options.measure(ledger, **plan)


@bench.command("fill")
@click.option("--rows", type=_COUNT, default=1_000_000)
@click.option("--devices", type=_COUNT, default=1_000)
@click.option("--database", metavar="URL", help="An empty database.  [default: a throw-away one]")
@click.pass_obj
def fill_command(options: Options, /, **plan: Any) -> None:
    """Fill a table as years of uploads would, without files."""
    options.measure(fill, **plan)


def main() -> int:
    """Run the command; return the exit status."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _interrupt)
    try:
        with bench.make_context("bench", sys.argv[1:]) as context:
            bench.invoke(context)
            return KEPT if context.obj.kept else BROKEN
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    except _NOT_MEASURABLE as error:
        print(f"the benchmark could not run: {error}", file=sys.stderr)
    return NOT_RUN


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    """End with clean-up, which a second signal does not cut off.

    Python drops an exception raised in a hook of a fork. Then none is in flight, and the next
    signal raises it again.
    """
    if sys.exc_info()[0] is None:
        raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
