"""Real servers for the tests: one PostgreSQL and one service a session, more on demand."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest
from lab.postgres import LocalPostgres
from support.databases import FORGETFUL, database_maker
from support.recorder import Recorder
from support.service import Service
from support.valkey import LocalValkey, ValkeyError
from support.workers import EXAMPLE, Start, Worker

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a background job of a shell. Processes would inherit it, and tests send them Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

MARKS = {
    "deploy": "slow",
    "deploy/machines": "machine",
    "faults": "slow",
    "scripts": "slow",
    "soak": "soak",
}
"""What the tests of a folder are marked as; the longest name wins."""

pytest.register_assert_rewrite("storage.contract")

# The same examples in every run; many more, and others, with --hypothesis-profile=search.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("search", deadline=None, max_examples=10_000)
hypothesis.settings.load_profile("suite")
os.umask(0o022)  # the usual one: some tests look at modes


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test by its folder, unless it has a mark of its own."""
    for item in items:
        folder = str(item.path.parent.relative_to(Path(__file__).parent))
        if not any(item.get_closest_marker(mark) for mark in MARKS.values()):
            for name in sorted(MARKS, key=len, reverse=True):
                if f"{folder}/".startswith(f"{name}/"):
                    item.add_marker(MARKS[name])
                    break


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPostgres]:
    """A throw-away server that syncs nothing: a test that kills PostgreSQL has its own."""
    with LocalPostgres(tmp_path_factory.mktemp("postgres"), settings=FORGETFUL) as server:
        yield server
        server.kill(signal.SIGQUIT)  # at once: nobody needs its last checkpoint


@pytest.fixture(scope="session")
def new_database(postgres: LocalPostgres) -> Callable[..., str]:
    """A function that makes a database, migrated or empty, and returns its URL."""
    return database_maker(postgres)


@pytest.fixture
def database_url(new_database: Callable[..., str]) -> str:
    """A migrated database of the test's own."""
    return new_database()


@pytest.fixture(scope="module")
def read_only_url(new_database: Callable[..., str]) -> str:
    """A migrated database that the tests of a module share: they EXPLAIN, and change nothing."""
    return new_database()


@pytest.fixture(scope="session")
def service(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., str]
) -> Iterator[Service]:
    """The service that most tests share; each uses devices of its own."""
    running = Service(tmp_path_factory.mktemp("service"), new_database()).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def _module_service(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., str]
) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("module-service"), new_database()).start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def emptied(_module_service: Service) -> Service:
    """A service that has stored nothing yet, for commands that look at everything there is."""
    _module_service.forget_everything()
    return _module_service


@pytest.fixture
def start_service(
    tmp_path: Path, new_database: Callable[..., str]
) -> Iterator[Callable[..., Service]]:
    """A function that starts a service of the test's own, with these settings."""
    started: list[Service] = []

    def start(database_url: str | None = None, **settings: str) -> Service:
        folder = tmp_path / f"service-{len(started)}"
        running = Service(folder, database_url or new_database(), **settings)
        started.append(running)
        return running.start()

    yield start
    for running in started:
        if running.process and running.process.poll() is None:
            running.stop()


@pytest.fixture
def start_valkey(tmp_path: Path) -> Iterator[Callable[..., LocalValkey]]:
    """A function that starts a Valkey of the test's own, with these settings of valkey.conf."""
    started: list[LocalValkey] = []

    def start(settings: Mapping[str, str] | None = None) -> LocalValkey:
        valkey = LocalValkey(tmp_path / f"valkey-{len(started)}", settings=settings)
        started.append(valkey)
        valkey.start()
        return valkey

    yield start
    for valkey in started:
        with suppress(ValkeyError):  # a test has ended it
            valkey.kill()


@pytest.fixture
def valkey(start_valkey: Callable[..., LocalValkey]) -> LocalValkey:
    """A throw-away server that speaks Redis and keeps nothing."""
    return start_valkey()


@pytest.fixture
def recorder(service: Service) -> Recorder:
    """A device registered at the shared service."""
    return service.recorder()


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Start]:
    """A function that starts a worker for a service, or for a URL."""
    started: list[Worker] = []

    def start(service: Service | str, *arguments: str, program: Path = EXAMPLE, **environ: str):
        url = service if isinstance(service, str) else service.url
        folder = tmp_path / f"worker-{len(started)}"
        started.append(Worker(folder, url, *arguments, program=program, **environ))
        return started[-1]

    yield start
    for worker in started:
        worker.process.kill()
        worker.process.wait()
