"""`/api/v1/admin`, one module per noun: a URL leads to its file."""
