"""JSON bodies of the built-in endpoints: read, bounded, and checked field by field.

Law: what two parsers could read in two ways is refused (duplicate keys, NaN, broken UTF-8,
depth), and no reply repeats anything that the client sent: a field is named only if the
endpoint knows it, and each problem is a constant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway import strict_json
from gateway.edge.endpoints.endpoint import FieldError, ProblemReply
from gateway.edge.server.endpoint_calls import REQUEST_BODY
from gateway.edge.server.request_body import EMPTY_BODY
from gateway.model import Reason
from gateway.strict_json import MEDIA_TYPE, MOST_BYTES


@dataclass(frozen=True, slots=True)
class Text:
    """A field that holds text of 1 to `longest` characters, or one of `words`."""

    longest: int = 256
    required: bool = True
    words: tuple[str, ...] = ()
    or_null: bool = False

    def problem(self, value: object) -> str | None:
        if value is None and self.or_null:
            return None
        if not isinstance(value, str):
            return "must be text or null" if self.or_null else "must be text"
        if self.words and value not in self.words:
            return "must be " + " or ".join(self.words)
        if not value:
            return "must not be empty"
        if len(value) > self.longest:
            return f"must hold at most {self.longest} characters"
        # JSON can spell half of a surrogate pair, which no UTF-8 can hold.
        if any("\ud800" <= c <= "\udfff" for c in value):
            return "must be text that UTF-8 can hold"
        # Nor can PostgreSQL hold this one.
        if "\x00" in value:
            return "must not hold the character NUL"
        return None


@dataclass(frozen=True, slots=True)
class Flag:
    """A field that holds true or false."""

    required: bool = False

    def problem(self, value: object) -> str | None:
        return None if isinstance(value, bool) else "must be true or false"


@dataclass(frozen=True, slots=True)
class TextList:
    """A field that holds up to `most` texts, each of the form of `pattern`; else `form` says what
    it must hold."""

    most: int
    pattern: re.Pattern[str]
    form: str
    required: bool = False

    def problem(self, value: object) -> str | None:
        if not isinstance(value, list):
            return "must be a list of texts"
        if len(value) > self.most:
            return f"must hold at most {self.most} entries"
        if not all(isinstance(one, str) and self.pattern.fullmatch(one) for one in value):
            return self.form
        return None


@dataclass(frozen=True, slots=True)
class Integer:
    """A field that holds a whole number."""

    least: int
    most: int
    required: bool = False

    def problem(self, value: object) -> str | None:
        # By its type itself: True is an int to Python.
        if type(value) is int and self.least <= value <= self.most:
            return None
        return f"must be a whole number from {self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class JsonObject:
    """A field that holds a JSON object; who reads it judges what is in it."""

    required: bool = True

    def problem(self, value: object) -> str | None:
        return None if isinstance(value, dict) else "must be a JSON object"


Fields = Mapping[str, Text | Flag | TextList | Integer | JsonObject]

PAGE_FIELDS = web.RequestKey("page_fields", dict[str, Any])
"""The fields of a page's form, which the page has read.  They stand in the place of the JSON body:
an endpoint answers a page as it answers every other caller."""

PASSWORD_LONGEST = 1024
"""Characters that are read at all: up to these a password is refused like any over 256."""

EMAIL = Text(longest=1024)
PASSWORD = Text(longest=PASSWORD_LONGEST)


async def read_fields(
    request: web.BaseRequest, fields: Fields, *, optional: bool = False
) -> dict[str, Any] | ProblemReply:
    """Read the fields of the request's JSON object and check them.  With `optional` a request
    without a body has no fields."""
    page_fields = request.get(PAGE_FIELDS)
    if page_fields is not None:
        return check(page_fields, fields)
    if optional and request[REQUEST_BODY] is EMPTY_BODY:
        return {}
    raw = await read_whole(request)
    if isinstance(raw, ProblemReply):
        return raw
    if optional and not raw:
        return {}
    if not _is_json(request):
        return ProblemReply(Reason.MEDIA_TYPE_UNSUPPORTED)
    return check(parse(raw), fields)


async def read_object(request: web.BaseRequest) -> dict[str, Any] | ProblemReply:
    """Read the request's JSON object, whose names whoever asks looks at."""
    page_fields = request.get(PAGE_FIELDS)
    if page_fields is not None:
        return dict(page_fields)
    raw = await read_whole(request)
    if isinstance(raw, ProblemReply):
        return raw
    if not _is_json(request):
        return ProblemReply(Reason.MEDIA_TYPE_UNSUPPORTED)
    value: object = parse(raw)
    if isinstance(value, ProblemReply):
        return value
    if isinstance(value, dict):
        return dict(value)
    return ProblemReply(Reason.BODY_INVALID, (FieldError("", "must be a JSON object"),))


def parse(raw: bytes) -> Any:
    """The JSON value, or Refused."""
    try:
        return strict_json.loads(raw)
    except ValueError:
        return ProblemReply(Reason.BODY_MALFORMED)


def check(value: Any, fields: Fields) -> dict[str, Any] | ProblemReply:
    """Return the fields that are present, if each is known and valid and none is missing."""
    if isinstance(value, ProblemReply):
        return value
    if not isinstance(value, dict):
        return ProblemReply(Reason.BODY_INVALID, (FieldError("", "must be a JSON object"),))
    errors: list[FieldError] = []
    if value.keys() - fields.keys():
        errors.append(FieldError("", "holds a field besides " + ", ".join(fields)))
    for name, field in fields.items():
        if name in value:
            problem = field.problem(value[name])
        else:
            problem = "is missing" if field.required else None
        if problem is not None:
            errors.append(FieldError(name, problem))
    if errors:
        return ProblemReply(Reason.BODY_INVALID, tuple(errors))
    return {name: value[name] for name in fields if name in value}


async def read_whole(
    request: web.BaseRequest, most_bytes: int = MOST_BYTES
) -> bytes | ProblemReply:
    """Read the whole body, up to 64 KiB.  The connection bounds how long that may take."""
    raw = await request[REQUEST_BODY].read_whole(most_bytes)
    return ProblemReply(raw) if isinstance(raw, Reason) else raw


def _is_json(request: web.BaseRequest) -> bool:
    """One Content-Type, `application/json`; UTF-8 is the only charset there is (RFC 8259
    section 8.1), and no coding is undone."""
    types: Sequence[str] = request.headers.getall("Content-Type", [])
    codings = request.headers.getall("Content-Encoding", [])
    return len(types) == 1 and bool(MEDIA_TYPE.fullmatch(types[0].strip())) and not codings
