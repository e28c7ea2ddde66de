"""What the benchmarks share: `scripts/bench`, `scripts/bench-queue`.

    command.py    how they end: exit status, signals
    machine.py    the machine: what it is, packets as a network has them, processor time, memory
    programs.py   programs that a benchmark starts, and that do not outlive it
    client.py     a connection to the service's API
    nginx.py      an nginx of the benchmark's own
    svg.py        plots

What is measured is not known here.
"""
