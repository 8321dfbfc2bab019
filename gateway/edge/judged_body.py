"""A JSON body that a policy reads: taken whole, up to 64 KiB, and sent on as it came.

Only routes whose resource names a field of the body have theirs read before the decision.
What two parsers could read in two ways is refused before any policy sees it; a body that is
no JSON has no fields, and a condition that needs one then fails.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from gateway.edge.bodies import JSON_TYPE, MOST_BYTES, parse
from gateway.edge.endpoints import Refused
from gateway.edge.headers import RequestHead
from gateway.edge.server import Refused as CutOff
from gateway.model import Call, Reason


async def take_json(body: StreamReader, head: RequestHead, call: Call) -> StreamReader | Reason:
    """Puts the JSON value into `call.body`; the body to send on, or the Reason to refuse."""
    if head.length is not None and head.length > MOST_BYTES:
        return Reason.BODY_TOO_LARGE
    parts: list[bytes] = []
    held = 0
    try:
        while not body.at_eof():
            part = await body.readany()
            held += len(part)
            if held > MOST_BYTES:
                return Reason.BODY_TOO_LARGE
            parts.append(part)
    except CutOff as cut:  # too slow, or broken in its framing
        return cut.reason
    except (web.RequestPayloadError, HttpProcessingError):
        return Reason.REQUEST_MALFORMED
    raw = b"".join(parts)
    if not raw:
        return _again(raw)
    json = _is_json(call)
    if isinstance(json, Reason):
        return json
    if json:
        value: Any = parse(raw)
        if isinstance(value, Refused):
            return value.reason
        call.body = value
    return _again(raw)


def _is_json(call: Call) -> bool | Reason:
    """Whether it is `application/json` in UTF-8.

    Two types, or JSON in a coding, hide from the policy what the backend reads: to take such
    a body for one without fields would let it past a rule that asks `has(…)`.
    """
    types = [value for name, value in call.headers if name.lower() == b"content-type"]
    if len(types) > 1:
        return Reason.AMBIGUOUS_HEADER
    if not types or not JSON_TYPE.fullmatch(types[0].decode("latin-1")):
        return False
    coded = any(name.lower() == b"content-encoding" for name, _ in call.headers)
    return Reason.MEDIA_TYPE_UNSUPPORTED if coded else True


def _again(raw: bytes) -> StreamReader:
    """The same bytes once more, with their end."""
    loop = asyncio.get_running_loop()
    body = StreamReader(BaseProtocol(loop), 2 * MOST_BYTES, loop=loop)
    if raw:
        body.feed_data(raw)
    body.feed_eof()
    return body
