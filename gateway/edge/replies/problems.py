"""The one table of refusals: what each Reason looks like to a client.

Law: an answer is made of constants, the request id and what the caller of `problem` passes as
`errors`.  It never holds bytes of the request, a library's name or an exception's text, so
nothing that a stranger sends comes back to a page or a log.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import web

from gateway.access.routing.routes import Route
from gateway.edge.http1.date_header import date_line
from gateway.edge.http1.request_head import RequestHead
from gateway.model import Call, Reason

OUTCOME = web.ResponseKey("outcome", str)
"""Why it was refused, for who counts and logs; absent from a good answer."""

SERVER = "authgate"
REALM = "authgate"

OWN_HEADERS: dict[str, str] = {
    "Server": SERVER,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    # No page of another origin embeds it; a fetch with CORS is not asked about this.
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What every answer of the gateway's own carries; `HSTS` is added on https."""

HSTS = "max-age=31536000; includeSubDomains"


class Refusal(NamedTuple):
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

REFUSALS: dict[Reason, Refusal] = {
    Reason.REQUEST_MALFORMED: Refusal(
        400, "Malformed request", "The request is not well-formed HTTP/1.1.", _ERROR
    ),
    Reason.AMBIGUOUS_PATH: Refusal(
        400, "Ambiguous path", "The path can be read in more than one way.", _ERROR
    ),
    Reason.AMBIGUOUS_QUERY: Refusal(
        400,
        "Ambiguous query",
        "A query parameter that the policy reads is repeated or does not decode.",
        _ERROR,
    ),
    Reason.AMBIGUOUS_HEADER: Refusal(
        400,
        "Ambiguous header",
        "A header field that must appear once is repeated or does not decode.",
        _ERROR,
    ),
    Reason.HOST_MISMATCH: Refusal(
        400, "Host mismatch", "The request target and the Host field disagree.", _ERROR
    ),
    Reason.BODY_MALFORMED: Refusal(
        400, "Malformed body", "The body is not one well-formed JSON document.", _ERROR
    ),
    Reason.INVALID_TOKEN: Refusal(
        400, "Invalid link", "The link is unknown, was used, or has expired.", _ERROR
    ),
    Reason.NO_CREDENTIAL: Refusal(
        401, "Sign-in required", "This call needs a credential, and none came.", _DENIED
    ),
    Reason.TOKEN_MALFORMED: Refusal(
        401, "Malformed token", "The credential cannot be read as an access token.", _DENIED
    ),
    Reason.TOKEN_SIGNATURE_INVALID: Refusal(
        401, "Invalid signature", "The signature of the token does not hold.", _DENIED
    ),
    Reason.TOKEN_EXPIRED: Refusal(
        401, "Token expired", "The token was good until it expired; refresh it.", _DENIED
    ),
    Reason.TOKEN_CLAIMS_INVALID: Refusal(
        401, "Invalid claims", "A claim of the token is missing, wrong or not for here.", _DENIED
    ),
    Reason.TOKEN_REVOKED: Refusal(401, "Token revoked", "The token has been revoked.", _DENIED),
    Reason.TOKEN_OUTDATED: Refusal(
        401, "Token outdated", "The account has changed since; refresh the token.", _DENIED
    ),
    Reason.KEY_UNKNOWN: Refusal(
        401, "Unknown key", "The token names a signing key that is not known here.", _DENIED
    ),
    Reason.SESSION_UNKNOWN: Refusal(
        401, "Unknown session", "The session is unknown or has ended; sign in again.", _DENIED
    ),
    Reason.INVALID_CREDENTIALS: Refusal(
        401, "Invalid credentials", "The address and the password do not match.", _DENIED
    ),
    Reason.INVALID_REFRESH_TOKEN: Refusal(
        401, "Invalid refresh token", "The refresh token is unknown or has ended.", _DENIED
    ),
    Reason.REFRESH_TOKEN_REUSED: Refusal(
        401, "Refresh token reused", "The refresh token was used before; sign in again.", _DENIED
    ),
    Reason.INSUFFICIENT_USER_AUTHENTICATION: Refusal(
        401, "Stronger sign-in required", "This call needs a fresher or stronger sign-in.", _DENIED
    ),
    Reason.NO_RULE: Refusal(403, "Forbidden", "No rule of the policy allows this call.", _DENIED),
    Reason.CONDITION_FAILED: Refusal(
        403,
        "Condition failed",
        "A condition of the policy could not be evaluated for this call.",
        _DENIED,
    ),
    Reason.CROSS_ORIGIN: Refusal(
        403, "Cross-origin call", "The cookie does not count for a call of this origin.", _DENIED
    ),
    Reason.CSRF_INVALID: Refusal(
        403, "Invalid CSRF token", "The CSRF token is missing or wrong.", _DENIED
    ),
    Reason.EMAIL_UNVERIFIED: Refusal(
        403, "Address not verified", "The address of the account must be verified first.", _DENIED
    ),
    Reason.ACCOUNT_DISABLED: Refusal(403, "Account disabled", "The account is disabled.", _DENIED),
    Reason.CAPTCHA_REQUIRED: Refusal(
        403, "CAPTCHA required", "A solved challenge must come with this call.", _DENIED
    ),
    Reason.ROUTE_UNKNOWN: Refusal(
        404, "Not found", "There is nothing at this address.", "destination_not_found"
    ),
    Reason.METHOD_NOT_ALLOWED: Refusal(
        405, "Method not allowed", "The address exists, but not for this method.", _ERROR
    ),
    Reason.REQUEST_TIMEOUT: Refusal(
        408, "Request timeout", "The request did not arrive in time.", _ERROR
    ),
    Reason.EMAIL_TAKEN: Refusal(
        409, "Address taken", "An account with this address exists.", _ERROR
    ),
    Reason.BODY_TOO_LARGE: Refusal(
        413, "Body too large", "The body is larger than this address takes.", _ERROR
    ),
    Reason.TARGET_TOO_LONG: Refusal(
        414, "Target too long", "The request line is longer than 8 KiB.", _ERROR
    ),
    Reason.MEDIA_TYPE_UNSUPPORTED: Refusal(
        415, "Unsupported media type", "The body has a media type that is not taken here.", _ERROR
    ),
    Reason.BODY_INVALID: Refusal(
        422, "Invalid body", "A field of the body is missing, unknown or wrong.", _ERROR
    ),
    Reason.WEAK_PASSWORD: Refusal(
        422, "Weak password", "The password is too easy to guess.", _ERROR
    ),
    Reason.UPGRADE_REQUIRED: Refusal(
        426, "Upgrade required", "Only version 13 of the WebSocket protocol is spoken.", _ERROR
    ),
    Reason.RATE_LIMITED: Refusal(
        429, "Too many requests", "The limit of this address is used up for now.", _DENIED, 1
    ),
    Reason.TOO_MANY_ATTEMPTS: Refusal(
        429, "Too many attempts", "Too many attempts failed; try again later.", _DENIED, 1
    ),
    Reason.HEADER_TOO_LARGE: Refusal(
        431, "Header too large", "The header section is over 16 KiB or 100 fields.", _ERROR
    ),
    Reason.INTERNAL_ERROR: Refusal(
        500,
        "Internal error",
        "The gateway failed; the request id finds it.",
        "proxy_internal_error",
    ),
    Reason.UPSTREAM_UNREACHABLE: Refusal(
        502, "Upstream unreachable", "The backend does not answer.", "destination_unavailable"
    ),
    Reason.UPSTREAM_MALFORMED: Refusal(
        502, "Malformed upstream answer", "The backend's answer is not HTTP.", "http_protocol_error"
    ),
    Reason.UPSTREAM_TIMEOUT: Refusal(
        504, "Upstream timeout", "The backend did not answer in time.", "http_response_timeout"
    ),
    Reason.REPLICA_STALE: Refusal(
        503, "Not ready", "This worker cannot confirm what has been revoked.", _OWN, 2
    ),
    Reason.STORE_UNAVAILABLE: Refusal(
        503, "Store unavailable", "A store that this call needs is away.", _OWN, 5
    ),
    Reason.STORE_BUSY: Refusal(
        503, "Store busy", "Too many calls wait for a store; try again.", _OWN, 1
    ),
    Reason.REVOCATION_PENDING: Refusal(
        503,
        "Revocation pending",
        "The session has ended; not every worker has confirmed it yet.",
        _OWN,
        1,
    ),
    Reason.HASHING_BUSY: Refusal(
        503, "Busy", "Too many sign-ins are being checked; try again.", _OWN, 1
    ),
    Reason.UPSTREAM_BUSY: Refusal(
        503, "Upstream busy", "The backend takes no more calls now.", "connection_limit_reached", 1
    ),
    Reason.DRAINING: Refusal(503, "Draining", "This instance is shutting down.", _OWN, 1),
}

