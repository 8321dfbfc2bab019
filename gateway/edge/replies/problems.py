"""The one table of problems: what each Reason looks like to a client (RFC 9457).

Law: an answer is made of constants, the request id and what the caller of `problem` passes as
`errors`.  It never holds bytes of the request, a library's name or an exception's text, so
nothing that a stranger sends comes back to a page or a log.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import NamedTuple

from aiohttp import web

from gateway.access.definitions import DEFAULT_CHALLENGE, Challenge
from gateway.access.routing.routes import Route
from gateway.edge.replies.challenges import ResourceChallenge, scope_challenge, sign_in_challenge
from gateway.edge.replies.problem_types import ProblemTypes
from gateway.edge.replies.response_bytes import response_bytes
from gateway.model import Call, Reason

OUTCOME = web.ResponseKey("outcome", str)
"""Why it was refused, for who counts and logs; absent from a good answer."""

SERVER = "authgate"

OWN_HEADERS: dict[str, str] = {
    "Server": SERVER,
    "Proxy-Status": SERVER,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    # No page of another origin embeds it; a fetch with CORS is not asked about this.
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What every answer of the gateway's own carries; `HSTS` is added on https."""

HSTS = "max-age=31536000; includeSubDomains"


class ProblemType(NamedTuple):
    """A row of the table.  `proxy_error` is an error type of RFC 9209 section 2.3."""

    status: int
    title: str
    detail: str
    proxy_error: str
    retry_after_s: int = 0


_SPOKEN = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
"""RFC 6455 section 4.2.2 has a 426 name the version, RFC 9110 section 15.5.22 the protocol."""

_DENIED = "http_request_denied"
_ERROR = "http_request_error"
_OWN = "proxy_internal_response"

