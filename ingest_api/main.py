"""Start the service: `python -m ingest_api`, or `ingest-api` where the package is installed.

Becomes gunicorn (same process) with deploy/gunicorn.conf.py, which reads HOST and PORT.
"""

import argparse
import os
import sys
from importlib.resources import files

from dotenv import find_dotenv, load_dotenv

from ingest_api.settings import Settings, SettingsError


def main() -> None:
    """Check the settings, then never return."""
    argparse.ArgumentParser(
        prog="ingest-api",
        description="Serve the ingest API with gunicorn. Everything is set by environment "
        "variables (or a .env file in the current folder); README.md lists them.",
    ).parse_args()
    try:
        load_dotenv(find_dotenv(usecwd=True))
        Settings.from_environ(serving=True)
    except SettingsError as error:
        sys.exit(f"These settings must be changed:\n{error}")
    except UnicodeDecodeError:
        sys.exit("The file .env is not UTF-8 text")
    config = str(files("ingest_api.deploy").joinpath("gunicorn.conf.py"))
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "--config", config])  # noqa: S606


if __name__ == "__main__":
    main()
