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
@click.option("--once", is_flag=True, help="Run one pass; exit status 1 if it fails.")
@click.option(
    "--every",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Pause between two passes.",
)
@click.option(
    "--again",
    is_flag=True,
    help="Announce all unfinished chunks again: needed after a time with QUEUE_BACKEND=postgres.",
)
def relay(once: bool, every: float, again: bool) -> None:
    """Announce chunks in Redis that uploads could not announce.

    One relay must run while QUEUE_BACKEND=redis; several do no harm. Delivery is at least once: a
    chunk still UPLOADED after two seconds is announced and becomes QUEUED. When Redis was
    restarted or has lost the stream, all unfinished chunks are announced again. Entries that every
    consumer group has acknowledged are removed after five minutes.

    It keeps running while Redis or PostgreSQL is unreachable, and stops on SIGTERM with exit
    status 0.
    """
    with failures():
        components = Components.build(Settings.from_environ())
    settings = components.settings
    _require_redis(settings)
    _log_to_stderr(settings)
    # Blocked and polled, so that no pass is cut off between Redis and PostgreSQL.
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
            "QUEUE_BACKEND=postgres announces nothing. Set it to redis; or, for chunks that Redis "
            "left UPLOADED, run: flask ingest requeue --all --status UPLOADED"
        )


def _log_to_stderr(settings: Settings) -> None:
    config = logging_config(settings)
    # The pool would log every attempt; the relay logs an outage once.
    config["loggers"]["psycopg.pool"] = {"level": "CRITICAL"}
    logging.config.dictConfig(config)


def _is_stopping() -> bool:
    return bool(signal.sigpending() & _STOPPING)


def _pause(seconds: float) -> bool:
    """Return whether a signal to stop has ended the pause."""
    return signal.sigtimedwait(_STOPPING, seconds) is not None


def _run_once(running: Relay) -> None:
    try:
        running.run_once()
    except FAILURES as error:
        raise click.ClickException(explain(error)) from None
    if _is_stopping():
        raise click.ClickException("interrupted")
