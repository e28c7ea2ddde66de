"""What holds for the project as a whole, and would otherwise be forgotten one day."""

import ast
import configparser
import inspect
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import psycopg
import pytest

from ingest_api import errors
from ingest_api.database import queries
from ingest_api.settings import Settings

ROOT = Path(__file__).parent.parent
OPERATING = (ROOT / "deploy" / "README.md").read_text()
HTTP_API = (ROOT / "ingest_api" / "web" / "README.md").read_text()
INSIDE = (ROOT / "ingest_api" / "README.md").read_text()
QUERIES = sorted((ROOT / "sql" / "queries").glob("*/*.sql"))
PACKAGE = sorted((ROOT / "ingest_api").rglob("*.py"))


@pytest.mark.parametrize("item", fields(Settings), ids=lambda item: item.name)
def test_every_setting_is_documented(item) -> None:
    name, default = item.name.upper(), item.metadata["default"]
    rows = [line for line in OPERATING.splitlines() if line.startswith(f"| `{name}`")]
    assert len(rows) == 1, f"deploy/README.md needs one row for {name}"
    if name != "WORKERS":
        assert not default or f"`{default}`" in rows[0]
    assert re.search(rf"^#?\s*{name}=", (ROOT / ".env.example").read_text(), re.MULTILINE)


def _name(path: Path) -> str:
    """As the functions call it: <noun>/<name>."""
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", QUERIES, ids=_name)
def test_every_query_says_what_it_is_for_and_has_a_function(path: Path) -> None:
    first, *rest = path.read_text().splitlines()
    assert re.fullmatch(r"-- [A-Z].*\.?", first)
    assert not any(re.search(r"(SELECT|RETURNING|\w\.)\s*\*", line) for line in rest), (
        "columns are named"
    )
    function = vars(getattr(queries, path.parent.name))[path.stem]
    assert f'"{_name(path)}"' in inspect.getsource(function)


def test_every_query_function_has_its_file() -> None:
    for noun in queries.__all__:
        module = getattr(queries, noun)
        public = {
            name
            for name, value in vars(module).items()
            if inspect.isfunction(value)
            and value.__module__ == module.__name__
            and not name.startswith("_")
        }
        assert public == {path.stem for path in QUERIES if path.parent.name == noun}
    assert {path.parent.name for path in QUERIES} == set(queries.__all__)


def _explain(path: Path) -> bytes:
    """EXPLAIN for any parameters; the statement itself where EXPLAIN does not take it."""
    text = path.read_text()
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", text)))
    for number, name in enumerate(names, 1):
        text = text.replace(f"%({name})s", f"${number}")
    if text.partition("\n")[2].startswith(("ALTER", "CREATE", "DROP", "SET")):
        return text.encode()
    return f"EXPLAIN (GENERIC_PLAN) {text}".encode()


@pytest.mark.parametrize("path", QUERIES, ids=_name)
def test_every_query_fits_the_schema(path: Path, read_only_url: str) -> None:
    with (
        psycopg.connect(read_only_url, autocommit=True) as connection,
        connection.transaction(force_rollback=True),
    ):
        connection.execute(_explain(path))


PLACES = ("sql/**/*", "deploy/*.md", "ingest_api/**/*.md", "scripts/example_worker/*")
SQL_TEXTS = [
    path
    for pattern in PLACES
    for path in sorted(ROOT.glob(pattern))
    if path.is_file() and path.suffix in {".sql", ".md", ".py"}
]


def _subqueries(text: str) -> list[str]:
    """Return what stands between the parentheses after each IN and USING."""
    found = []
    for match in re.finditer(r"\b(?:IN|USING)\s*\(", text):
        end, depth = match.end(), 1
        while depth and end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        found.append(text[match.end() : end])
    return found


@pytest.mark.parametrize("path", SQL_TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_limited_subquery_is_joined(path: Path) -> None:
    """A plan may run it once per row, and so choose and lock other rows each time. An array is
    made once: `= ANY(ARRAY(SELECT ... LIMIT ...))`."""
    for text in _subqueries(path.read_text()):
        assert not re.search(r"\bSELECT\b.*\b(LIMIT|SKIP LOCKED)\b", text, re.DOTALL), text


FREQUENT = [
    path
    for path in QUERIES
    if (path.parent.name in {"chunks", "leases"} and path.stem != "probe")  # which reads nothing
    or path.stem == "find_device_by_token"
]


@pytest.mark.parametrize("path", FREQUENT, ids=_name)
def test_no_query_of_an_upload_or_a_worker_reads_a_whole_table(
    path: Path, read_only_url: str
) -> None:
    with psycopg.connect(read_only_url, autocommit=True) as connection:
        connection.execute("SET enable_seqscan = off")  # tables are small: used if it must be
        plan = connection.execute(_explain(path)).fetchall()
    assert re.search("Index (Only )?Scan", str(plan))
    assert "Seq Scan" not in str(plan)


def test_migrations_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "sql/migrations").glob("*.sql"))]
    assert numbers == list(range(1, len(numbers) + 1))


def _error_classes() -> list[type[errors.IngestError]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.IngestError)
    ]


@pytest.mark.parametrize("error", _error_classes(), ids=lambda error: error.__name__)
def test_every_error_is_documented(error: type[errors.IngestError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)
    row = f"| {error.status.value} | `{error.code}` |"
    assert row in HTTP_API, "ingest_api/web/README.md needs a row for it"


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.stem)
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 250
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module opens by saying what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 25, f"{node.name} is {lines} lines long"


def test_each_dependency_has_a_reason() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    required = config["options"]["install_requires"].split("\n")
    for line in filter(None, required):
        name = re.split(r"[ \[<>=]", line)[0]
        assert f"| {name}" in INSIDE, f"ingest_api/README.md needs a row for {name}"
        assert name == "tzdata" or "<" in line, f"{name} has no upper bound"


def test_the_first_document_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_the_top_level_is_as_agreed() -> None:
    agreed = {"setup.cfg", "pyproject.toml", "README.md", "CHANGELOG.md"}
    agreed |= {"ingest_api", "sql", "scripts", "tests", "deploy"}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    found = {path.split("/")[0] for path in tracked.stdout.splitlines()}
    assert {name for name in found if not name.startswith(".")} == agreed
