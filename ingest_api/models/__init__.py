"""The nouns of the service as frozen dataclasses. No behaviour."""

from ingest_api.models.backup import *  # noqa: F403
from ingest_api.models.chunks import *  # noqa: F403
from ingest_api.models.upkeep import *  # noqa: F403
from ingest_api.models.work import *  # noqa: F403
