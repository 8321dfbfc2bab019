"""The answer of the decision point as a CheckResponse.

Law: a field of ours is always set over what came, never beside it, and every spelling of a field
that speaks for the gateway is named for removal.  A refusal is a denial with its status, also a
5xx, and never an error: no setting of Envoy turns one into a call that passes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.access.field_names import OF_PROXIES, folded, folded_text
from gateway.access.routing.routes import Route
from gateway.bounded_memo import BoundedMemo
from gateway.edge.admin.decision_point import REMOVABLE, Denial, Permission
from gateway.edge.ext_authz.check_request import CheckedCall
from gateway.edge.ext_authz.messages import CheckResponse
from gateway.edge.http1.request_head import DROP, FORWARDED, PASS, TAKEN, RequestHead, classify
from gateway.model import Principal

PERMISSION_DENIED, UNAUTHENTICATED = 7, 16
"""Of `google.rpc.Code`."""

_OVERWRITE = 2
"""`OVERWRITE_IF_EXISTS_OR_ADD`."""

_REMOVABLE = frozenset(REMOVABLE)
_NAMES_MAX, _WRITTEN_MAX = 1_024, 1_024
_LINES_BYTES_MAX, _FORGED_MAX = 2_048, 16

_OF_THE_HOP = frozenset(
    (b"keep-alive", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate", b"te",
     b"trailer", b"http2-settings")
)  # fmt: skip
"""Envoy's to remove."""
_OF_ENVOY = frozenset(
    (b"via", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-client-cert")
)
"""Written by Envoy, or taken away from who may not say them."""
_SAID_OF_A_CALL = (b"x-original-", b"x-rewrite-")
_PORTS = frozenset((b"80", b"443"))


class ResponseWriter:
    """Writes the answers of one listener, and remembers what it wrote for a caller: to fill a
    message takes longer than to decide.  All of it is bounded in number and in length."""

    def __init__(self) -> None:
        self._kinds: BoundedMemo[bytes, tuple[bytes, bytes, int]] = BoundedMemo(_NAMES_MAX)
        """By a name as it came: in lower case, folded, and what it is to the gateway."""
        self._written: BoundedMemo[_Said, bytes] = BoundedMemo(_WRITTEN_MAX)

    def allowed(self, permission: Permission, checked: CheckedCall, request_id: str) -> bytes:
        """Messages one after another are one message that holds what each says."""
        lines, route, head = b"\r\n".join(permission.lines), permission.route, checked.head
        forged = tuple(dict.fromkeys(self._forged(permission, checked)))
        said = lines, route.claimed_headers, forged, _going_on(head, permission.lines)
        written = self._written.get(said)
        if written is None:
            written = _write_ok(permission, said)
            if len(lines) <= _LINES_BYTES_MAX and len(forged) <= _FORGED_MAX:
                self._written.keep(said, written)
        response = CheckResponse()
        if head.request_id != request_id.encode("ascii"):
            _set(response.ok_response.headers, b"X-Request-Id", request_id.encode("ascii"))
        for line in permission.limit_lines:
            name, _, value = line.partition(b": ")
            _set(response.ok_response.response_headers_to_add, name, value)
        decision = permission.decision
        _tell(response, decision.reason, request_id, route.id, decision.principal)
        return written + bytes(response.SerializeToString())

    def _forged(self, permission: Permission, checked: CheckedCall) -> Iterable[bytes]:
        """The names of fields, of those that came, that only the gateway may say or nobody; ours
        among them."""
        route, head = permission.route, checked.head
        claimed = route.claimed_headers
        for field in head.fields:
            came = field[: field.find(b":")]
            name, known, kind = self._kinds.get(came) or self._kind(came)
            if known in claimed or known in _REMOVABLE:
                forged = True
            elif kind == PASS:
                forged = known.startswith(_SAID_OF_A_CALL) and not _is_read(known, route)
            elif kind == DROP:
                forged = name not in _OF_THE_HOP
            elif kind == TAKEN:
                forged = name not in route.kept_headers
            elif kind == FORWARDED:
                said = field[len(name) + 2 :]
                forged = name not in OF_PROXIES or not (
                    checked.source_trusted or name in _OF_ENVOY or _is_told(name, said, head)
                )
            else:
                forged = False
            if forged:
                yield name

    def _kind(self, came: bytes) -> tuple[bytes, bytes, int]:
        found = came.lower(), folded(came), classify(came)
        self._kinds.keep(came, found)
        return found


_Said = tuple[bytes, frozenset[bytes], tuple[bytes, ...], frozenset[bytes]]
"""The lines for the backend; what the route claims; the names of what came and is not to pass;
and of what those lines have as it came."""


def _going_on(head: RequestHead, lines: list[bytes]) -> frozenset[bytes]:
    """What may stay as it came: the lines have nothing else under that name."""
    came = ((b"Cookie: ", head.cookie), (b"Authorization: ", head.authorization))
    return frozenset(
        name[:-2].lower()
        for name, values in came
        if values is not None and len(values) == 1 and name + values[0] in lines
    )


def _is_read(known: bytes, route: Route) -> bool:
    """Whether it was judged: such a field is never taken away on its way."""
    read = route.policy_headers
    return read is not None and any(folded_text(name) == known for name in read.names)


def _is_told(name: bytes, said: bytes, head: RequestHead) -> bool:
    """Whether it says what Envoy was asked for: written by Envoy, or of no harm."""
    host = head.host or b""
    if name == b"x-forwarded-port":
        return said in _PORTS or said == host.rpartition(b":")[2]
    return name == b"x-forwarded-host" and said == host


def _write_ok(permission: Permission, said: _Said) -> bytes:
    _, _, forged, going_on = said
    response = CheckResponse()
    response.status.code = 0
    ok, removed = response.ok_response, permission.absent()
    given = set[bytes]()
    for name, value in _fields(permission.lines):
        lower = name.lower()
        given.add(lower)
        if lower in going_on:
            continue
        if _is_text(value):
            _set(ok.headers, name, value)
        else:
            # No message carries it: the backend sees none, and never the client's own.
            removed.append(lower)
    removed += [name for name in forged if name not in given]
    ok.headers_to_remove.extend(dict.fromkeys(removed))
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