PROBLEMS: dict[Reason, ProblemType] = {
    Reason.REQUEST_MALFORMED: ProblemType(
        400, "Malformed request", "The request is not well-formed HTTP/1.1.", _ERROR
    ),
    Reason.AMBIGUOUS_PATH: ProblemType(
        400, "Ambiguous path", "The path can be read in more than one way.", _ERROR
    ),
    Reason.AMBIGUOUS_QUERY: ProblemType(
        400,
        "Ambiguous query",
        "A parameter that the policy reads is said twice, or does not decode.",
        _ERROR,
    ),
    Reason.AMBIGUOUS_HEADER: ProblemType(
        400,
        "Ambiguous header",
        "A header field that must appear once is repeated or does not decode.",
        _ERROR,
    ),
    Reason.HOST_MISMATCH: ProblemType(
        400, "Host mismatch", "The request target and the Host field disagree.", _ERROR
    ),
    Reason.BODY_MALFORMED: ProblemType(
        400, "Malformed body", "It is no well-formed JSON, or can be read in two ways.", _ERROR
    ),
    Reason.INVALID_TOKEN: ProblemType(
        400, "Invalid link or token", "It is unknown, was used, or has expired.", _ERROR
    ),
    Reason.NO_CREDENTIAL: ProblemType(
        401, "Sign-in required", "This call needs a credential, and none came.", _DENIED
    ),
    Reason.TOKEN_MALFORMED: ProblemType(
        401,
        "Malformed token",
        "The credential cannot be read as an access token or a key.",
        _DENIED,
    ),
    Reason.TOKEN_SIGNATURE_INVALID: ProblemType(
        401, "Invalid signature", "The signature of the token does not hold.", _DENIED
    ),
    Reason.TOKEN_EXPIRED: ProblemType(
        401, "Token expired", "The token was good until it expired; refresh it.", _DENIED
    ),
    Reason.TOKEN_CLAIMS_INVALID: ProblemType(
        401, "Invalid claims", "A claim of the token is missing, wrong or not for here.", _DENIED
    ),
    Reason.TOKEN_REVOKED: ProblemType(401, "Token revoked", "The token has been revoked.", _DENIED),
    Reason.TOKEN_OUTDATED: ProblemType(
        401, "Token outdated", "The account has changed since; refresh the token.", _DENIED
    ),
    Reason.KEY_UNKNOWN: ProblemType(
        401, "Unknown key", "The token names a signing key that is not known here.", _DENIED
    ),
    Reason.SESSION_UNKNOWN: ProblemType(
        401, "Unknown session", "The session is unknown or has ended; sign in again.", _DENIED
    ),
    Reason.INVALID_CREDENTIALS: ProblemType(
        401, "Invalid credentials", "The address and the password do not match.", _DENIED
    ),
    Reason.INVALID_REFRESH_TOKEN: ProblemType(
        401, "Invalid refresh token", "The refresh token is unknown or has ended.", _DENIED
    ),
    Reason.REFRESH_TOKEN_REUSED: ProblemType(
        401, "Refresh token reused", "The refresh token was used before; sign in again.", _DENIED
    ),
    Reason.INSUFFICIENT_USER_AUTHENTICATION: ProblemType(
        401, "Stronger sign-in required", "This call needs a fresher or stronger sign-in.", _DENIED
    ),
    Reason.NO_RULE: ProblemType(
        403, "Forbidden", "No rule of the policy allows this call.", _DENIED
    ),
    Reason.CONDITION_FAILED: ProblemType(
        403,
        "Condition failed",
        "A condition of the policy could not be evaluated for this call.",
        _DENIED,
    ),
    Reason.INSUFFICIENT_SCOPE: ProblemType(
        403,
        "Insufficient scope",
        "The token lacks scopes that this resource asks for; ask its issuer for one with them.",
        _DENIED,
    ),
    Reason.CROSS_ORIGIN: ProblemType(
        403, "Cross-origin call", "The cookie does not count for a call of this origin.", _DENIED
    ),
    Reason.CSRF_INVALID: ProblemType(
        403, "Invalid CSRF token", "The CSRF token is missing or wrong.", _DENIED
    ),
    Reason.REGISTRATION_CLOSED: ProblemType(
        403, "Registration closed", "Nobody can register here.", _DENIED
    ),
    Reason.EMAIL_UNVERIFIED: ProblemType(
        403, "Address not verified", "The address of the account must be verified first.", _DENIED
    ),
    Reason.ACCOUNT_DISABLED: ProblemType(
        403, "Account disabled", "The account is disabled.", _DENIED
    ),
    Reason.CAPTCHA_REQUIRED: ProblemType(
        403, "CAPTCHA required", "A solved challenge must come with this call.", _DENIED
    ),
    Reason.ROUTE_UNKNOWN: ProblemType(
        404, "Not found", "There is nothing at this address.", "destination_not_found"
    ),
    Reason.METHOD_NOT_ALLOWED: ProblemType(
        405, "Method not allowed", "The address exists, but not for this method.", _ERROR
    ),
    Reason.REQUEST_TIMEOUT: ProblemType(
        408, "Request timeout", "The request did not arrive in time.", _ERROR
    ),
    Reason.EMAIL_TAKEN: ProblemType(
        409, "Address taken", "An account with this address exists.", _ERROR
    ),
    Reason.BODY_TOO_LARGE: ProblemType(
        413, "Body too large", "The body is larger than this address takes.", _ERROR
    ),
    Reason.TARGET_TOO_LONG: ProblemType(
        414, "Target too long", "The request line is longer than 8 KiB.", _ERROR
    ),
    Reason.MEDIA_TYPE_UNSUPPORTED: ProblemType(
        415, "Unsupported media type", "The body has a media type that is not taken here.", _ERROR
    ),
    Reason.BODY_INVALID: ProblemType(
        422, "Invalid body", "A field of the body is missing, unknown or wrong.", _ERROR
    ),
    Reason.WEAK_PASSWORD: ProblemType(
        422, "Weak password", "The password is too easy to guess.", _ERROR
    ),
    Reason.UPGRADE_REQUIRED: ProblemType(
        426, "Upgrade required", "Only version 13 of the WebSocket protocol is spoken.", _ERROR
    ),
    Reason.RATE_LIMITED: ProblemType(
        429, "Too many requests", "The limit of this address is used up for now.", _DENIED, 1
    ),
    Reason.TOO_MANY_ATTEMPTS: ProblemType(
        429, "Too many attempts", "Too many attempts failed; try again later.", _DENIED, 1
    ),
    Reason.HEADER_TOO_LARGE: ProblemType(
        431, "Header too large", "The header section is over 16 KiB or 100 fields.", _ERROR
    ),
    Reason.INTERNAL_ERROR: ProblemType(
        500,
        "Internal error",
        "The gateway failed; the request id finds it.",
        "proxy_internal_error",
    ),
    Reason.UPSTREAM_UNREACHABLE: ProblemType(
        502, "Upstream unreachable", "The backend does not answer.", "destination_unavailable"
    ),
    Reason.UPSTREAM_MALFORMED: ProblemType(
        502, "Malformed upstream answer", "The backend's answer is not HTTP.", "http_protocol_error"
    ),
    Reason.UPSTREAM_TIMEOUT: ProblemType(
        504, "Upstream timeout", "The backend did not answer in time.", "http_response_timeout"
    ),
    Reason.REPLICA_STALE: ProblemType(
        503, "Not ready", "This worker cannot confirm what has been revoked.", _OWN, 2
    ),
    Reason.STORE_UNAVAILABLE: ProblemType(
        503, "Store unavailable", "A store that this call needs is away.", _OWN, 5
    ),
    Reason.STORE_BUSY: ProblemType(
        503, "Store busy", "Too many calls wait for a store; try again.", _OWN, 1
    ),
    Reason.ISSUER_UNAVAILABLE: ProblemType(
        503, "Issuer unavailable", "The issuer of this token cannot be asked now.", _OWN, 5
    ),
    Reason.REVOCATION_PENDING: ProblemType(
        503,
        "Revocation pending",
        "The session has ended; not every worker has confirmed it yet.",
        _OWN,
        1,
    ),
    Reason.HASHING_BUSY: ProblemType(
        503, "Busy", "Too many sign-ins are being checked; try again.", _OWN, 1
    ),
    Reason.UPSTREAM_BUSY: ProblemType(
        503, "Upstream busy", "The backend takes no more calls now.", "connection_limit_reached", 1
    ),
    Reason.DRAINING: ProblemType(503, "Draining", "This instance is shutting down.", _OWN, 1),
}

