"""Every statement the service sends, as plain SQL, one file each.

`migrations/NNNN_name.sql` change the schema. They are append-only: a file that has been applied
anywhere is never edited, because its SHA-256 is recorded. Each runs in one transaction, unless
its first line is `-- migrate: no transaction`; then it holds exactly one statement, which must be
repeatable (IF NOT EXISTS), because a crash before it is recorded makes it run again.

`queries/<name>.sql` hold one statement each. The first line says what it is for, parameters are
written `%(name)s`, columns are always named. The function of the same name in
`ingest_api/database/queries/` is its only caller.

This file makes the folder importable, so that the files travel inside the wheel.
"""
