"""A complete small worker, made to be copied: this folder is all that it needs.

    pip install -r example_worker/requirements.txt
    INTERNAL_TOKEN=... python -m example_worker --url https://ingest.example

    worker.py     the processing, and what becomes of each chunk: replace `measure`
    sources.py    where chunks come from: the queue over HTTP, or the stream in Redis
    opus.py       how long a recording is, for `measure`
    api.py        the client of the internal API

The folder may have any name. A worker needs the service's URL and a token, and nothing else of it.
"""
