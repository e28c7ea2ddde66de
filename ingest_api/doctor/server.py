"""Judges what PostgreSQL reports of itself, without a connection."""

from collections.abc import Iterator, Mapping

from psycopg.sql import Identifier

from ingest_api.database.migrations import OLDEST_POSTGRESQL
from ingest_api.doctor.findings import Finding, fail, ok, warn
from ingest_api.models.server import ServerSetting, Session

SPARE_CONNECTIONS = 5
"""For commands, workers, and an operator who looks for a fault."""

_RESERVED = ("superuser_reserved_connections", "reserved_connections")  # the second since 16


def judge_version(number: int) -> Finding:
    """Judge a server_version_num: 150004 is 15.4."""
    name, found = "PostgreSQL version", f"is {number // 10000}.{number % 10000}"
    if number // 10000 < OLDEST_POSTGRESQL:
        return fail(name, found, f"upgrade it to {OLDEST_POSTGRESQL} or newer")
    return ok(name, found)


def judge_durability(settings: Mapping[str, ServerSetting], session: Session) -> Iterator[Finding]:
    """Judge the settings that the promise of a 200 depends on."""
    risks = {
        "fsync": "a power cut can destroy the whole database",
        "full_page_writes": "a power cut can destroy pages that were being written",
        "synchronous_commit": "a power cut loses rows after a 200",
    }
    for name, risk in risks.items():
        value = settings[name].value
        # The sessions of the service set synchronous_commit themselves, if they need to.
        if value == "off":
            cure = _set(settings[name], "on", session)
            yield fail(f"PostgreSQL {name}", f"is off: {risk}", cure)
        else:
            yield ok(f"PostgreSQL {name}", f"is {value}")
    if settings["data_checksums"].value == "off":
        yield ok("PostgreSQL checksums", "are off: disk damage may go unnoticed")
    else:
        yield ok("PostgreSQL checksums", "are on")


def judge_triggers(settings: Mapping[str, ServerSetting], session: Session) -> Finding:
    name, role = "PostgreSQL triggers", settings["session_replication_role"]
    if role.value != "origin":
        found = f"do not run: {role.name} is {role.value}, so no rule for chunks is enforced"
        return fail(name, found, _set(role, "origin", session))
    return ok(name, "run")


def judge_writable(settings: Mapping[str, ServerSetting], session: Session) -> Finding:
    name, read_only = "database writable", settings["default_transaction_read_only"]
    if session.in_recovery:
        return fail(name, "no: this is a standby", "set DATABASE_URL to the primary server")
    if read_only.value == "on":
        return fail(name, f"no: {read_only.name} is on", _set(read_only, "off", session))
    return ok(name, "yes")


def judge_role(session: Session) -> Finding:
    if session.is_superuser:
        return warn(
            "database role",
            f"{session.role} is a superuser: more than the service needs",
            "set DATABASE_URL to an ordinary role that owns the database",
        )
    return ok("database role", f"{session.role} is not a superuser")


def judge_connections(
    settings: Mapping[str, ServerSetting], session: Session, workers: int, pool_size: int
) -> Finding:
    """Judge whether the pools of all server processes fit, with connections to spare."""
    name, needed = "database connections", workers * pool_size
    limit, source, cure = _tightest_limit(settings, session, needed)
    found = (
        f"{workers} WORKERS x {pool_size} DATABASE_POOL_SIZE = {needed}, "
        f"and {source} allows {limit}"
    )
    advice = f"lower WORKERS or DATABASE_POOL_SIZE, or: {cure}"
    if limit < needed:
        return fail(name, f"{found}: under load uploads get 503", advice)
    if limit - needed < SPARE_CONNECTIONS:
        return warn(name, f"{found}: that leaves {limit - needed} for all others", advice)
    return ok(name, found)


def _tightest_limit(
    settings: Mapping[str, ServerSetting], session: Session, needed: int
) -> tuple[int, str, str]:
    """Return the limit, where it comes from, and how to raise it."""
    enough = needed + 2 * SPARE_CONNECTIONS
    reserved = sum(int(settings[name].value) for name in _RESERVED if name in settings)
    limits = [
        (
            int(settings["max_connections"].value) - reserved,
            "max_connections, less those reserved,",
            f"ALTER SYSTEM SET max_connections = {enough + reserved}, and restart PostgreSQL",
        )
    ]
    if session.role_connection_limit >= 0:  # -1: none
        cure = f"ALTER ROLE {_quoted(session.role)} CONNECTION LIMIT {enough}"
        limits.append((session.role_connection_limit, "the role's CONNECTION LIMIT", cure))
    if session.database_connection_limit >= 0:
        cure = f"ALTER DATABASE {_quoted(session.database)} CONNECTION LIMIT {enough}"
        limits.append((session.database_connection_limit, "the database's CONNECTION LIMIT", cure))
    return min(limits)


def _set(setting: ServerSetting, value: str, session: Session) -> str:
    """Return how to change a setting where it was set; see `source` in the manual's pg_settings."""
    role, database = _quoted(session.role), _quoted(session.database)
    cures = {
        "client": f"remove {setting.name} from DATABASE_URL and PGOPTIONS",
        "command line": f"remove {setting.name} from the command line that starts PostgreSQL",
        "database": f"ALTER DATABASE {database} RESET {setting.name}",
        "database user": f"ALTER ROLE {role} IN DATABASE {database} RESET {setting.name}",
        "user": f"ALTER ROLE {role} RESET {setting.name}",
    }
    everywhere = f"ALTER SYSTEM SET {setting.name} = {value}; SELECT pg_reload_conf()"
    return cures.get(setting.source, everywhere)


def _quoted(name: str) -> str:
    return Identifier(name).as_string()
