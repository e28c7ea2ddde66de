"""One function a file of `sql/queries`, under the same name: parameters in, rows out.

No decisions here. Errors are psycopg's.
"""

from ingest_api.queries.backup import *  # noqa: F403
from ingest_api.queries.chunks import *  # noqa: F403
from ingest_api.queries.devices import *  # noqa: F403
from ingest_api.queries.leases import *  # noqa: F403
from ingest_api.queries.maintenance import *  # noqa: F403
from ingest_api.queries.operators import *  # noqa: F403
from ingest_api.queries.server import *  # noqa: F403
from ingest_api.queries.stream import *  # noqa: F403
