"""Measures the workers' side of the service: see `scripts/bench-queue`.

    command.py    the command: arguments, parts, exit status
    claim.py      what a claim costs on a large table
    workers.py    a fleet of workers, some of which are killed; worker.py is one of them, verdict.py
                  whether each chunk was done once
    download.py   what a download costs, beside nginx; load.py asks for the files
    uploads.py    recorders that upload beforehand and beside
    report.py     what was found, in words

What it shares with the upload benchmark is in `bench_tools`.
"""
