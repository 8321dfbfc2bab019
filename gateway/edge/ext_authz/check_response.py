"""The answer of the decision point as a CheckResponse.

Law: a field of ours is always set over what came, never beside it, and every spelling of a field
that speaks for the gateway is named for removal.  A refusal is a denial with its status, also a
5xx, and never an error: no setting of Envoy turns one into a call that passes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.access.field_names import folded
from gateway.edge.admin.decision_point import REMOVABLE, Denial, Permission
from gateway.edge.ext_authz.check_request import CheckedCall
from gateway.edge.ext_authz.messages import CheckResponse
from gateway.edge.http1.request_head import DROP, FORWARDED, TAKEN, classify
from gateway.model import Principal

PERMISSION_DENIED, UNAUTHENTICATED = 7, 16
"""Of `google.rpc.Code`."""

_OVERWRITE = 2
"""`OVERWRITE_IF_EXISTS_OR_ADD`."""

_OF_THE_HOP = frozenset(
    (b"keep-alive", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate", b"te",
     b"trailer", b"http2-settings")
)  # fmt: skip
"""Envoy's to remove."""
_OF_PROXIES = frozenset(
    (b"forwarded", b"x-forwarded-method", b"x-forwarded-uri", b"x-forwarded-prefix",
     b"x-forwarded-server", b"x-forwarded-user")
)  # fmt: skip
"""Believed of a trusted peer alone, and written by no Envoy."""


def allowed(permission: Permission, checked: CheckedCall, request_id: str) -> bytes:
    response = CheckResponse()
    response.status.code = 0
    ok, head = response.ok_response, checked.head
    # Of `absent`: what is only left as it is counts as given.
    absent = permission.absent()
    given = set[bytes]()
    for name, value in _fields(permission.lines):
        lower = name.lower()
        given.add(lower)
        if (lower == b"cookie" and head.cookie == [value]) or lower == b"authorization":
            continue  # it goes on as it came
        if _is_text(value):
            _set(ok.headers, name, value)
        else:
            # No message carries it: the backend sees none, and never the client's own.
            absent.append(lower)
    if head.request_id != request_id.encode("ascii"):
        _set(ok.headers, b"X-Request-Id", request_id.encode("ascii"))
    for name, value in _fields(permission.limit_lines):
        _set(ok.response_headers_to_add, name, value)
    ok.headers_to_remove.extend(dict.fromkeys((*absent, *_forged(permission, checked, given))))
    decision = permission.decision
    _tell(response, decision.reason, request_id, permission.route.id, decision.principal)
    return bytes(response.SerializeToString())


def denied(denial: Denial, request_id: str) -> bytes:
    response, decision = CheckResponse(), denial.decision
    response.status.code = UNAUTHENTICATED if denial.status == 401 else PERMISSION_DENIED
    response.status.message = denial.reason
    answer = response.denied_response
    answer.status.code = denial.status
    for name, value in denial.headers.items():
        _set(answer.headers, name.encode("ascii"), value.encode())
    answer.body = denial.document
    route = decision.route if decision is not None else None
    principal = decision.principal if decision is not None else None
    _tell(response, denial.reason, request_id, route.id if route is not None else "", principal)
    return bytes(response.SerializeToString())


def _fields(lines: Iterable[bytes]) -> Iterable[tuple[bytes, bytes]]:
    for several in lines:
        for line in several.split(b"\r\n"):
            name, _, value = line.partition(b": ")
            yield name, value


def _set(fields: Any, name: bytes, value: bytes) -> None:
    field = fields.add()
    field.header.key, field.header.value = name, value
    # The first for what was before `append_action`, where it was the default; both say the same.
    field.append.value, field.append_action = False, _OVERWRITE


def _is_text(value: bytes) -> bool:
    """Whether a `string` of a message can hold it: else Envoy reads no word of the answer."""
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _forged(permission: Permission, checked: CheckedCall, given: set[bytes]) -> Iterable[bytes]:
    """The names of fields, of those that came, that only the gateway may say or nobody."""
    route, head = permission.route, checked.head
    claimed = route.claimed_headers.union(REMOVABLE)
    for field in head.fields:
        name = field[: field.find(b":")].lower()
        known = folded(name)
        kind = classify(name)
        if known in claimed:
            forged = name not in given
        elif kind == DROP:
            forged = name not in _OF_THE_HOP
        elif kind == TAKEN:
            forged = name not in route.kept_headers
        elif kind == FORWARDED and not checked.source_trusted:
            # One that says what Envoy was asked for was written by Envoy, or does no harm.
            another = name == b"x-forwarded-host" and field[len(name) + 2 :] != head.host
            forged = another or name in _OF_PROXIES
        else:
            forged = known.startswith((b"x-original-", b"x-rewrite-"))
        if forged:
            yield name


def _tell(
    response: Any, reason: str, request_id: str, route_id: str, principal: Principal | None
) -> None:
    """What Envoy may write into its own log: `%DYNAMIC_METADATA(envoy.filters.http.ext_authz)%`."""
    told = {
        "reason": reason,
        "request_id": request_id,
        "route": route_id,
        "subject": principal.subject if principal is not None else "",
    }
    for key, text in told.items():
        if text:
            entry = response.dynamic_metadata.fields.add()
            entry.key, entry.value.string_value = key, text
