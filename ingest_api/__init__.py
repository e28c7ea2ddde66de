"""The service that receives chunks of audio from a fleet of devices and never loses one.

Four floors. Each imports only from the floors below it; import-linter checks this (pyproject.toml).

    web/, commands/          faces: decode, call one use case, show the result
    usecases/                the use cases: no HTTP, no terminal
      backups/, doctor/      two large subjects on the same floor
    database/, storage/,     resources: the outside world, each behind a small interface
      stream/
    models/, schemas/, and   ground: nouns and rules, no I/O
      errors, settings, ...

Beside them: components.py builds resources and use cases from the settings, app.py adds the HTTP
face, and server/ is gunicorn's side: processes and sockets.

Start reading at web/blueprints/chunks.py and follow an upload into usecases/uploads.py,
storage/disk/storage.py and database/queries/chunks.py. ingest_api/README.md has the whole walk.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["create_app"]


def create_app(*args: Any, **kwargs: Any) -> "Flask":
    """Return the WSGI application; see `ingest_api.app.create_app`.

    Imports Flask only when called, so that importing `ingest_api.settings` stays cheap.
    """
    from ingest_api.app import create_app as create  # noqa: PLC0415

    return create(*args, **kwargs)
