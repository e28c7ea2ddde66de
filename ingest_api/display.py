"""Formats values for people: sizes, durations, and text from outside."""

from contextlib import suppress


def age(seconds: float) -> str:
    """Return a duration in the largest unit that it fills."""
    whole = max(0, int(seconds))
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= length:
            return f"{whole // length} {unit}"
    return f"{whole} s"


def megabytes(size: int) -> str:
    """Return a size as `1,234.5 MB` (powers of ten)."""
    return f"{size / 1e6:,.1f} MB"


def binary_size(count: float) -> str:
    """Return a size in the largest binary unit that it fills, up to TiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def printable(text: str) -> str:
    """Return text that is safe on a terminal, whatever bytes a file name or a client sent."""
    with suppress(UnicodeEncodeError):  # half of a surrogate pair, which stands for no byte
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
