"""A real PostgreSQL, service and device for `serve`, the tests and the benchmarks."""
