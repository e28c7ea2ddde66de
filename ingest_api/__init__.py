"""The service that receives chunks of audio from recorders and never loses one.

An upload, from outside in:

    worker.py, patient_socket.py, request.py
                             bytes from the socket, bounded in time and memory
    multipart.py             the form, taken apart as it arrives
    blueprints/              the HTTP surface: decode, validate, store, respond
    auth.py, schemas/        who is asking; whether what they say has the right shape
    ingest.py, devices.py    the use cases, free of HTTP
    storage.py, folders.py   files: written, hashed, synced, named; the folders they are in
    steps.py                 what an upload passes through, by name
    queries/                 rows: one function a file of sql/queries
    database.py              connections, each use bounded in time
    errors.py, problems.py   all that can go wrong; how it is told
    models/, settings.py     the nouns; what can be set from outside

The workers' side:

    leases.py                chunks are claimed, held and given back
    downloads.py, file_response.py
                             their files are opened, and sent, whole or in part
    proxy.py                 what is believed of nginx, and what is left to it
    announcer.py, relay.py, stream.py
                             with Redis: announced by the upload, or later; what an entry says

The operators' side: cli.py and commands/ are `flask ingest`. What is stored is compared by fsck.py
and removed by retention.py, both with stored_files.py; backups/ keeps copies of it and brings them
back; requeue.py puts chunks into the queue again; doctor/ looks for what is easily got wrong.

Around it: app.py wires the parts together and services.py hands them to the views, migrations.py
keeps the schema, logs.py writes the log lines, tokens.py makes tokens, main.py starts gunicorn.

To read it, begin with blueprints/chunks.py and follow accept_chunk in ingest.py.
"""

from ingest_api.app import create_app

__all__ = ["create_app"]
