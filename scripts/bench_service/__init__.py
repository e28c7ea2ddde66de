"""Measures the service: see `scripts/bench`.

__main__.py      the command: options, exit status

upload.py        uploads beside other servers, in turn
  contenders.py  the service, another version of it, the bare limit; bare.py, seaweedfs.py
paced.py         a chunk a minute from each of many devices
claim.py         claims from a large table
download.py      recordings by the internal API
maintenance.py   fsck and prune, and uploads beside prune
fill.py          a table as years of uploads would leave it

load.py          requests, sent by wrk with upload.lua or paced.lua
devices.py       devices, and when each of their chunks was recorded
machine.py       the machine, processor time, MTU, how durations are summed up
"""
