"""The commands of `flask ingest`, a module a noun. What they do is done by the use cases."""
