"""Stores recordings. Knows no rows, no HTTP and no use case."""
