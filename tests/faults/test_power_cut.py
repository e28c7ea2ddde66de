"""A power cut at any moment: what the service promised by then is on the disk.

The calls that the workers make are recorded, and replayed onto a model of a disk that keeps only
what POSIX promises: a file's bytes once the file is synced, a name once the folder it is in is
synced. What is not synced may be there or not, each name and each file for itself.

This proves that the order of the calls is sufficient on any file system that keeps to fsync(2). It
cannot prove that a disk does what it is told; test_power_cut_device.py tries a real file system.
"""

import base64
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from support.recorder import SPEECH, Recorder
from support.recording_worker import read_record
from support.service import Service

Record = list[dict[str, Any]]


@dataclass
class _File:
    content: bytes = b""
    synced: bytes = b""
    synced_as_of: int = 0


@dataclass
class _Folder:
    names: dict[str, "_Node"] = field(default_factory=dict)  # as somebody may see them
    settled: dict[str, "_Node"] = field(default_factory=dict)  # as all must see them
    synced: dict[str, "_Node"] = field(default_factory=dict)  # as they are sure to survive
    synced_as_of: int = 0


_Node = _File | _Folder


class _Disk:
    """Files and folders, in the order in which the workers had them done.

    A sync covers what was settled before it began, and is good for that when it has ended.
    """

    def __init__(self, root: Path) -> None:
        self._root_path = root
        self._root = _Folder()
        self._covered: dict[int, tuple[int, Any]] = {}

    def apply(self, line: dict[str, Any]) -> None:
        if not line["path"].startswith(str(self._root_path)):
            return
        getattr(self, "_" + line["call"].replace(" ", "_"))(**line)

    def after_power_cut(self, path: str, luck: random.Random | None) -> bytes | None:
        """What is found at `path`: with no luck, only what is synced."""
        node: _Node | None = self._root
        for part in self._parts(path):
            if not isinstance(node, _Folder):
                return None
            lucky = luck is not None and luck.random() < 0.5
            node = (node.names if lucky else node.synced).get(part)
        if not isinstance(node, _File):
            return None
        return node.content if luck is not None and luck.random() < 0.5 else node.synced

    def _parts(self, path: str) -> tuple[str, ...]:
        return PurePosixPath(path).relative_to(self._root_path).parts

    def _find(self, path: str) -> Any:
        node: Any = self._root
        for part in self._parts(path):
            node = node.names[part]
        return node

    def _begin(self, path: str, node: _Node) -> None:
        folder, _, name = path.rpartition("/")
        self._find(folder).names[name] = node

    def _settle(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        self._find(folder).settled[name] = self._find(path)

    def _create(self, path: str, **_: Any) -> None:
        self._begin(path, _File())

    def _write(self, path: str, data: str, **_: Any) -> None:
        self._find(path).content += base64.b64decode(data)

    def _mkdir_begins(self, path: str, **_: Any) -> None:
        folder, _, name = path.rpartition("/")
        self._find(folder).names.setdefault(name, _Folder())

    def _mkdir_ends(self, path: str, **_: Any) -> None:
        self._settle(path)

    def _link_begins(self, path: str, target: str, **_: Any) -> None:
        with suppress(KeyError):  # without a folder it fails, or one is just made by another
            self._begin(target, self._find(path))

    def _link_ends(self, path: str, target: str, **_: Any) -> None:
        self._find(target.rpartition("/")[0]).names.setdefault(Path(target).name, self._find(path))
        node: Any = self._root
        for part in self._parts(target):  # it has succeeded: all that is on its way is there
            node.settled[part] = node.names[part]
            node = node.names[part]

    _rename_begins, _rename_ends = _link_begins, _link_ends

    def _unlink(self, path: str, **_: Any) -> None:
        folder, _, name = path.rpartition("/")
        self._find(folder).names.pop(name)
        self._find(folder).settled.pop(name, None)

    def _sync_begins(self, path: str, thread: int, time: int, **_: Any) -> None:
        node = self._find(path)
        covered = node.content if isinstance(node, _File) else dict(node.settled)
        self._covered[thread] = (time, covered)

    def _sync_ends(self, path: str, thread: int, **_: Any) -> None:
        node = self._find(path)
        began, covered = self._covered.pop(thread)
        if began > node.synced_as_of:  # of two at once the later one covers more
            node.synced_as_of, node.synced = began, covered


def _broken_promises(record: Record, root: Path, contents: dict[str, bytes]) -> Iterator[str]:
    """Cut the power after every call, with bad luck and with mixed luck."""
    disk = _Disk(root)
    promised: list[str] = []
    luck = random.Random(7)
    for number, line in enumerate(record):
        if line["call"] == "promise":
            promised.append(line["path"])
        else:
            disk.apply(line)
        for path in promised:
            for chance in (None, luck, luck, luck):
                if disk.after_power_cut(path, chance) != contents[path]:
                    yield f"{path} after call {number}: {line['call']} {line['path']}"


@pytest.fixture
def recorded(start_service: Callable[..., Service], tmp_path: Path) -> Service:
    return start_service(
        RECORD=str(tmp_path / "record"),
        GUNICORN_CMD_ARGS="--worker-class=support.recording_worker.RecordingWorker",
        PYTHONPATH=str(Path(__file__).parents[1]),
    )


def _upload_all(service: Service) -> dict[str, bytes]:
    """New places and known ones, replays, and many at once to places that none of the workers
    knows, so that one makes a folder while the other takes it for made. What was stored where."""
    contents: dict[str, bytes] = {}

    def upload(recorder: Recorder, data: bytes) -> None:
        answer = service.upload(recorder, data)
        assert answer.status_code == 200
        contents[str(service.storage / answer.json()["stored_path"])] = data

    one = service.recorder()
    for data in (SPEECH, b"second", SPEECH):
        upload(one, data)
    with ThreadPoolExecutor(6) as pool:
        for crowd in [service.recorder() for _ in range(10)]:
            crowd.clock = datetime.now(UTC)  # in folders that a worker remembers
            list(pool.map(partial(upload, crowd), [b"%d" % number for number in range(6)]))
    return contents


def test_what_was_promised_survives_a_power_cut_at_any_moment(
    recorded: Service, tmp_path: Path
) -> None:
    contents = _upload_all(recorded)
    assert recorded.stop() == 0
    record = read_record(tmp_path / "record")
    assert len([line for line in record if line["call"] == "promise"]) == 63
    assert list(_broken_promises(record, recorded.storage, contents)) == []

    # Without any one kind of sync promises would be broken: the model is no optimist.
    for kind in (
        lambda path: "/.incoming/" in path,  # the files
        lambda path: path.endswith("/10"),  # the folders of the hour, which hold the names
        lambda path: path.count("/") == str(recorded.storage).count("/") + 2,  # a shop's
        lambda path: path == str(recorded.storage),
    ):
        careless = [
            line for line in record if not (line["call"].startswith("sync") and kind(line["path"]))
        ]
        assert len(careless) < len(record)
        assert any(_broken_promises(careless, recorded.storage, contents))
