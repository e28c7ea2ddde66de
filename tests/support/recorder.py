"""A registered device and the form of its uploads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ingest_api.models.devices import Device

SPEECH = (Path(__file__).parents[1] / "data" / "speech-60s.ogg").read_bytes()


@dataclass
class Recorder:
    """A registered device, its token, and uploads in its name."""

    device: Device
    token: str
    clock: datetime = field(default_factory=lambda: datetime(2026, 1, 28, 10, tzinfo=UTC))

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def form(self, **changes: Any) -> dict[str, Any]:
        """The fields of an upload; a change to None leaves a field out."""
        form: dict[str, Any] = {
            "point_id": str(self.device.point_id),
            "register_id": str(self.device.register_id),
            "device_id": str(self.device.device_id),
            "start_ts": self.clock.isoformat(),
            "end_ts": (self.clock + timedelta(seconds=60)).isoformat(),
            "codec": "opus",
            "sample_rate": "48000",
            "channels": "1",
        }
        return {name: value for name, value in (form | changes).items() if value is not None}


def multipart(form: Mapping[str, Any], data: bytes) -> bytes:
    """A multipart body with the boundary XyZ-boundary, to be bent by a test."""
    part = "--XyZ-boundary\r\nContent-Disposition: form-data; name="
    fields = "".join(f'{part}"{name}"\r\n\r\n{value}\r\n' for name, value in form.items())
    file = f'{part}"chunk_file"; filename="c"\r\nContent-Type: audio/ogg\r\n\r\n'
    return f"{fields}{file}".encode() + data + b"\r\n--XyZ-boundary--\r\n"
