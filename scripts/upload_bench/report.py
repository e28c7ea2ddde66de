"""How the part `side-by-side` is told to people: a table, and a plot.

Reads what was found and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench_tools.machine import in_words
from bench_tools.svg import Bar, bars

LABELS = {
    "limit-4": "4 bare processes",
    "limit-8": "8 bare processes",
    "service": "the service",
    "nginx": "nginx, WebDAV PUT",
    "seaweedfs": "SeaweedFS, S3 PUT",
}
REMARKS = {
    "limit-4": "no HTTP; synced files, committed rows",
    "limit-8": "no HTTP; synced files, committed rows",
    "service": "synced files, committed rows",
    "nginx": "syncs nothing, writes no row",
    "seaweedfs": "syncs nothing, an entry of its filer instead of a row",
}
MISSING = {
    "nginx": "not installed, or without WebDAV: apt-get install nginx",
    "seaweedfs": "not installed: .venv/bin/pip install -e '.[bench]'",
}
WORDS = {True: "kept", False: "missed", None: "not measured"}
_HEAD = (
    f"  {'':18}{'uploads/s':>10}{'min..max':>13}{'p50 ms':>8}{'p99 ms':>8}{'errors':>7}"
    f"{'CPU ms':>8}{'PostgreSQL':>11}{'load':>7}{'peak MiB':>9}{'PSS MiB':>8}"
    f"{'of limit':>9}{'service is':>11}"
)


def tell(found: dict[str, Any]) -> Iterator[str]:
    """The circumstances, a line for each who took part, the targets."""
    yield f"side by side: {_circumstances(found)}"
    yield (
        f"  median of {found['rounds']} rounds of {found['seconds']:g} s, in turn. CPU: ms of"
        " processor time an upload, of the server's own processes, of PostgreSQL, of the load"
    )
    yield _HEAD
    for name, label in LABELS.items():
        figures = found["contenders"].get(name)
        yield _line(label, figures) if figures else f"  {label:18} {found['missing'][name]}"
    yield ""
    for name in found["contenders"]:
        yield f"  {LABELS[name]:18} {REMARKS[name]}"
    yield ""
    for target in found["targets"]:
        value = "-" if target["value"] is None else target["value"]
        yield f"  {target['what']:24}{value:>8}  {target['wanted']:8} {WORDS[target['kept']]}"
    for fault in found["faults"]:
        yield f"  not as it should be: {fault}"


def _line(label: str, figures: Mapping[str, Any]) -> str:
    cpu = figures["cpu_ms_per_upload"]
    spread = f"{min(figures['rounds']):.0f}..{max(figures['rounds']):.0f}"
    return (
        f"  {label:18}{figures['uploads_per_second']:>10.0f}{spread:>13}"
        f"{figures['p50_ms']:>8.1f}{figures['p99_ms']:>8.1f}{figures['errors']:>7}"
        f"{cpu['server']:>8.2f}{_ms(cpu, 'postgresql'):>11}{_ms(cpu, 'load'):>7}"
        f"{figures['peak_mib']:>9.0f}{figures['pss_mib']:>8.0f}"
        f"{figures['to_limit']:>9.2f}{figures['service_to_it']:>10.2f}x"
    )


def _ms(cpu: Mapping[str, float], who: str) -> str:
    return f"{cpu[who]:.2f}" if who in cpu else "-"


def _circumstances(found: Mapping[str, Any]) -> str:
    programs = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return (
        f"{found['devices']} devices, {found['connections']} connections, load by"
        f" {found['generator']}, MTU {found['mtu']}, {found['serving']} workers of gunicorn;"
        f" {programs}"
    )


def plot(found: dict[str, Any]) -> str:
    """Bars of uploads a second, as SVG."""
    rows = [
        Bar(
            label=LABELS[name],
            value=figures["uploads_per_second"],
            low=min(figures["rounds"]),
            high=max(figures["rounds"]),
            text=f"{figures['uploads_per_second']:.0f}/s, p99 {figures['p99_ms']:.1f} ms",
            remark=REMARKS[name],
            marked=name == "service",
        )
        for name, figures in found["contenders"].items()
    ]
    return bars("Uploads of 190 kB a second", in_words(found["machine"]), rows)
