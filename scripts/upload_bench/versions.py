"""The versions of the programs that take part."""

from __future__ import annotations

import subprocess

from bench_tools.nginx import find_nginx
from lab.service import Site

from upload_bench.seaweedfs import find_weed


def versions(site: Site) -> dict[str, str]:
    """By name; without those that are not installed."""
    with site.connect() as connection:
        row = connection.execute("SHOW server_version").fetchone() or ("?",)
    found = {"PostgreSQL": str(row[0]).split()[0]}
    if nginx := find_nginx():
        found["nginx"] = _said(nginx, "-v").rpartition("/")[2].split()[0]
    if weed := find_weed():
        found["seaweedfs"] = _said(weed, "version").split()[2]
    return found


def _said(*command: str) -> str:
    """nginx says it on stderr."""
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return found.stdout or found.stderr
