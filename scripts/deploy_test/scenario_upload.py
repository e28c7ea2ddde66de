"""One chunk from a recorder's hand to a worker's, through nginx with TLS."""

from __future__ import annotations

import hashlib
import stat

from lab.recorder import Chunk, Recorder, RecorderAgent
from soak_load import FIRST_START, SPEECH

from deploy_test.lab import Lab
from deploy_test.report import Step, require
from deploy_test.site import HTTPS, INNER, Answer, Site

STRANGER = "127.0.0.2"  # loopback, and not in internal-allow.conf


def upload(lab: Lab) -> None:
    """add-device, an upload through nginx, its file and row, its download by a worker"""
    site = lab.installed_site()
    told: dict[str, str] = {}
    with lab.report.step("upload: a minute of speech through nginx") as step:
        recorder = site.add_device()
        told = send_one(lab, site, recorder)
        step.saw(f"200, chunk {told['chunk_id']}, queued {told['queued']}")
    if told:
        _look_at_it(lab, site, told)
        _download(lab, site, told)


def send_one(lab: Lab, site: Site, recorder: Recorder, number: int = 0) -> dict[str, str]:
    """Upload the speech once, and count it as evidence; what the service said."""
    chunk = Chunk(FIRST_START, SPEECH.read_bytes(), number.to_bytes(8, "big") if number else b"")
    agent = RecorderAgent(recorder, HTTPS, lambda *_: None, tls=site.tls)
    attempt = agent.attempt(chunk)
    require(attempt.accepted, f"{attempt.outcome}: {attempt.error or attempt.answer}")
    lab.evidence.include_one(recorder, attempt)
    return attempt.answer or {}


def _look_at_it(lab: Lab, site: Site, told: dict[str, str]) -> None:
    with lab.report.step("upload: its file and its row") as step:
        file = site.storage / told["stored_path"]
        found = file.stat()
        owner = site.machine.shell(f"stat -c %U:%G '{file.relative_to(site.root)}'")
        mode = stat.S_IMODE(found.st_mode)
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        step.saw(f"{found.st_size} bytes, {owner}, {mode:04o}, SHA-256 {sha256[:12]}...")
        require(sha256 == hashlib.sha256(SPEECH.read_bytes()).hexdigest(), "other bytes")
        require((owner, mode) == ("ingest:ingest", 0o640), "owner or mode is wrong")
        lab.evidence.require_all(site, step)


def _download(lab: Lab, site: Site, told: dict[str, str]) -> None:
    path, token = f"/api/v1/internal/chunks/{told['chunk_id']}/file", site.setting("INTERNAL_TOKEN")
    with lab.report.step("upload: a worker downloads it, through nginx and beside it") as step:
        for name, address in (("nginx", HTTPS), ("port 8000", INNER)):
            _require_speech(site.ask(path, token=token, address=address), name, step)
        _require_x_accel(site, path, step)
    with lab.report.step("upload: the internal API is closed to other addresses") as step:
        answer = site.ask(path, token=token, source=STRANGER)
        step.saw(f"{answer.status} from {STRANGER}")
        require(answer.status == 403, "and should be 403")
        require(site.ask("/health", source=STRANGER).status == 200, "/health is closed as well")


def _require_speech(answer: Answer, name: str, step: Step) -> None:
    require(answer.status == 200, f"by {name}: {answer.status} {answer.body[:300]!r}")
    require(answer.body == SPEECH.read_bytes(), f"by {name}: other bytes")
    require(answer.headers.get("etag"), f"by {name}: no ETag")
    require("x-accel-redirect" not in answer.headers, f"by {name}: X-Accel-Redirect leaks")
    step.saw(f"{len(answer.body)} bytes by {name}")


def _require_x_accel(site: Site, path: str, step: Step) -> None:
    """nginx is told which file to send; nobody else hears of it."""
    asked = (
        "curl -s -D - -o /dev/null --unix-socket /run/ingest-api/ingest-api.sock"
        " -H 'X-Sendfile-Type: X-Accel-Redirect'"
        f" -H 'Authorization: Bearer {site.setting('INTERNAL_TOKEN')}' http://localhost{path}"
    )
    require(
        "x-accel-redirect" in site.machine.shell(asked).lower(), "no X-Accel-Redirect for nginx"
    )
    require(site.ask("/_recordings/audio").status == 404, "/_recordings/ is open to clients")
    step.saw("the file sent by nginx itself (X-Accel-Redirect)")
