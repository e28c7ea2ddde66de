"""Measures the service: see `scripts/bench`.

__main__.py    the command: options, exit status

upload.py      uploads beside others, in turn: the service and other versions of it (contenders.py),
               processes under the same promise without HTTP (bare.py), an S3 server (seaweedfs.py)
paced.py       a chunk a minute from each of many devices
claim.py       claims from a large table
download.py    recordings by the internal API
maintenance.py fsck and prune, and uploads beside prune
fill.py        a table as years of uploads would leave it

turns.py       rounds in turn, and their figures
load.py        requests, sent by wrk with upload.lua or paced.lua
devices.py     devices, and when each of their chunks was recorded
machine.py     the machine, processor time, MTU, durations summed up
"""
