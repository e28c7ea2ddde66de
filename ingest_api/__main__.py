"""`python -m ingest_api`."""

from ingest_api.server.main import main

main()
