"""A gunicorn worker as it would be if nobody had thought of fsync: see test_power_cut_device.py."""

import os

from ingest_api.server.gthread import UploadWorker


class CarelessWorker(UploadWorker):
    """Does nothing where the service syncs."""

    def init_process(self) -> None:
        os.fsync = lambda fd: None
        super().init_process()
