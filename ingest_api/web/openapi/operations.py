"""What is said of a view beside it, for the API's description. It costs a request nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from marshmallow import Schema

from ingest_api.errors import IngestError

_View = TypeVar("_View", bound=Callable[..., Any])
_ATTRIBUTE = "openapi_operation"


@dataclass(frozen=True)
class Operation:
    """A request and its answers. What follows from the path and the body is not repeated here:
    the token, and the errors of tokens, bodies and the database."""

    summary: str
    answer: type[Schema] | None = None  # in JSON
    body: type[Schema] | None = None  # in JSON
    query: type[Schema] | None = None
    statuses: tuple[int, ...] = (200,)
    errors: tuple[type[IngestError], ...] = ()
    media: tuple[str, ...] = ()  # in which the answer comes as well
    is_upload: bool = False
    is_file: bool = False  # with ranges and conditions
    is_list: bool = False  # without parameters an array of what the page has


def describe(summary: str, **more: Any) -> Callable[[_View], _View]:
    """Describe a view by the fields of `Operation`."""

    def decorate(view: _View) -> _View:
        setattr(view, _ATTRIBUTE, Operation(summary, **more))
        return view

    return decorate


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """Return what is said of a view."""
    found: Operation | None = getattr(view, _ATTRIBUTE, None)
    return found
