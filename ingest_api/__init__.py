"""The service that receives chunks of audio from recorders and never loses one.

An upload, from outside in:

    worker.py, patient_socket.py, request.py
                             bytes from the socket, bounded in time and memory
    blueprints/              the HTTP surface: decode, validate, store, respond
    auth.py, schemas/        who is asking; whether what they say has the right shape
    ingest.py, devices.py    the use cases, free of HTTP
    storage.py, steps.py     files: written, hashed, synced, named; each step by name
    queries/                 rows: one function a file of sql/queries
    database.py              connections, each use bounded in time
    announcer.py, stream.py  where Redis is used: in which stream a chunk is announced, and how
    errors.py, problems.py   all that can go wrong; how it is told
    models/, settings.py     the nouns; what can be set from outside

Around it: app.py wires the parts together and services.py hands them to the views, migrations.py
keeps the schema, cli.py and commands/ are `flask ingest`, logs.py writes the log lines, tokens.py
makes tokens, main.py starts gunicorn. What is stored is compared by fsck.py and removed by
retention.py, both with stored_files.py; relay.py announces what its upload could not; requeue.py
puts chunks into the queue again, operations.py has the nouns for that; doctor/ looks for what
operators get wrong.

To read it, begin with blueprints/chunks.py and follow accept_chunk in ingest.py.
"""

from ingest_api.app import create_app

__all__ = ["create_app"]
