"""The service's migrations and statements, as plain SQL, one file each; see README.md.

`migrations/NNNN_name.sql` change the schema. They are append-only: a file that has been applied
anywhere is never edited, because its SHA-256 is recorded. Each runs in one transaction, unless
its first line is `-- migrate: no transaction`; then it holds exactly one statement, which must be
repeatable (IF NOT EXISTS), because a crash before it is recorded makes it run again.

`queries/<noun>/<name>.sql` hold one statement each. The first line says what it is for. Values are
written `%(name)s`, a per cent sign `%%`. Columns are always named: a running service then goes on
when a newer version adds one. The function `<name>` in `ingest_api/database/queries/<noun>.py` is
its only caller.

This file makes the folder importable, so that the files travel inside the wheel.
"""