# A reason that a rule gives is the operator's word; its status is always 403.
RULE_PROBLEM = ProblemType(403, "Forbidden", "A rule of the policy refuses this call.", _DENIED)


def problem_type(reason: str, refusal: Reason | None = None) -> ProblemType:
    """The row for `refusal`, or for `reason` where that is a Reason; a rule's own is 403."""
    key = refusal if refusal is not None else reason
    return PROBLEMS[key] if isinstance(key, Reason) else RULE_PROBLEM


def problem(
    reason: str,
    *,
    request_id: str,
    refusal: Reason | None = None,
    detail: str | None = None,
    retry_after_s: float = 0.0,
    allow: Sequence[str] = (),
    errors: Sequence[Mapping[str, str]] | None = None,
    members: Mapping[str, object] | None = None,
    conceal: bool = False,
    https: bool = False,
    extra_headers: Mapping[str, str] | None = None,
) -> web.Response:
    """An RFC 9457 answer for `reason`; `errors` names fields of the body and what is wrong,
    `members` are said besides.

    With `conceal` the answer is that of an unknown route, to the byte.  `detail` must be a
    constant of the caller, never text of the request.
    """
    row, headers, body = problem_parts(
        reason,
        refusal,
        request_id,
        detail=detail,
        retry_after_s=retry_after_s,
        allow=allow,
        errors=errors,
        members=members,
        conceal=conceal,
        https=https,
        extra_headers=extra_headers,
    )
    answer = web.Response(status=row.status, headers=headers, body=body)
    answer[OUTCOME] = str(reason)
    return answer


def link_problem(answer: web.StreamResponse, types: ProblemTypes) -> None:
    """Gives an answer of an endpoint the `type` that is wanted, where it is a problem."""
    if OUTCOME in answer and isinstance(answer, web.Response) and isinstance(answer.body, bytes):
        answer.body = types.linked(answer.body)


