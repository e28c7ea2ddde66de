"""Tries deploy/ on Debian machines that are booted for it: see `scripts/test-deploy`.

    command.py        the command: arguments, what must be there, the table at the end
    report.py         steps, what was seen in each, and whether it was right
    rootfs.py         root file systems: debootstrap once, then copies
    machine.py        one is booted, told to do things, rebooted, cut off
    checkout.py       what is installed: this checkout, a newer one, broken ones
    site.py           a machine with the service: install, register devices, look into it
    fleet.py          recorders that upload through nginx, and what they saw
    slow_clients.py   clients that send a kilobyte a second; a process of their own
    evidence.py       what the recorders were told, against the rows and the files
    scenario_*.py     what is tried, each a function of the lab
    lab.py            what the scenarios share: the machine that runs, and the next one

Every container shares this machine's network, so there is never more than one.
"""
