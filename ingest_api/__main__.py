"""`python -m ingest_api`."""

from ingest_api.main import main

main()
