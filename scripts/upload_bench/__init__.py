"""Measures the upload: see `scripts/bench`.

    command.py        the command: arguments, parts, exit status

    side_by_side.py   one of the parts: those who take part, in turn
      contender.py    what each of them has to be able to do
      limit.py        bare processes under the same promise; bare.py is one of them
      service.py      the service; rows.py counts what it has recorded
      webdav.py       nginx
      seaweedfs.py    SeaweedFS
      figures.py      medians, ratios, targets; versions.py
      report.py       the table and the plot

    paced.py          another part: a chunk a minute from each of many devices; paced_*.py
    memory.py         another: the largest files from many connections at once
    growth.py         another: large tables, many devices; growth_*.py

    recorders.py      the devices, and when each of their chunks was recorded
    requests.py       what is sent
    load.py           who sends it: wrk with load.lua, or load_client.py

What it shares with the queue's benchmark is in `bench_tools`.
"""
