"""A JSON body that a policy reads: read whole, up to 64 KiB, and sent on as it came.

Only routes whose resource names a field of the body have theirs read before the decision.
There it is JSON exactly, or refused: taken for a body without fields, what the backend makes
of it would pass a rule that asks `has(…)`.  A call without a body has no fields.
"""

from __future__ import annotations

from gateway import strict_json
from gateway.access.field_names import folded
from gateway.access.routing.request_values import HeaderFields
from gateway.edge.server.request_body import RequestBody, whole_body
from gateway.model import Call, Reason
from gateway.strict_json import MEDIA_TYPE, MOST_BYTES

_TYPE = HeaderFields(("content-type",))


async def take_json(body: RequestBody, call: Call) -> RequestBody | Reason:
    """Puts the JSON value into `call.body`; the body to send on, or the Reason to refuse."""
    raw = await body.read_whole(MOST_BYTES)
    if isinstance(raw, Reason):
        return raw
    if raw and (refusal := put_json(raw, call)) is not None:
        return refusal
    return whole_body(raw)


def put_json(raw: bytes, call: Call) -> Reason | None:
    """Puts `raw` and what it says into the call; the Reason to refuse a body that is not JSON."""
    if len(raw) > MOST_BYTES:
        return Reason.BODY_TOO_LARGE
    refusal = not_json(call)
    if refusal is not None:
        return refusal
    try:
        call.body = strict_json.loads(raw, encodable=True)
    except ValueError:
        return Reason.BODY_MALFORMED
    call.raw_body = raw
    # `null` is no object, and would pass for a call without a body.
    return Reason.BODY_MALFORMED if call.body is None else None


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
