"""What deploy/prometheus and deploy/grafana say, against a real Prometheus and the real service."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from lab.service_process import free_port
from support.processes import eventually
from support.service import Service

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "ingest-api.rules.yml"
SECONDS = int(os.environ.get("PROMETHEUS_SECONDS", "15"))
TOKEN = "metrics-token-of-the-tests"


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed: apt install prometheus"
    return found


def _expressions() -> list[str]:
    """Every expression of the rules and the dashboard."""
    dashboard = json.loads((DEPLOY / "grafana" / "ingest-api.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = re.findall(r"expr: (?:>-\n)?((?:.|\n)*?)\n        \w+:", RULES.read_text())
    assert len(alerts) >= 6
    return [*shown, *alerts]


def test_every_metric_that_is_shown_or_alerts_exists(service: Service) -> None:
    service.upload(service.recorder())
    with service.connect() as connection:
        connection.execute(
            "INSERT INTO maintenance_runs VALUES ('backup', now()), ('fsck', now())"
            " ON CONFLICT DO NOTHING"
        )
    text = requests.get(f"{service.url}/metrics").text
    exposed = set(re.findall(r"^(ingest_\w+)", text, re.MULTILINE))
    assert len(exposed) > 15
    for expression in _expressions():
        assert set(re.findall(r"\bingest_\w+", expression)) <= exposed, expression


def test_the_rules_are_valid() -> None:
    checked = subprocess.run(
        [_program("promtool"), "check", "rules", str(RULES)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@contextmanager
def _prometheus(folder: Path, service: Service) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """Run a Prometheus that scrapes the service every second; lend a function that queries it."""
    (folder / "token").write_text(TOKEN)
    host, port = service.address
    scrape = (DEPLOY / "prometheus" / "scrape.yml").read_text()
    scrape = scrape.replace("ingest.internal:8000", f"{host}:{port}").replace("30s", "1s")
    scrape = scrape.replace("/etc/prometheus/ingest-metrics-token", str(folder / "token"))
    indented = "".join(f"  {line}\n" for line in scrape.splitlines())
    config = f"rule_files: [{RULES}]\nscrape_configs:\n{indented}"
    (folder / "prometheus.yml").write_text(config)
    address = f"127.0.0.1:{free_port()}"
    command = [
        _program("prometheus"),
        *(f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
        f"--web.listen-address={address}",
    ]

    def query(expression: str) -> list[dict[str, Any]]:
        answer = requests.get(f"http://{address}/api/v1/query", params={"query": expression})
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            eventually(lambda: _answers(f"http://{address}/-/ready"))
            yield query
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.ConnectionError:
        return False


def _answered(service: Service) -> Counter[tuple[str, str]]:
    """The answers to uploads that the log has, by status and code."""
    return Counter(
        (str(line["status"]), line["code"] or "")
        for line in service.log()
        if line.get("path") == "/api/v1/chunks"
    )


def test_counters_never_go_back_while_the_service_is_reloaded_and_killed(
    tmp_path: Path, start_service: Callable[..., Service]
) -> None:
    service = start_service(WORKERS="2", METRICS_TOKEN=TOKEN)
    recorder, number, sent = service.recorder(), 0, 0
    with _prometheus(tmp_path, service) as query:
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            number += 1
            for _ in range(5):
                sent += 1
                service.upload(recorder, b"%d" % sent)
                service.upload(recorder, b"%d" % sent, codec="")
            eventually(lambda sent=sent: sum(_answered(service).values()) == 2 * sent)
            before = service.workers()
            if number % 2:
                os.kill(before[0], signal.SIGKILL)
            else:
                service.running.send_signal(signal.SIGHUP)
            eventually(lambda before=before: before[0] not in service.workers())
            eventually(lambda: len(service.workers()) == 2 and _answers(f"{service.url}/health"))
        wanted = _answered(service)
        assert wanted == {("200", ""): sent, ("422", "validation_error"): sent}
        eventually(lambda: _totals(query) == wanted)
        for name in ("ingest_uploads_total", "ingest_upload_stage_seconds_count"):
            resets = query(f"resets({name}[10m])")
            assert resets
            assert {sample["value"][1] for sample in resets} == {"0"}
        assert query("ALERTS") == []
        [(_, threads)] = [sample["value"] for sample in query("ingest_threads_in_use")]
        assert int(threads) <= 1  # that of the scrape: nothing of the killed is left


def _totals(query: Callable[[str], list[dict[str, Any]]]) -> dict[tuple[str, str], int]:
    # Prometheus has no label of an empty value.
    return {
        (sample["metric"]["status"], sample["metric"].get("code", "")): int(sample["value"][1])
        for sample in query("ingest_uploads_total")
    }
