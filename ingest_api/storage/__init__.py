"""Where recordings are kept. Knows no rows, no HTTP and no use case."""
