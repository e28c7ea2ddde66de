"""How commands print progress and columns, and what happens when that is impossible."""

import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from time import sleep
from typing import Any, TextIO

import click

WATCH_SECONDS = 2


class OutputFailed(click.ClickException):
    """Standard output is closed or cannot be written."""

    exit_code = 3

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"Standard output {reason}. The command has stopped; what it did before that remains."
        )


class _Output(io.FileIO):
    """Standard output, for which an error is not one of the files that a command works on."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:  # the reader, such as head(1), has ended
            reason = "was closed by its reader"
        except OSError as error:
            reason = f"cannot be written ({error.strerror})"
        # What is still in the buffer is written once more when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
        raise OutputFailed(reason)


class _Notices(io.FileIO):
    """Standard error, which stops no command."""

    def write(self, data: Any, /) -> int:
        with suppress(OSError):
            super().write(data)
        return len(memoryview(data))


class CommandGroup(click.Group):
    """Commands that tell an output that failed from everything else, `--help` included."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        if sys.stdout is None:
            raise OutputFailed("is closed")
        sys.stdout, sys.stderr = _over(_Output, sys.stdout), _over(_Notices, sys.stderr)
        return super().make_context(*args, **options)


def _over(raw: type[io.FileIO], stream: TextIO) -> TextIO:
    """Return a stream like this one over `raw`; the same one if it is no file of the process."""
    try:
        file = raw(stream.fileno(), "w", closefd=False)
    except (AttributeError, OSError):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(file), stream.encoding, stream.errors, line_buffering=True
    )


@contextmanager
def progress_bar(length: int, label: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the number of steps done, and draws a bar on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _steps: None
        return
    with click.progressbar(length=max(length, 1), label=label, file=sys.stderr) as bar:
        yield bar.update


def repeat(show: Callable[[], str], seconds: int, *, as_json: bool) -> None:
    """Print what `show` returns every so many seconds, until Ctrl-C; on a terminal in its place."""
    on_terminal = sys.stdout.isatty()
    with suppress(KeyboardInterrupt):
        while True:
            text = show()
            if not as_json:
                now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
                text = f"{now}, every {seconds} s, Ctrl-C to end\n\n{text}\n"
            if on_terminal and not as_json:
                click.clear()
            click.echo(text)
            sleep(seconds)


def columns(rows: Sequence[tuple[str, ...]], right: tuple[bool, ...]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(_aligned, row, widths, right)).rstrip() for row in rows]


def _aligned(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)
