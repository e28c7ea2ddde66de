"""What systemd says of the units, and that each timer's work can be done."""

from __future__ import annotations

import re
import resource

from deploy_test.lab import Lab
from deploy_test.report import Failed, Step, require
from deploy_test.site import Site

EXPOSURE = 1.5
DESCRIPTORS = 65536
_FILES = "ingest-*.service ingest-*.socket ingest-*.timer"
_LIMITS = ("MemoryMax", "MemoryHigh", "TasksMax", "LimitNOFILE")
_OF_TIMERS = ("ingest-api-prune", "ingest-api-fsck", "ingest-api-backup")
# Takes 200 MB, and then 20 processes, where 100 and 10 are allowed.
_EATS = "systemd-run --quiet --pipe --wait -p MemoryMax=100M -p MemorySwapMax=0 -p TasksMax=10"
_MEMORY = "python3 -c 'x = bytearray(200_000_000)'"
_TASKS = "sh -c 'for i in $(seq 20); do sleep 1 & done; wait'"


def units(lab: Lab) -> None:
    """systemd-analyze verify and security, limits, timers, and what they start, by hand"""
    site = lab.installed_site()
    with lab.report.step("units: systemd-analyze verify has nothing to say") as step:
        said = site.machine.run(
            "bash",
            "-c",
            f"cd /etc/systemd/system; systemd-analyze verify {_FILES} 2>&1",
            check=False,
        )
        require(not said.stdout.strip(), f"exit {said.returncode}: {said.stdout.strip()}")
        step.saw(site.machine.shell(f"cd /etc/systemd/system; echo {_FILES}"))
    _exposure(lab, site)
    _limits(lab, site)
    _timers(lab, site)
    for unit in _OF_TIMERS:
        with lab.report.step(f"units: {unit}.service, once by hand") as step:
            _start(site, unit, step)


def _exposure(lab: Lab, site: Site) -> None:
    services = site.machine.shell("cd /etc/systemd/system; ls -d ingest-*.service").split()
    with lab.report.step(f"units: systemd-analyze security, at most {EXPOSURE} for each") as step:
        for unit in services:
            loaded = _exposure_of(site, unit)
            offline = _exposure_of(site, f"--offline=true /etc/systemd/system/{unit}")
            step.saw(f"{unit} {loaded}, {offline} by its file")
            require(max(loaded, offline) <= EXPOSURE, f"{unit} is above it")


def _exposure_of(site: Site, arguments: str) -> float:
    said = site.machine.shell(f"systemd-analyze security --no-pager {arguments} 2>&1", check=False)
    found = re.search(r"Overall exposure level for \S+ ([0-9.]+)", said)
    if not found:
        raise Failed(f"systemd-analyze security {arguments}: {said[-300:]}")
    return float(found[1])


def _limits(lab: Lab, site: Site) -> None:
    with lab.report.step("units: limits of ingest-api.service") as step:
        names = (*_LIMITS, "MemoryCurrent", "TasksCurrent")
        asked = " ".join(f"-p {name}" for name in names)
        step.saw(*site.machine.shell(f"systemctl show ingest-api {asked}").splitlines())
        step.saw(site.machine.shell("systemctl show -p DefaultMemoryAccounting"))
        limit = site.machine.shell(
            "grep 'open files' /proc/$(systemctl show -P MainPID ingest-api)/limits"
        )
        here = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        step.saw(f"has {limit.split()[3]} descriptors (this machine allows {here})")
        require(int(limit.split()[3]) == min(DESCRIPTORS, here), f"descriptors: {limit}")
        step.saw(_enforced(site))


def _enforced(site: Site) -> str:
    """Whether this machine's kernel lets a container limit memory and tasks at all."""
    statuses = {
        name: site.machine.run("sh", "-c", f"{_EATS} {command}", check=False).returncode
        for name, command in (("MemoryMax", _MEMORY), ("TasksMax", _TASKS))
    }
    told = ", ".join(
        f"{name} {'is enforced' if status else 'is NOT enforced'}"
        for name, status in statuses.items()
    )
    if not all(statuses.values()):
        told += f" in this container: {_cgroups(site)}"
    return told


def _cgroups(site: Site) -> str:
    """What the kernel lets a container have."""
    if site.machine.shell("stat -fc %T /sys/fs/cgroup") != "cgroup2fs":
        return "this kernel has cgroups of version 1, which a container can only look at"
    given = site.machine.shell("cat /sys/fs/cgroup/cgroup.controllers")
    return f"it was given the cgroup controllers: {given or 'none'}"


def _timers(lab: Lab, site: Site) -> None:
    with lab.report.step("units: timers") as step:
        listed = site.machine.shell("systemctl list-timers --no-pager --no-legend 'ingest-*'")
        for line in listed.splitlines():
            step.saw(" ".join(line.split()))
        for unit in _OF_TIMERS:
            require(f"{unit}.timer" in listed, f"{unit}.timer is not among them")


def _start(site: Site, unit: str, step: Step) -> None:
    done = site.machine.run("systemctl", "start", unit, check=False)
    said = site.machine.shell(f"journalctl -q _SYSTEMD_UNIT={unit}.service -o cat -n 30")
    require(done.returncode == 0, f"{done.stderr.strip()}: {said[-1500:]}")
    step.saw(site.machine.shell(f"systemctl show -P Result {unit}"), said.splitlines()[-1])
