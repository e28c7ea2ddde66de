"""Databases for tests: each is cloned from a template that was migrated once a server."""

from collections.abc import Callable
from itertools import count

import psycopg
from lab.postgres import LocalPostgres

from ingest_api.database import migrations

FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""For a server that nobody kills: to make a database then takes a fifth of the time."""

_numbers = count(1)


def database_maker(server: LocalPostgres) -> Callable[..., str]:
    """A function that makes a database, migrated or empty, and returns its URL."""
    _create(server, "migrated", "template1")
    with psycopg.connect(server.url("migrated"), autocommit=True) as connection:
        list(migrations.apply(connection))

    def make(*, migrated: bool = True) -> str:
        name = f"test_{next(_numbers)}"
        _create(server, name, "migrated" if migrated else "template0")
        return server.url(name)

    return make


def _create(server: LocalPostgres, name: str, template: str) -> None:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
