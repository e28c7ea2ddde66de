"""The files for containers agree with each other and with the settings. Needs no engine."""

import configparser
import re
from dataclasses import fields
from fnmatch import fnmatch
from pathlib import Path

from ingest_api.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "deploy" / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
EXAMPLE = (ROOT / "deploy" / ".env.example").read_text()
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")

# HEALTHCHECK, the published port and the volume rely on their defaults.
FIXED = {"HOST", "PORT", "AUDIO_STORAGE_DIR"}


def test_the_containers_get_every_setting_and_nothing_misspelled() -> None:
    block = re.search(r"  environment: &settings.*\n((?:    .*\n)+)", COMPOSE)
    assert block
    given = set(re.findall(r"^    (\w+):", block[1], re.MULTILINE))
    settings = {item.name.upper() for item in fields(Settings)}
    assert given == settings - FIXED | {"PGPASSWORD"}


def test_the_example_names_every_variable_and_what_must_be_set() -> None:
    named = set(re.findall(r"^(?:# )?(\w+)=", EXAMPLE, re.MULTILINE))
    assert named == set(re.findall(r"\$\{(\w+)", COMPOSE)) | {"COMPOSE_PROFILES"}
    required = set(re.findall(r"\$\{(\w+):\?", COMPOSE))
    assert required <= set(re.findall(r"^(\w+)=$", EXAMPLE, re.MULTILINE))


def test_the_database_and_its_programs_are_of_one_version() -> None:
    [image] = re.findall(r"image: (postgres:\S+)", COMPOSE)
    assert f"FROM {image} AS postgresql" in DOCKERFILE
    copied = re.findall(r"/usr/lib/postgresql/(\d+)/bin/(\w+)", DOCKERFILE)
    major = re.findall(r"\d+", image)[0]
    assert copied == [(major, "pg_dump"), (major, "pg_restore")]


def test_the_image_tells_the_version_that_is_in_it() -> None:
    version = SETUP["metadata"]["version"]
    assert f'org.opencontainers.image.version="{version}"' in DOCKERFILE


def test_the_builder_gets_all_that_the_wheel_is_made_of() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = [line[1:] for line in ignored if line.startswith("!")]
    folders = SETUP["options"]["package_dir"].split()[2::3]
    data = SETUP["options.package_data"]["ingest_api.deploy"].split()
    needed = {"pyproject.toml", "setup.cfg", "README.md", "deploy/__init__.py"}
    needed |= {folder for folder in folders if folder != "deploy"}
    needed |= {f"deploy/{name}" for name in data}
    for path in needed:
        assert any(fnmatch(path, pattern) for pattern in sent), path
