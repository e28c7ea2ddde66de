"""Fields of the schemas: each accepts what its standard allows and nothing else."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from marshmallow import Schema, ValidationError, fields, validate

from ingest_api.errors import ValidationFailed
from ingest_api.settings_parsers import zone as parse_zone

NAME_LENGTH = 200

# RFC 9562, section 4, with the spellings that other tools print: URN, braces, no dashes.
_UUID = re.compile(
    r"(?:urn:uuid:)?(\{)?[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}(?(1)\})", re.IGNORECASE
)

_DATE_AND_TIME = re.compile(r"[0-9W-]+[T ][0-9:.,]+(?:Z|[+-][0-9:.,]+)?")


def parse_uuid(text: str) -> UUID:
    """Return a UUID from a legal spelling. ValueError (`uuid.UUID` alone accepts more)."""
    if not _UUID.fullmatch(text):
        raise ValueError("not a UUID")
    return UUID(text)


def rfc3339(instant: datetime) -> str:
    """Return an instant in UTC with a Z, as in `2026-01-28T10:00:00.123456Z`."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def rounded(share: float | None) -> float | None:
    """Return a share of 0 to 1 with four digits: one minute of a week."""
    return None if share is None else round(share, 4)


class Uuid(fields.UUID):
    """A UUID in a legal spelling; see `parse_uuid`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> UUID:
        try:
            return parse_uuid(value)
        except (TypeError, ValueError):
            raise self.make_error("invalid_uuid") from None


class IsoDateTime(fields.DateTime):
    """A date and a time in ISO 8601 (`fromisoformat` alone accepts a date without a time, any
    character between the two, and a NUL at the end)."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        # RFC 3339, section 5.6, allows a lower-case t and z as well.
        text = value.upper() if isinstance(value, str) else ""
        if not _DATE_AND_TIME.fullmatch(text):
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE)
        return super()._deserialize(text, attr, data, **kwargs)


class Sha256(fields.String):
    """A SHA-256 in hex, as 32 bytes."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not re.fullmatch(r"[0-9A-Fa-f]{64}", text):
            raise ValidationError("Must be 64 hexadecimal digits.")
        return bytes.fromhex(text)


class FormInteger(fields.Integer):
    """An integer as forms send it: digits only (`int` also accepts 4_8, signs, other scripts)."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", value):
            raise self.make_error("invalid", input=value)
        return int(value)


class JsonInteger(fields.Integer):
    """An integer in JSON: no quotes, no decimal point."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class Text(fields.String):
    """Text that PostgreSQL can store: no NUL, no lone surrogate."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if re.search("[\0\ud800-\udfff]", text):
            raise ValidationError("Contains a character that cannot be stored.")
        return text


def require_printable(text: str) -> None:
    """Raise ValidationError for text that a screen shows other than as it is."""
    if not text.isprintable() or text != text.strip():
        raise ValidationError("Must be printable, without leading or trailing spaces.")


class Name(Text):
    """A name for people: 1 to 200 printable characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(validate=[validate.Length(1, NAME_LENGTH), require_printable], **options)


class TimeZone(fields.String):
    """A time zone by its IANA name."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        name = super()._deserialize(value, attr, data, **kwargs)
        try:
            zone = parse_zone(name)
        except ValueError:
            zone = None
        if zone is None:
            raise ValidationError("Must be an IANA time zone such as Europe/Berlin.")
        return zone.key


class JsonBoolean(fields.Boolean):
    """A JSON true or false, no word or number that stands for one."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


def load(schema: Schema, data: Any) -> Any:
    """Return `data` as loaded by `schema`, by default a dict. ValidationFailed names the fields."""
    try:
        return schema.load(data)
    except ValidationError as error:
        raise validation_failed(dict(error.messages_dict)) from None


def validation_failed(errors: dict[str, Any]) -> ValidationFailed:
    """Return the error that names these fields, with what is wrong with each."""
    names = ", ".join(sorted(map(str, errors)))
    return ValidationFailed(f"{ValidationFailed.message}: {names}", errors=errors)
