"""Form bodies of the endpoints that OAuth and OpenID Connect define."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from aiohttp import web

from gateway.edge.endpoints.endpoint import ProblemReply
from gateway.edge.endpoints.json_body import read_whole
from gateway.strict_json import MOST_BYTES

_FORM_TYPE = re.compile(
    r'application/x-www-form-urlencoded[ \t]*(?:;[ \t]*charset=(?:utf-8|"utf-8")[ \t]*)?', re.I
)
_FIELDS_MAX = 50


@dataclass(frozen=True, slots=True)
class MalformedForm:
    """Why a body is not read as a form; `description` is a constant."""

    description: str
    another_type: bool = False
    """It does not claim to be one, or is encoded besides."""


async def read_form(
    request: web.BaseRequest, most_bytes: int = MOST_BYTES
) -> dict[str, str] | MalformedForm | ProblemReply:
    """The parameters; those without a value count as left out, none may come twice, and what
    is not known is ignored (RFC 6749 section 3.2)."""
    raw = await read_whole(request, most_bytes)
    if isinstance(raw, ProblemReply):
        return raw
    types = request.headers.getall("Content-Type", [])
    if len(types) != 1 or not _FORM_TYPE.fullmatch(types[0].strip()):
        return MalformedForm("the body must be application/x-www-form-urlencoded", True)
    if request.headers.getall("Content-Encoding", []):
        return MalformedForm("the body must not be encoded", True)
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_FIELDS_MAX,
        )
    except ValueError:
        return MalformedForm("the body is not a well-formed form")
    form = dict(pairs)
    if len(form) != len(pairs):
        return MalformedForm("a parameter is repeated")
    return {name: value for name, value in form.items() if value}
