"""Start the service: `python -m ingest_api`, or `ingest-api` where the package is installed.

Becomes gunicorn (same process) with deploy/gunicorn.conf.py, which reads HOST and PORT.
"""

import argparse
import os
import sys
from importlib.resources import files

from dotenv import load_dotenv

from ingest_api.settings import Settings, SettingsError


def main() -> None:
    """Check the settings, then never return."""
    argparse.ArgumentParser(
        prog="ingest-api",
        description="Serve the ingest API with gunicorn. Everything is set by environment "
        "variables (or a file .env in the current folder); README.md lists them.",
    ).parse_args()
    try:
        read_dotenv_file()
        Settings.from_environ(serving=True)
    except SettingsError as error:
        sys.exit(f"These settings must be changed:\n{error}")
    config = str(files("ingest_api.deploy").joinpath("gunicorn.conf.py"))
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "--config", config])  # noqa: S606


def read_dotenv_file() -> None:
    """Put what .env in the current folder sets, and the environment does not, into the
    environment. SettingsError when it is no text."""
    try:
        load_dotenv(".env")
    except UnicodeDecodeError:
        raise SettingsError(".env: is not UTF-8 text") from None


if __name__ == "__main__":
    main()
