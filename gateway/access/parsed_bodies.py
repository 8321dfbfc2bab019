"""The JSON body of a call once it is decided: 64 KiB of short lists take 3 MB as objects.

Law: whoever holds a call for longer than its decision takes holds no parsed body; whoever judges it
again parses the bytes again, as the same value.
"""

from __future__ import annotations

from dataclasses import replace

from gateway import strict_json
from gateway.access.record_gaps import body_fields, body_of, read_by
from gateway.access.routing.routes import Route
from gateway.model import Call


def drop_parsed(call: Call, route: Route, *, judged_again: bool) -> None:
    """Leaves of its body what a record of the decision has, and the bytes where it is
    `judged_again`."""
    fields, left_out = body_fields(call.body, read_by(route)[2])
    call.body = body_of(fields, left_out)
    if not judged_again:
        call.raw_body = b""


def unparsed(call: Call) -> Call:
    """The call without the parsed body, for `parsed_again`."""
    return replace(call, body=None) if call.raw_body else call


def parsed_again(call: Call) -> Call:
    """As it was when it was decided; a call that came without bytes of a body as it is."""
    if not call.raw_body:
        return call
    return replace(call, body=strict_json.loads(call.raw_body, encodable=True))
