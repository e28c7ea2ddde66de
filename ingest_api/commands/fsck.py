"""`flask ingest fsck`."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from time import monotonic

import click

from ingest_api.commands.context import CouldNotRun, maintenance, opened, require_schema
from ingest_api.commands.output import progress_bar
from ingest_api.commands.parameters import DurationParameter, as_json_option
from ingest_api.database import queries
from ingest_api.display import printable
from ingest_api.settings import Settings
from ingest_api.usecases.adoption import Adoption
from ingest_api.usecases.fsck import Check, Discrepancy, Kind
from ingest_api.usecases.strays import Strays

_UPLOAD_SLACK_SECONDS = 60


@dataclass
class _Tally:
    """The numbers of rows and files checked, and of findings, so far."""

    rows: int = 0
    files: int = 0
    found: Counter[str] = field(default_factory=Counter)
    repaired: int = 0
    young: int = 0  # files without a row, but within --grace


@click.command()
@click.option(
    "--repair", is_flag=True, help="Repair what is safe to repair; no recording is deleted."
)
@click.option("--adopt", is_flag=True, help="Write the rows of files that prove whose they are.")
@click.option("--checksums", is_flag=True, help="Read every file and compare its SHA-256.")
@click.option(
    "--grace",
    type=DurationParameter(),
    default="1h",
    show_default=True,
    help="Ignore younger files without a row: their uploads may be in flight.",
)
@click.option("--force", is_flag=True, help="Proceed even if very many files are missing.")
@as_json_option
def fsck(
    repair: bool, adopt: bool, checksums: bool, grace: timedelta, force: bool, as_json: bool
) -> None:
    """Compare the rows with the files, both ways.

    \b
    Finds:
    missing_file     a row whose file is gone
    wrong_size       a file whose size differs from its row
    wrong_checksum   a file whose content differs (with --checksums)
    unreadable       a file that the disk cannot read
    foreign_path     a row whose path is not one for its own file
    file_returned    a row marked as failed whose file is there again
    stray_file       a file without a row
    stale_temporary  a temporary file of a process that died

    --repair marks rows whose file is gone as ERROR, or puts the file back if it was set aside;
    restores the status of rows whose file has returned; corrects foreign paths; moves stray files
    into .lost+found in AUDIO_STORAGE_DIR; and removes stale temporary files. It deletes nothing
    else and leaves damaged files alone. The service may keep running.

    --adopt is for the time after a restore of an older database. It writes the row of each stray
    file, also in .lost+found, whose name fits its content and a registered device. The chunk then
    waits for a worker. Its end is that of the audio.

    Exit status 0: clean; 1: something was found, even if it was repaired or adopted; 2: could not
    run. --json prints one line per finding, then one with a summary.
    """
    started = monotonic()
    tally = _Tally()
    with opened(CouldNotRun) as (components, connection):
        settings = components.settings
        require_schema(components, connection)
        _require_patience(grace, settings)
        files, waiting = components.storage, settings.waiting_status
        adoption = Adoption(connection, files, waiting_status=waiting) if adopt else None
        with maintenance(components, connection, exclusive=repair or adopt, force=force):
            rows = Check(connection, files, waiting, checksums, repair, force)
            strays = Strays(connection, files, grace.total_seconds(), repair, adoption)
            estimate = queries.files.estimate_chunks(connection)
            for finding in _findings(rows, strays, tally, estimate):
                tally.found[finding.kind.value] += 1
                tally.repaired += finding.repaired
                _show(finding, as_json)
        queries.maintenance.record_run(connection, "fsck")
    tally.young = len(strays.young)
    _summarize(tally, monotonic() - started, as_json)
    if tally.found:
        raise click.exceptions.Exit(1)


def _require_patience(grace: timedelta, settings: Settings) -> None:
    least = settings.request_deadline_seconds + _UPLOAD_SLACK_SECONDS
    if grace.total_seconds() < least:
        raise CouldNotRun(
            f"--grace must be at least {least}s: an upload may take REQUEST_DEADLINE_SECONDS"
        )


def _findings(check: Check, strays: Strays, tally: _Tally, estimate: int) -> Iterator[Discrepancy]:
    with progress_bar(estimate, "rows ") as advance:

        def rows_done(number: int) -> None:
            tally.rows += number
            advance(number)

        yield from check.rows(rows_done)
    with progress_bar(max(estimate, tally.rows), "files") as advance:

        def files_done(number: int) -> None:
            tally.files += number
            advance(number)

        yield from strays.stray_files(files_done)
    yield from strays.lost_files()
    yield from strays.temporary_files()


def _show(finding: Discrepancy, as_json: bool) -> None:
    path = printable(finding.file_path)
    if as_json:
        click.echo(json.dumps(asdict(finding) | {"file_path": path}, default=str))
        return
    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)  # the bar is redrawn below this line
    click.echo(f"{finding.kind:15}  {path}  {printable(finding.detail)}")


def _summarize(tally: _Tally, seconds: float, as_json: bool) -> None:
    if as_json:
        counts = {kind.value: tally.found[kind.value] for kind in Kind} | {"young": tally.young}
        totals = {"rows": tally.rows, "files": tally.files, "seconds": round(seconds, 1)}
        click.echo(json.dumps({"summary": totals | counts | {"repaired": tally.repaired}}))
        return
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(tally.found.items()))
    verdict = f"{kinds}; {tally.repaired} repaired" if tally.found else "clean"
    click.echo(f"{tally.rows} rows and {tally.files} files in {seconds:.1f} s: {verdict}")
    if tally.young:
        click.echo(
            f"No row, but younger than --grace: {tally.young}. Their uploads may be in flight; run "
            "this again later."
        )
