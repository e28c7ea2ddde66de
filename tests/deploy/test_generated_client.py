"""A client that an unrelated tool made from openapi.json uploads a chunk, and lists it."""

import json
import subprocess
import sys
from pathlib import Path

from support.recorder import SPEECH
from support.service import ADMIN_TOKEN, Service

DESCRIPTION = Path(__file__).parents[1] / "api" / "openapi.json"
USE = """
import io, json, sys
from generated import AuthenticatedClient
from generated.api.default import admin_chunks_get_chunks, admin_coverage_coverage, chunks_upload
from generated.models import ChunksUploadBody
from generated.types import File

told = json.loads(sys.stdin.read())
form = ChunksUploadBody.from_dict(told["form"] | {"chunk_file": b""})
form.chunk_file = File(open(told["file"], "rb"), "chunk.ogg", "audio/ogg")
device = AuthenticatedClient(told["url"], told["token"])
receipt = chunks_upload.sync(client=device, body=form)
admin = AuthenticatedClient(told["url"], told["admin"])
page = admin_chunks_get_chunks.sync(client=admin, device_id=form.device_id)
form.sample_rate = 0
form.chunk_file = File(io.BytesIO(b"x"), "chunk.ogg", "audio/ogg")
problem = chunks_upload.sync(client=device, body=form)
covered = admin_coverage_coverage.sync(
    client=admin, device_id=form.device_id, from_=form.start_ts, to=form.end_ts
)
print(json.dumps([receipt.to_dict(), page.to_dict(), problem.to_dict(), covered.to_dict()]))
"""


def test_a_generated_client_uploads_and_lists(tmp_path: Path, service: Service) -> None:
    (tmp_path / "config.yml").write_text("post_hooks: []\n")
    generator = Path(sys.executable).with_name("openapi-python-client")
    made = subprocess.run(
        [
            *(generator, "generate", "--meta", "none", f"--path={DESCRIPTION}"),
            *(f"--output-path={tmp_path / 'generated'}", f"--config={tmp_path / 'config.yml'}"),
        ],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    recorder = service.recorder()
    (tmp_path / "file").write_bytes(SPEECH)
    form = recorder.form() | {"sample_rate": 48000, "channels": 1}
    told = {"form": form, "file": str(tmp_path / "file"), "url": service.url}
    told |= {"token": recorder.token, "admin": ADMIN_TOKEN}
    used = subprocess.run(
        [sys.executable, "-c", USE],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert used.returncode == 0, used.stderr
    receipt, page, problem, covered = json.loads(used.stdout)
    [row] = service.rows(recorder)
    assert receipt["chunk_id"] == str(row["chunk_id"])
    assert [chunk["chunk_id"] for chunk in page["chunks"]] == [receipt["chunk_id"]]
    assert page["next"] is None
    assert problem["code"] == "validation_error"
    assert covered["devices"][0]["share"] == 1
