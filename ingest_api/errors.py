"""The service's own errors: code, HTTP status and message, on one screen.

`web/problems.py` turns them into HTTP answers; errors of HTTP itself, such as 404 `not_found`, are
named there after their status. Codes and messages are part of the contract
(ingest_api/web/README.md, "Errors"): existing tooling looks for them.
"""

from http import HTTPStatus
from typing import Any, ClassVar


class OperatorError(Exception):
    """An error that an operator can fix: what is wrong, and advice on what to do.

    `advice` begins in lower case; it is empty where the message suffices.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        self.message, self.advice = message, advice
        super().__init__(f"{message}. {advice[0].upper()}{advice[1:]}" if advice else message)


class IngestError(Exception):
    """A request that cannot be served, and why.

    `retryable` says whether the same request may succeed later with nothing changed. `errors` maps
    field names to messages.
    """

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    code: ClassVar[str] = "internal_error"
    message: ClassVar[str] = "Internal error; the log has the cause under this request_id"
    retryable: ClassVar[bool] = True

    def __init_subclass__(
        cls, *, status: int, code: str, message: str, retryable: bool = False
    ) -> None:
        cls.status, cls.code = HTTPStatus(status), code
        cls.message, cls.retryable = message, retryable

    def __init__(
        self, detail: str | None = None, *, errors: dict[str, list[str]] | None = None
    ) -> None:
        self.detail = detail or self.message
        self.errors = errors or {}
        super().__init__(self.detail)

    @property
    def is_final(self) -> bool:
        """Return whether the request is refused for what it contains. The same would be refused
        again; so would a file that no longer has its checksum, whatever its sender is told."""
        final = not self.retryable or isinstance(self, ChecksumMismatch)
        return final and HTTPStatus.BAD_REQUEST <= self.status < 500

    @property
    def cause(self) -> str:
        """Return the underlying error, else the detail: for the log, never for the client."""
        return str(self.__cause__ or self.detail)


# fmt: off
class MissingToken(IngestError, status=401, code="missing_token",
                   message="Missing Authorization header"): ...
class InvalidScheme(IngestError, status=401, code="invalid_scheme",
                    message="Invalid authorization scheme"): ...
class EmptyToken(IngestError, status=401, code="empty_token",
                 message="Empty token"): ...
class InvalidToken(IngestError, status=401, code="invalid_token",
                   message="Invalid or disabled device token"): ...
class DeviceDisabled(IngestError, status=401, code="device_disabled",
                     message="Invalid or disabled device token"): ...
class InvalidAdminToken(IngestError, status=401, code="invalid_admin_token",
                        message="Invalid admin token"): ...
class DefaultAdminToken(IngestError, status=401, code="default_admin_token",
                        message="The default admin token works without a proxy only, on the "
                                "same machine: set ADMIN_TOKEN"): ...
class InvalidInternalToken(IngestError, status=401, code="invalid_internal_token",
                           message="Invalid internal token"): ...
class InvalidMetricsToken(IngestError, status=401, code="invalid_metrics_token",
                          message="Invalid metrics token"): ...
class InternalNotConfigured(IngestError, status=401, code="internal_not_configured",
                            message="Internal endpoint not configured"): ...

class DeviceMismatch(IngestError, status=422, code="device_mismatch",
                     message="device_id does not match authenticated device"): ...
class IdentityMismatch(IngestError, status=422, code="identity_mismatch",
                       message="point_id or register_id does not match device registration"): ...
class InvalidInterval(IngestError, status=422, code="invalid_interval",
                      message="end_ts must be after start_ts"): ...
class NaiveTimestamp(IngestError, status=422, code="naive_timestamp",
                     message="A timestamp has no UTC offset. End it with one (such as Z or "
                     "+03:00), or have the operator set NAIVE_TIMESTAMP_ZONE to the zone of the "
                     "devices' clocks"): ...
class ValidationFailed(IngestError, status=422, code="validation_error",
                       message="Some fields are missing or malformed"): ...
class ChecksumMismatch(IngestError, status=422, code="checksum_mismatch", retryable=True,
                       message="The bytes of chunk_file do not have the SHA-256 that was declared "
                               "for them; nothing was stored"): ...
class EmptyFile(IngestError, status=422, code="empty_file",
                message="Empty file"): ...

class FileTooLarge(IngestError, status=413, code="file_too_large",
                   message="File exceeds maximum size"): ...
class RequestTooLarge(IngestError, status=413, code="request_too_large",
                      message="The body is too large"): ...
class BadRequest(IngestError, status=400, code="bad_request",
                 message="The request could not be understood"): ...
class TruncatedBody(IngestError, status=400, code="bad_request", retryable=True,
                    message="The body ended before it was complete"): ...
class RequestTimeout(IngestError, status=408, code="request_timeout", retryable=True,
                     message="The request stalled or arrived too slowly"): ...
class UnsupportedMediaType(IngestError, status=415, code="unsupported_media_type",
                           message="This media type is not accepted here"): ...
class UnsupportedEncoding(IngestError, status=415, code="unsupported_media_type",
                          message="A Content-Encoding is not accepted here: send the body as it "
                          "is, without compression"): ...

class DeviceExists(IngestError, status=409, code="device_exists",
                   message="Device already exists"): ...
class TokenInUse(IngestError, status=409, code="token_in_use",
                 message="Device already exists with this token: tokens must differ"): ...
class DeviceNotFound(IngestError, status=404, code="device_not_found",
                     message="Device not found"): ...
class PointNotFound(IngestError, status=404, code="point_not_found",
                    message="Point not found"): ...
class RegisterNotFound(IngestError, status=404, code="register_not_found",
                       message="No device is registered at this register now, or at several "
                               "points: name the point or the device as well"): ...
class CoverageTooLarge(IngestError, status=422, code="coverage_too_large",
                       message="This is too much for one answer"): ...
class ChunkNotFound(IngestError, status=404, code="chunk_not_found",
                    message="Chunk not found"): ...

class ChunkPruned(IngestError, status=410, code="chunk_pruned",
                  message="Retention has removed this chunk"): ...
class ChunkFinished(IngestError, status=409, code="chunk_finished",
                    message="This chunk is already finished"): ...
class ChunkInWork(IngestError, status=409, code="chunk_in_work", retryable=True,
                  message="Another worker holds the lease of this chunk"): ...
class ChunkLocked(IngestError, status=503, code="chunk_locked", retryable=True,
                  message="Another session is changing this chunk; try again"): ...
class LeaseLost(IngestError, status=409, code="lease_lost",
                message="The lease is lost"): ...
class FileMissing(IngestError, status=500, code="file_missing",
                  message="The chunk's file is missing. Run flask ingest fsck for details"): ...
class FileDamaged(IngestError, status=500, code="file_damaged",
                  message="The chunk's file is damaged. Run flask ingest fsck for details"): ...

class DatabaseUnavailable(IngestError, status=503, code="database_unavailable", retryable=True,
                          message="The database is unreachable; try again"): ...
class StorageUnavailable(IngestError, status=503, code="storage_unavailable", retryable=True,
                         message="The storage is not writable; try again"): ...
class StorageFull(IngestError, status=507, code="storage_full", retryable=True,
                  message="The storage is full; try again later"): ...


def document(
    status: HTTPStatus, code: str, detail: str, *, retryable: bool, request_id: str
) -> dict[str, Any]:
    """Return the members that every problem document has (RFC 9457)."""
    return {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "code": code,
        "retryable": retryable,
        "request_id": request_id,
    }
