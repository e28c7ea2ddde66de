"""Start the service: `python -m ingest_api`, or `ingest-api` where the package is installed.

Becomes gunicorn (same process) with deploy/gunicorn.conf.py, which reads HOST and PORT.
"""

import argparse
import os
import sys
from importlib.metadata import version
from importlib.resources import files

from dotenv import load_dotenv

from ingest_api.database.migrations import SchemaBehind
from ingest_api.errors import OperatorError
from ingest_api.server.startup import check_before_serving
from ingest_api.settings import Fault, Settings, SettingsError

SCHEMA_BEHIND = 3


def main() -> None:
    """Check the settings, then become gunicorn."""
    arguments = _parse_arguments()
    try:
        read_dotenv_file()
        settings = Settings.from_environ(serving=True)
    except SettingsError as error:
        sys.exit(str(error))
    if arguments.check:
        sys.exit(_check(settings))
    config = str(files("ingest_api.deploy").joinpath("gunicorn.conf.py"))
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "--config", config])  # noqa: S606


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ingest-api",
        description="Serve the ingest API with gunicorn. The settings are environment variables "
        "(or in a file .env in the current folder); deploy/README.md lists them.",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="only check whether it would start: settings and schema. Exit status 1: it would not; "
        f"{SCHEMA_BEHIND}: the schema is behind",
    )
    number = version("ingest-api")
    parser.add_argument("--version", action="version", version=f"ingest-api {number}")
    return parser.parse_args()


def read_dotenv_file() -> None:
    """Add the variables in .env of the current folder to the environment, which takes precedence.
    SettingsError if it is not text."""
    try:
        load_dotenv(".env")
    except UnicodeDecodeError:
        raise SettingsError({".env": Fault("is not UTF-8 text")}) from None


def _check(settings: Settings) -> int:
    """Return the exit status. An unreachable database is logged, and does not prevent a start."""
    try:
        check_before_serving(settings)
    except OperatorError as error:
        print(error, file=sys.stderr)
        return SCHEMA_BEHIND if isinstance(error, SchemaBehind) else 1
    print("This version would start.")
    return 0


if __name__ == "__main__":
    main()
