"""What a value may look like: each field accepts what its standard allows and nothing else."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from marshmallow import Schema, ValidationError, fields

from ingest_api.errors import ValidationFailed

# RFC 9562, section 4, with the spellings that other tools print: URN, braces, no dashes.
_UUID = re.compile(
    r"(?:urn:uuid:)?(\{)?[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}(?(1)\})", re.IGNORECASE
)

_DATE_AND_TIME = re.compile(r"[0-9W-]+[T ][0-9:.,]+(?:Z|[+-][0-9:.,]+)?")


def parse_uuid(text: str) -> UUID:
    """ValueError unless `text` is a UUID in a legal spelling (`uuid.UUID` alone takes more)."""
    if not _UUID.fullmatch(text):
        raise ValueError("not a UUID")
    return UUID(text)


def rfc3339(instant: datetime) -> str:
    """In UTC with a Z, as in `2026-01-28T10:00:00.123456Z`."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Uuid(fields.UUID):
    """See `parse_uuid`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> UUID:
        try:
            return parse_uuid(value)
        except (TypeError, ValueError):
            raise self.make_error("invalid_uuid") from None


class IsoDateTime(fields.DateTime):
    """A date and a time in ISO 8601 (`fromisoformat` alone takes a date without a time, any
    character between the two, and a NUL at the end)."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        value = value.upper()  # RFC 3339, section 5.6, allows a lower-case t and z as well
        if not _DATE_AND_TIME.fullmatch(value):
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE)
        return super()._deserialize(value, attr, data, **kwargs)


class FormInteger(fields.Integer):
    """A number as forms send it: digits only (`int` also takes 4_8, signs and other scripts)."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", value):
            raise self.make_error("invalid", input=value)
        return int(value)


class JsonInteger(fields.Integer):
    """A number without quotes and without a point."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class Text(fields.String):
    """Text that PostgreSQL can store: no NUL, no half of a surrogate pair."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if re.search("[\0\ud800-\udfff]", text):
            raise ValidationError("Holds a character that cannot be stored.")
        return text


class JsonBoolean(fields.Boolean):
    """true or false, not the words and numbers that stand for them."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


def load(schema: Schema, data: Any) -> Any:
    """Check `data` against `schema` and return what the schema makes of it, by default a dict.
    ValidationFailed names the fields."""
    try:
        return schema.load(data)
    except ValidationError as error:
        raise validation_failed(dict(error.messages_dict)) from None


def validation_failed(errors: dict[str, Any]) -> ValidationFailed:
    """The error that names these fields, with what is wrong with each."""
    names = ", ".join(sorted(map(str, errors)))
    return ValidationFailed(f"{ValidationFailed.message}: {names}", errors=errors)
