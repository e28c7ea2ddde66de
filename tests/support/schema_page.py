"""The schema on one page, for people: what pg_dump says, in another order and without its noise."""

import re
import subprocess
from collections import defaultdict
from textwrap import fill

from support.backups import PROGRAMS

TABLES = ("devices", "audio_chunks", "pruned_chunks", "schema_migrations")
HEAD = """\
-- The schema as all migrations together make it, for reading. `flask ingest migrate` makes it.
-- Written by tests/database/test_schema.py from pg_dump; do not edit.
"""
_WIDTH = 100
_BREAKS = (
    "ADD",
    "CHECK|FOREIGN KEY|INCLUDE|WHERE|FOR EACH ROW|EXECUTE",
    r"AND(?= \(\()",
    r"OR(?= \()",
)
_BLOCK = re.compile(r"^-- Name: (?P<name>.*?); Type: (?P<type>.*?); Schema: .*$", re.MULTILINE)
_NOISE = re.compile(r"^(--.*|SET .*|\\\w+ .*)$", re.MULTILINE)
_COMMENT = re.compile(r"COMMENT ON (?:TABLE|COLUMN) (\S+) IS '(.*)';")
_SPELLINGS = (
    (r"\bpublic\.", ""),
    (r"\bALTER TABLE ONLY\b", "ALTER TABLE"),
    (r" USING btree\b", ""),
    (r"timestamp with time zone", "timestamptz"),
    (r"character varying\(", "varchar("),
    (r"= ANY \(\(ARRAY\[(.*?)\]\)::text\[\]\)", r"IN (\1)"),
    (r"\((\w+(?:\.\w+)?)\)::text", r"\1"),
    (r"::(text|character varying)\b", ""),
    (r"CHECK \(\((.*)\)\)", r"CHECK (\1)"),
    (r"WHEN \(\((.*)\)\) EXECUTE", r"WHEN (\1) EXECUTE"),
)


def schema_page(database_url: str) -> str:
    """Return the tables with their constraints and indexes, then functions and triggers."""
    blocks = _blocks(_dump(database_url))
    comments = _comments(blocks.pop("COMMENT"))
    functions, triggers = blocks.pop("FUNCTION"), blocks.pop("TRIGGER")
    tables = [_with_comments(text, comments) for text in blocks.pop("TABLE")]
    others = [text for kind in sorted(blocks) for text in blocks[kind]]
    pages = []
    for table in sorted(map(_table_of, tables), key=_rank):
        pages += [text for text in tables if _table_of(text) == table]
        pages.append("\n".join(_fitting(text) for text in others if _table_of(text) == table))
    functions = [_fitting_head(text) for text in functions]
    return "\n".join([HEAD, *_spaced([*pages, *functions, *map(_fitting, triggers)])])


def _dump(database_url: str) -> str:
    options = ("--schema-only", "--no-owner", "--no-privileges")
    command = [str(PROGRAMS / "pg_dump"), *options, database_url]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _blocks(dump: str) -> dict[str, list[str]]:
    """Return the statements by kind, in pg_dump's order, which is by name."""
    blocks: dict[str, list[str]] = defaultdict(list)
    _, *parts = _BLOCK.split(dump)
    for kind, text in zip(parts[1::3], parts[2::3], strict=True):
        text = text if kind == "FUNCTION" else _respelled(text)
        blocks[kind].append(re.sub(r"\bpublic\.", "", _NOISE.sub("", text)).strip())
    return blocks


def _respelled(text: str) -> str:
    for pattern, better in _SPELLINGS:
        text = re.sub(pattern, better, text)
    return text


def _comments(statements: list[str]) -> dict[str, str]:
    """Return the comments by what they are on: a table, or a table's column."""
    matches = [_COMMENT.fullmatch(text) for text in statements]
    return {match[1]: match[2].replace("''", "'") for match in matches if match}


def _with_comments(table: str, comments: dict[str, str]) -> str:
    name = _table_of(table)
    lines = [f"-- {comments[name]}"] if name in comments else []
    for line in table.splitlines():
        comment = comments.get(f"{name}.{line.split()[0]}") if line.startswith("    ") else None
        lines += [f"{line}  -- {comment}" if comment else _fitting(line, " " * 8)]
    return "\n".join(lines)


def _table_of(text: str) -> str:
    """Return the table that a statement makes, changes or indexes."""
    found = re.search(r"(?:CREATE TABLE|ALTER TABLE|INDEX \w+ ON) (\w+)", text)
    assert found, text
    return found[1]


def _rank(table: str) -> tuple[int, str]:
    return (TABLES.index(table) if table in TABLES else len(TABLES), table)


def _fitting(text: str, indent: str = "    ") -> str:
    """Break a line that is too long where a person would."""
    text = text.replace("\n    ADD", " ADD")
    for before in _BREAKS:
        if max(map(len, text.splitlines())) > _WIDTH:
            text = re.sub(rf" ({before}) ", rf"\n{indent}\1 ", text)
    return text


def _fitting_head(function: str) -> str:
    """Break the list of a function's parameters if it is too long."""
    head, line, body = function.replace("timestamp with time zone", "timestamptz").partition("\n")
    if len(head) > _WIDTH and (found := re.fullmatch(r"(.*?)\((.*)\)(.*)", head)):
        indent = " " * 8
        listed = fill(found[2], _WIDTH, initial_indent=indent, subsequent_indent=indent)
        head = f"{found[1]}(\n{listed}\n    ){found[3]}"
    return f"{head}{line}{body}"


def _spaced(pages: list[str]) -> list[str]:
    return [f"{page}\n" for page in pages if page]
