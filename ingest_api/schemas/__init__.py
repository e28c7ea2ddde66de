"""The shapes of what comes in and goes out, as marshmallow schemas. Touches no database.

Incoming text is hostile: each field accepts what its standard allows and nothing else.
"""

from ingest_api.schemas.devices import *  # noqa: F403
from ingest_api.schemas.fields import *  # noqa: F403
from ingest_api.schemas.leases import *  # noqa: F403
from ingest_api.schemas.uploads import *  # noqa: F403