# A reason that a rule gives is the operator's word; its status is always 403.
RULE_REFUSAL = Refusal(403, "Forbidden", "A rule of the policy refuses this call.", _DENIED)


def refusal_of(reason: str, refusal: Reason | None = None) -> Refusal:
    """The row for `refusal`, or for `reason` where that is a Reason; a rule's own is 403."""
    key = refusal if refusal is not None else reason
    return REFUSALS[key] if isinstance(key, Reason) else RULE_REFUSAL


def problem(
    reason: str,
    *,
    request_id: str,
    refusal: Reason | None = None,
    detail: str | None = None,
    retry_after_s: float = 0.0,
    allow: Sequence[str] = (),
    errors: Sequence[Mapping[str, str]] | None = None,
    conceal: bool = False,
    https: bool = False,
    extra: Mapping[str, str] | None = None,
) -> web.Response:
    """An RFC 9457 answer for `reason`; `errors` names fields of the body and what is wrong.

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
        conceal=conceal,
        https=https,
        extra=extra,
    )
    answer = web.Response(status=row.status, headers=headers, body=body)
    answer[OUTCOME] = str(reason)
    return answer


def problem_bytes(
    reason: Reason, *, request_id: str, https: bool = False, to_head: bool = False
) -> bytes:
    """The whole answer as it goes on the wire, for requests that never became one.

    The connection is closed after it.
    """
    row, headers, body = problem_parts(reason, None, request_id, https=https)
    return _on_the_wire(row.status, headers, body, b"Connection: close\r\n", to_head=to_head)


def answer_bytes(
    status: int,
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    body: bytes,
    request: RequestHead,
    *,
    keep_alive: bool,
) -> bytes:
    """An answer to `request`, whole.

    HTTP/1.1 whatever the client speaks: RFC 9110 section 2.5 has a server send its own
    version.  A 1.0 client that asked to go on is told so, as it assumes the contrary.
    """
    connection = b"" if keep_alive else b"Connection: close\r\n"
    if keep_alive and not request.minor:
        connection = b"Connection: keep-alive\r\n"
    return _on_the_wire(status, headers, body, connection, to_head=request.method == "HEAD")


_PHRASES = {int(status): status.phrase for status in HTTPStatus}


def _on_the_wire(
    status: int,
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    body: bytes,
    connection: bytes,
    *,
    to_head: bool,
) -> bytes:
    fields = headers.items() if isinstance(headers, Mapping) else headers
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in fields]
    if status != 204:  # RFC 9110 section 8.6: a 204 must not have one
        lines.append(f"Content-Length: {len(body)}\r\n")
    head = b"%b%b\r\n%b\r\n" % ("".join(lines).encode("latin-1"), date_line(), connection)
    return head if to_head else head + body


def problem_parts(
    reason: str,
    refusal: Reason | None,
    request_id: str,
    *,
    detail: str | None = None,
    retry_after_s: float = 0.0,
    allow: Sequence[str] = (),
    errors: Sequence[Mapping[str, str]] | None = None,
    conceal: bool = False,
    https: bool = False,
    extra: Mapping[str, str] | None = None,
) -> tuple[Refusal, dict[str, str], bytes]:
    """Row, header fields and body of `problem`."""
    if conceal:
        reason, refusal, detail, errors = Reason.ROUTE_UNKNOWN, None, None, None
        retry_after_s, allow, extra = 0.0, (), None
    row = refusal_of(reason, refusal)
    document: dict[str, object] = {
        "type": f"urn:authgate:reason:{reason}",
        "title": row.title,
        "status": row.status,
        "detail": detail or row.detail,
        "reason": str(reason),
        "request_id": request_id,
    }
    if errors is not None:
        document["errors"] = [dict(error) for error in errors]
    headers = {"Content-Type": "application/problem+json", **OWN_HEADERS}
    headers["X-Request-Id"] = request_id
    headers["Proxy-Status"] = f"{SERVER}; error={row.proxy_error}"
    if https:
        headers["Strict-Transport-Security"] = HSTS
    if row.status == 401:
        headers["WWW-Authenticate"] = _challenge(reason)
    if row.status in (429, 503):
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_s or row.retry_after_s)))
    if row.status == 405:
        headers["Allow"] = ", ".join(allow)
    if row.status == 426:
        headers.update(_SPOKEN)
    if extra:
        headers.update(extra)
    return row, headers, json.dumps(document).encode("ascii")


def route_answer(
    route: Route, call: Call, request_id: str, extra: Mapping[str, str]
) -> list[tuple[str, str]]:
    """The fields of what a route answers by itself; `extra` are those of CORS and limits."""
    answer = route.answer
    assert answer is not None
    fields = [("Server", SERVER), ("X-Request-Id", request_id), ("Proxy-Status", SERVER)]
    fields += answer.fields
    location = answer.leads_to(call.query)
    if location is not None:
        fields.append(("Location", location))
    fields += extra.items()
    if route.security_headers is not None:
        fields += route.security_headers.fields
        if route.security_headers.hsts is not None and call.scheme == "https":
            fields.append(("Strict-Transport-Security", route.security_headers.hsts))
    return fields


def step_up_challenge(max_age_s: int | None, amr: Sequence[str]) -> str:
    """RFC 9470 section 3: how the caller must sign in.  `amr` are names of the configuration."""
    parts = [f'Bearer realm="{REALM}"', 'error="insufficient_user_authentication"']
    if amr:
        parts.append(f'acr_values="{" ".join(amr)}"')
    if max_age_s is not None:
        parts.append(f'max_age="{max_age_s}"')
    return ", ".join(parts)


def _challenge(reason: str) -> str:
    """RFC 6750 section 3: no error code when the request held no authentication at all."""
    if reason == Reason.NO_CREDENTIAL:
        return f'Bearer realm="{REALM}"'
    if reason == Reason.INSUFFICIENT_USER_AUTHENTICATION:  # RFC 9470 section 3
        return f'Bearer realm="{REALM}", error="insufficient_user_authentication"'
    return f'Bearer realm="{REALM}", error="invalid_token"'
