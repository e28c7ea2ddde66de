"""A complete small worker, to be copied."""