def problem_bytes(
    reason: Reason,
    *,
    request_id: str,
    https: bool = False,
    to_head: bool = False,
    types: ProblemTypes | None = None,
) -> bytes:
    """The whole answer as it goes on the wire, for requests that never became one.

    The connection is closed after it.
    """
    row, headers, body = problem_parts(reason, None, request_id, https=https)
    if types is not None:
        body = types.linked(body)
    return response_bytes(row.status, headers, body, b"Connection: close\r\n", to_head=to_head)


def problem_parts(
    reason: str,
    refusal: Reason | None,
    request_id: str,
    *,
    detail: str | None = None,
    retry_after_s: float = 0.0,
    allow: Sequence[str] = (),
    errors: Sequence[Mapping[str, str]] | None = None,
    members: Mapping[str, object] | None = None,
    conceal: bool = False,
    https: bool = False,
    extra_headers: Mapping[str, str] | None = None,
    challenge: Challenge = DEFAULT_CHALLENGE,
    resource: ResourceChallenge | None = None,
) -> tuple[ProblemType, dict[str, str], bytes]:
    """Row, header fields and body of `problem`; `challenge` and `resource` are the route's."""
    if conceal:
        reason, refusal, detail, errors, members = Reason.ROUTE_UNKNOWN, None, None, None, None
        retry_after_s, allow, extra_headers, resource = 0.0, (), None, None
    row = problem_type(reason, refusal)
    text = detail or row.detail
    lacking = () if resource is None else resource.lacking
    if errors is None and not members and not lacking:
        # To the byte what json.dumps makes of it, at a tenth of the cost: strangers make as many
        # refusals as they like.
        document = (
            f'{{"type": {quoted("urn:authgate:reason:" + reason)}, "title": {quoted(row.title)},'
            f' "status": {row.status}, "detail": {quoted(text)},'
            f' "reason": {quoted(str(reason))}, "request_id": {quoted(request_id)}}}'
        )
    else:
        parts: dict[str, object] = {
            "type": f"urn:authgate:reason:{reason}",
            "title": row.title,
            "status": row.status,
            "detail": text,
            "reason": str(reason),
            "request_id": request_id,
        }
        if errors is not None:
            parts["errors"] = [dict(error) for error in errors]
        parts.update(members or {})
        if lacking:
            parts["missing_scopes"] = list(lacking)
        document = json.dumps(parts)
    headers = {"Content-Type": "application/problem+json", **OWN_HEADERS}
    headers["X-Request-Id"] = request_id
    headers["Proxy-Status"] = f"{SERVER}; error={row.proxy_error}"
    if https:
        headers["Strict-Transport-Security"] = HSTS
    if row.status == 401:
        headers["WWW-Authenticate"] = sign_in_challenge(reason, challenge, resource)
    elif resource is not None and resource.lacking:
        headers["WWW-Authenticate"] = scope_challenge(challenge, resource)
    if row.status in (429, 503):
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_s or row.retry_after_s)))
    if row.status == 405:
        headers["Allow"] = ", ".join(allow)
    if row.status == 426:
        headers.update(_SPOKEN)
    if extra_headers:
        headers.update(extra_headers)
    return row, headers, document.encode("ascii")


def direct_response_fields(
    route: Route, call: Call, request_id: str, extra_headers: Mapping[str, str]
) -> list[tuple[str, str]]:
    """The fields of a direct response; `extra_headers` are those of CORS and limits."""
    response = route.direct_response
    assert response is not None
    fields = [("Server", SERVER), ("X-Request-Id", request_id), ("Proxy-Status", SERVER)]
    fields += response.fields
    location = response.leads_to(call.query)
    if location is not None:
        fields.append(("Location", location))
    fields += extra_headers.items()
    if route.security_headers is not None:
        fields += route.security_headers.fields
        if route.security_headers.hsts is not None and call.scheme == "https":
            fields.append(("Strict-Transport-Security", route.security_headers.hsts))
    return fields
