"""A JSON body that a policy reads: read whole, up to 64 KiB, and sent on as it came.

Only routes whose resource names a field of the body have theirs read before the decision.
There it is JSON exactly, or refused: taken for a body without fields, what the backend makes
of it would pass a rule that asks `has(…)`.  A call without a body has no fields.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from gateway import strict_json
from gateway.access.field_names import folded
from gateway.access.routing.request_values import HeaderFields
from gateway.edge.http1.request_head import RequestHead
from gateway.edge.server.request_body import RequestBody
from gateway.edge.server.request_parser import Refused as CutOff
from gateway.model import Call, Reason
from gateway.strict_json import MEDIA_TYPE, MOST_BYTES

_TYPE = HeaderFields(("content-type",))


async def take_json(body: StreamReader, head: RequestHead, call: Call) -> StreamReader | Reason:
    """Puts the JSON value into `call.body`; the body to send on, or the Reason to refuse."""
    if head.length is not None and head.length > MOST_BYTES:
        return Reason.BODY_TOO_LARGE
    parts: list[bytes] = []
    size = 0
    try:
        while not body.at_eof():
            part = await body.readany()
            size += len(part)
            if size > MOST_BYTES:
                return Reason.BODY_TOO_LARGE
            parts.append(part)
    except CutOff as cut:  # too slow, or broken in its framing
        return cut.reason
    except (web.RequestPayloadError, HttpProcessingError):
        return Reason.REQUEST_MALFORMED
    raw = b"".join(parts)
    if not raw:
        return _replayed(raw)
    refusal = not_json(call)
    if refusal is not None:
        return refusal
    try:
        call.body = strict_json.loads(raw)
    except ValueError:
        return Reason.BODY_MALFORMED
    return _replayed(raw)


def not_json(call: Call) -> Reason | None:
    """None where the body is said to be `application/json` in UTF-8 and nothing else.

    AMBIGUOUS_HEADER for two types, for another spelling of the field, and for one that
    `Connection` takes away before the backend sees it.
    """
    types = _TYPE.read(call.headers)
    if types is None:
        return Reason.AMBIGUOUS_HEADER
    if not MEDIA_TYPE.fullmatch(types.get("content-type", "")):
        return Reason.MEDIA_TYPE_UNSUPPORTED
    encoded = any(folded(name) == b"content-encoding" for name, _ in call.headers)
    return Reason.MEDIA_TYPE_UNSUPPORTED if encoded else None


def _replayed(raw: bytes) -> StreamReader:
    """The same bytes once more, with their end."""
    loop = asyncio.get_running_loop()
    body = RequestBody(BaseProtocol(loop), 2 * MOST_BYTES, loop=loop)
    if raw:
        body.feed_data(raw)
    body.feed_eof()
    return body
