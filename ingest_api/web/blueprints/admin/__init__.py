"""`/api/v1/admin`, one module a noun: a URL leads to its file."""
