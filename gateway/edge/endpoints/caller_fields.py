"""The body of a caller who is asked for a credential.

Law: who calls is asked before the body, which a stranger must not have read, and again behind it:
it may come for ten seconds, and what a token gives that was refused meanwhile outlives it.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.access.authorizer import Authenticator
from gateway.edge.endpoints.endpoint import ACCEPTED, ProblemReply
from gateway.edge.endpoints.json_body import Fields, read_fields
from gateway.model import Call, Principal, Reason


async def read_caller_fields(
    authenticator: Authenticator, request: web.BaseRequest, call: Call, fields: Fields
) -> tuple[Principal, dict[str, Any]] | ProblemReply:
    """Who calls, and the fields as `read_fields` reads them."""
    principal = await authenticator.authenticate(call, ACCEPTED)
    if isinstance(principal, Reason):
        return ProblemReply(principal)
    values = await read_fields(request, fields)
    principal = await authenticator.authenticate(call, ACCEPTED)
    if isinstance(principal, Reason):
        return ProblemReply(principal)
    return values if isinstance(values, ProblemReply) else (principal, values)
