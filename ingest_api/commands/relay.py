"""`flask ingest relay`."""

import logging
import logging.config
import signal
from contextlib import closing

import click

from ingest_api.commands.context import failures
from ingest_api.components import Components
from ingest_api.logs import logging_config
from ingest_api.settings import Settings
from ingest_api.stream.relay import FAILURES, Relay, explain

_STOPPING = {signal.SIGINT, signal.SIGTERM}
_log = logging.getLogger(__name__)


@click.command()
@click.option("--once", is_flag=True, help="One pass; exit status 1 if it fails.")
@click.option(
    "--every",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to rest between two passes.",
)
@click.option(
    "--again",
    is_flag=True,
    help="Announce all that is not finished, as after a time with QUEUE_BACKEND=postgres.",
)
def relay(once: bool, every: float, again: bool) -> None:
    """Announce in Redis what was not announced when it was uploaded.

    One has to run while QUEUE_BACKEND=redis; several do no harm. Every chunk gets into the stream
    at least once: what is still UPLOADED after two seconds is announced and becomes QUEUED, and
    when Redis was restarted or has lost the stream, everything unfinished is announced again.
    Entries that every consumer group has acknowledged are removed after five minutes.

    It goes on while Redis or PostgreSQL is away, and stops on SIGTERM with exit status 0.
    """
    with failures():
        components = Components.build(Settings.from_environ())
    settings = components.settings
    _require_redis(settings)
    _log_to_stderr(settings)
    # Kept waiting until somebody looks: a pass is never cut off between Redis and PostgreSQL.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    with closing(components.database) as database:
        running = Relay(settings, database, stopping=_is_stopping, again=again)
        with closing(running):
            if once:
                _run_once(running)
            else:
                _log.info("the relay has started")
                running.run(_pause, every=every)
                _log.info("the relay has stopped")


def _require_redis(settings: Settings) -> None:
    if settings.queue_backend != "redis":
        raise click.ClickException(
            "nothing is announced with QUEUE_BACKEND=postgres, set it to redis; chunks that an "
            "earlier time with Redis left UPLOADED: flask ingest requeue --all --status UPLOADED"
        )


def _log_to_stderr(settings: Settings) -> None:
    config = logging_config(settings)
    # What the pool says of each attempt, the relay says once.
    config["loggers"]["psycopg.pool"] = {"level": "CRITICAL"}
    logging.config.dictConfig(config)


def _is_stopping() -> bool:
    return bool(signal.sigpending() & _STOPPING)


def _pause(seconds: float) -> bool:
    """Whether it was told to stop meanwhile."""
    return signal.sigtimedwait(_STOPPING, seconds) is not None


def _run_once(running: Relay) -> None:
    try:
        running.run_once()
    except FAILURES as error:
        raise click.ClickException(explain(error)) from None
    if _is_stopping():
        raise click.ClickException("interrupted")
