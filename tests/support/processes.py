"""Processes, terminals, and waiting for a condition."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any


def eventually(condition: Any, seconds: float = 10.0) -> Any:
    """Wait until `condition()` is true, and return it; AssertionError when it never is."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.02)
    return result


def read_terminal(descriptor: int) -> str:
    """All that a process shows on its terminal, of which this is the other end."""
    shown = b""
    with suppress(OSError):  # the last process that had it open has gone
        while piece := os.read(descriptor, 4096):
            shown += piece
    os.close(descriptor)
    return shown.decode()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descendants_of(pid: int) -> list[int]:
    found = children_of(pid)
    return found + [grandchild for child in found for grandchild in descendants_of(child)]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
