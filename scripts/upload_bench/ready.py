"""A site answers as soon as its first worker does. What is measured of all of them has to wait for
the others, who would still be starting meanwhile."""

from __future__ import annotations

import time

from local_site import Site


def wait_until_ready(site: Site, workers: int) -> None:
    """Return once all of gunicorn's workers have said in their log that they are."""
    log = site.folder / "service.log"
    while log.read_text().count('"Worker ready') < workers:
        site.require_running()
        time.sleep(0.05)
