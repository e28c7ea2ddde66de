"""Real servers and a real device for `serve`, the tests and the benchmarks."""
