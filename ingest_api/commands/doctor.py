"""`flask ingest doctor`."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

import click

from ingest_api.commands.parameters import as_json_option
from ingest_api.doctor import diagnose
from ingest_api.doctor.findings import Finding, Level


@click.command()
@as_json_option
def doctor(as_json: bool) -> None:
    """Check for common mistakes and say how to correct them.

    Run it as the service's user and with its settings. It changes nothing: its trial file is
    removed again. Exit status 1 if any check FAILs; warnings do not count.
    """
    findings = diagnose(os.environ)
    levels = _show_as_json(findings) if as_json else _show(findings)
    if levels[Level.FAIL]:
        raise click.exceptions.Exit(1)


def _show(findings: Iterator[Finding]) -> Counter[Level]:
    levels: Counter[Level] = Counter()
    for finding in findings:
        levels[finding.level] += 1
        label = "FAIL" if finding.level is Level.FAIL else finding.level.value
        advice = f" -> {finding.advice}" if finding.advice else ""
        click.echo(f"{label:4}  {finding.name:29}  {finding.message}{advice}")
    click.echo(f"{levels[Level.OK]} ok, {levels[Level.WARN]} warn, {levels[Level.FAIL]} FAIL")
    return levels


def _show_as_json(findings: Iterator[Finding]) -> Counter[Level]:
    checks = list(findings)
    levels = Counter(finding.level for finding in checks)
    counts = {level.value: levels[level] for level in Level}
    click.echo(json.dumps({"checks": [asdict(finding) for finding in checks]} | counts))
    return levels
