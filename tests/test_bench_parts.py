"""The parts of `./scripts/bench` that ask for more than speed, in short: uploads as they come in
the field, the memory that the largest files take, whether uploads cost more as the table grows."""

import json
import resource
import xml.etree.ElementTree as ElementTree
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from bench_tools.command import plan_from
from bench_tools.machine import describe, file_system
from lab.recorder import Recorder
from lab.service import Site, SiteError, free_port
from soak_load import SPEECH as SPEECH_FILE
from support.service import Service
from upload_bench import growth, memory, paced
from upload_bench.growth_fill import QUEUED, fill
from upload_bench.growth_plot import TITLE
from upload_bench.paced_process import OTHER_DESCRIPTORS, job, require_descriptors, sending
from upload_bench.recorders import site_recorders

COMMON = {"serving": 1, "mtu": 0}


def _plan(part: ModuleType, *arguments: str) -> Any:
    """As `./scripts/bench` makes it from its arguments."""
    parser = ArgumentParser()
    part.add_arguments(parser)
    return plan_from(parser.parse_args(arguments, Namespace(**COMMON)), part.Plan)


def _run(part: ModuleType, plan: Any, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What it finds, which is JSON, and how it tells that."""
    found = part.run(folder, plan, lambda _line: None)
    return json.loads(json.dumps(found)), list(part.tell(found))


def test_the_arguments_are_those_of_the_plan() -> None:
    for part in (paced, memory, growth):
        assert _plan(part) == part.Plan(**COMMON)
    assert _plan(paced, "--rate=2.5", "--devices=3", "--minutes=1").devices == 3
    assert _plan(memory, "--megabytes=1").megabytes == 1
    assert _plan(growth, "--rows=0,5", "--fleets=1").rows == (0, 5)


@pytest.mark.parametrize("argument", ["--devices=0", "--rate=0", "--minutes=-1", "--rate=inf"])
def test_a_number_that_cannot_be_is_refused(
    argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _plan(paced, argument)
    assert "must be a" in capsys.readouterr().err


def test_paced_uploads_keep_a_connection_for_each_device(tmp_path: Path) -> None:
    plan = _plan(paced, "--rate=20", "--devices=50", "--minutes=0.05")
    found, told = _run(paced, plan, tmp_path)
    assert found["uploads"] == found["acknowledged"] == found["rows"] == 60
    assert found["errors"] == {}
    assert found["connections_made"] == found["connections_held"] == 50
    assert found["rate_reached"] == pytest.approx(20, rel=0.2)
    latency = found["latency"]
    assert 0 < latency["median_ms"] <= latency["p99_ms"] <= latency["max_ms"]
    assert 0 < found["cpu_percent"]["service"] < found["cpu_percent"]["machine"] <= 100
    assert found["pss_mib_with_connections"] > 10
    assert any("p99 must be below 50 ms" in line for line in told)


def test_what_is_promised_of_paced_uploads_is_judged() -> None:
    found = {
        "errors": {},
        "uploads": 9,
        "acknowledged": 9,
        "rows": 9,
        "latency": {"p99_ms": 49.9},
        "cpu_percent": {"machine": 59.9},
    }
    assert paced.is_kept(found)
    for broken in (
        {"errors": {"503": 1}},
        {"rows": 8},
        {"acknowledged": 8, "rows": 8},
        {"latency": {"p99_ms": 50.0}},
        {"cpu_percent": {"machine": 60.0}},
    ):
        assert not paced.is_kept(found | broken)


def test_the_memory_of_the_service_is_watched_while_large_files_come(tmp_path: Path) -> None:
    plan = _plan(memory, "--connections=4", "--megabytes=1", "--uploads=2")
    found, told = _run(memory, plan, tmp_path)
    assert (found["uploads"], found["acknowledged"], found["errors"]) == (8, 8, {})
    for part in ("service", "postgresql"):
        values = found[part]
        assert 1 < values["idle_pss_mib"] <= values["idle_rss_mib"] <= values["peak_rss_mib"]
        assert values["peak_pss_mib"] <= values["peak_rss_mib"]
    assert found["kept"]
    assert any("peak RSS must be below 250" in line for line in told)


def test_growth_compares_the_sizes_round_by_round(tmp_path: Path) -> None:
    arguments = "--rows=0,2000", "--fleets=10", "--rounds=1", "--seconds=1"
    plan = _plan(growth, *arguments)
    small = {"usual_rows": 2000, "usual_devices": 50, "calls": 2}
    found, told = _run(growth, growth.Plan(**vars(plan) | small), tmp_path)
    sizes = [(size["rows"], size["devices"]) for size in found["sizes"]]
    assert sizes == [(0, 50), (2000, 50), (2000, 10)]
    assert found["sizes"][0]["ratio"] == 1
    assert found["ratio"] == found["sizes"][1]["ratio"] > 0
    for size in found["sizes"]:
        assert size["errors"] == 0
        assert size["uploads_per_second"] > 0
        assert all(size["cpu_ms"][who] > 0 for who in ("service", "postgresql"))
        assert all(size["call_ms"][name] > 0 for name in ("claim", "health", "devices"))
    assert sum(line.lstrip().startswith(("10 ", "50 ")) for line in told) == 3
    machine = describe() | {"file_system": file_system(tmp_path)}
    drawn = ElementTree.fromstring(growth.plot(found | {"machine": machine}))
    assert {"2,000", TITLE} <= set(drawn.itertext())
    assert not any(path.stat().st_size for path in tmp_path.rglob("*.ogg"))  # of any round


def test_a_table_is_filled_as_the_service_would_have(tmp_path: Path) -> None:
    end = datetime(2026, 1, 28, 10, tzinfo=UTC)
    with Site(tmp_path, workers=1) as site, site.connect() as connection:
        # Without the conditions, which PostgreSQL words in another way when it has read its own.
        indexes = "SELECT split_part(indexdef, ' WHERE ', 1) FROM pg_indexes ORDER BY 1"
        before = connection.execute(indexes).fetchall()
        site_recorders(site, 10)
        fill(site, 2000, end, lambda _line: None)
        assert connection.execute(indexes).fetchall() == before
        facts = connection.execute(
            "SELECT count(*), count(DISTINCT device_id), max(start_ts) < %s,"
            " count(*) FILTER (WHERE status = 'QUEUED'),"
            " count(*) FILTER (WHERE finished_at IS NOT NULL),"
            " array_agg(chunk_id ORDER BY start_ts) = array_agg(chunk_id ORDER BY chunk_id)"
            " FROM audio_chunks",
            [end],
        ).fetchone()
    assert facts == (2000, 10, True, QUEUED, 1000, True)


def _failures(port: int, recorder: Recorder, uploads: int, folder: Path) -> dict[str, int]:
    work = job(("127.0.0.1", port), [recorder], SPEECH_FILE, uploads=uploads)
    with sending(work, folder) as process:
        process.begins()
        return process.finish(lambda _line: None).errors


def test_uploads_that_fail_are_counted_by_kind(service: Service, tmp_path: Path) -> None:
    stranger = Recorder(uuid4(), uuid4(), uuid4(), "the-token-of-nobody")
    refused = _failures(service.port, stranger, 3, tmp_path)
    assert refused == {"401 invalid_token": 3}
    assert _failures(free_port(), stranger, 2, tmp_path) == {"ConnectionRefusedError": 2}


def test_too_few_descriptors_are_told_with_how_many_devices_fit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    require_descriptors(hard - OTHER_DESCRIPTORS)
    with pytest.raises(SiteError, match=f"at most {hard - OTHER_DESCRIPTORS} devices"):
        require_descriptors(hard)
