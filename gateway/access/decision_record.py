"""A decision as one JSON object, without secrets, and read back.

Of the request only what a policy read is kept: method, host and path, and the query
parameters, header fields and body fields that the route's rules name.  Credentials, tokens,
cookies and other claims are never part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from gateway.access.authorizer import Decision
from gateway.access.routing.paths import split_target
from gateway.access.routing.request_values import HeaderFields, QueryParameters
from gateway.access.routing.routes import Route
from gateway.model import OWN_ISSUER, Call, Credential, CredentialKind, Principal, Reason

# Refusals that say nothing of the policy: they come and go with the load and the stores, or
# were a cookie's that proved no intent, and what its browser said of it is not written down.
UNJUDGED = frozenset(
    (
        Reason.RATE_LIMITED, Reason.REPLICA_STALE, Reason.STORE_UNAVAILABLE, Reason.STORE_BUSY,
        Reason.DRAINING, Reason.ISSUER_UNAVAILABLE, Reason.CROSS_ORIGIN, Reason.CSRF_INVALID,
    )
)  # fmt: skip
_SAID_TWICE = {
    str(Reason.AMBIGUOUS_QUERY): "all other query parameters",
    str(Reason.AMBIGUOUS_HEADER): "all other headers",
    str(Reason.BODY_MALFORMED): "all other body fields",
}


@dataclass(slots=True)
class RecordedDecision:
    """One line of the log, read back."""

    at: float
    request_id: str
    version: str
    call: Call
    caller: Principal | Reason
    allowed: bool
    reason: str
    route: str | None
    rule: str | None
    status: int
    query_names: frozenset[str] = frozenset()
    """The parameters and fields whose presence was recorded; of others nothing is known."""
    header_names: frozenset[str] = frozenset()
    body_names: frozenset[str] = frozenset()


def record_of(
    call: Call, decision: Decision, *, at: float, status: int, request_id: str, version: str
) -> dict[str, Any]:
    """What is written of one decision; plain JSON values."""
    route = decision.route
    query, headers, body_names = _read_by(route)
    record: dict[str, Any] = {
        "at": round(at, 3),
        "id": request_id,
        "version": version,
        "method": call.method,
        "host": call.host,
        "path": call.path,
        "ip": call.client_ip,
        "scheme": call.scheme,
        "decision": "allow" if decision.allowed else "deny",
        "reason": str(decision.reason),
        "status": status,
        "route": route.id if route is not None else None,
        "policy": decision.policy,
        "rule": decision.rule,
    }
    if decision.location is not None and decision.location.line:
        record["file"], record["line"] = decision.location.file, decision.location.line
    if decision.principal is not None:
        record["user"] = _person(decision.principal, call)
    if query is not None:
        record["query"] = {"read": sorted(query.names), "values": query.read(call.query)}
    if headers is not None:
        record["headers"] = {"read": sorted(headers.names), "values": headers.read(call.headers)}
    if body_names:
        record["body"] = {"read": sorted(body_names), "values": _body(call.body, body_names)}
    if decision.shadowed:
        record["shadow"] = [
            {
                "policy": one.policy,
                "rule": one.rule,
                "decision": "allow" if one.allowed else "deny",
                "reason": str(one.reason),
            }
            for one in decision.shadowed
        ]
    return record


def kept_call(call: Call, route: Route | None) -> tuple[Call, int]:
    """The call with what a record has of its body and no more, for who keeps it a while, and how
    many characters that is: as objects a body takes twenty times the memory of its text."""
    if call.body is None:
        return call, 0
    fields = _body(call.body, _read_by(route)[2])
    characters = sum(len(value) for value in fields.values() if isinstance(value, str))
    return replace(call, body=_unflattened(fields)), characters


def read_record(record: Any) -> RecordedDecision | None:
    """A record read back; None for what is none of ours."""
    try:
        target = split_target(record["path"])
        if isinstance(target, Reason):
            return None
        query, headers, body = (record.get(key) or {} for key in ("query", "headers", "body"))
        user = record.get("user")
        caller = _principal(user, float(record["at"])) if user else _stranger(record["reason"])
        call = Call(
            method=str(record["method"]),
            host=str(record["host"]),
            path=target.path,
            segments=target.segments,
            query=_query(_pairs(query)),
            headers=tuple(
                (str(name).encode("latin-1"), str(value).encode())
                for name, value in _pairs(headers)
            ),
            client_ip=str(record["ip"]),
            scheme=str(record["scheme"]),
            credential=None if caller is Reason.NO_CREDENTIAL else _credential(user),
            encoded_slash=target.encoded_slash,
            files_only=target.files_only,
            body=_unflattened(body.get("values") or {}),
        )
        return RecordedDecision(
            at=float(record["at"]),
            request_id=str(record["id"]),
            version=str(record["version"]),
            call=call,
            caller=caller,
            allowed=record["decision"] == "allow",
            reason=str(record["reason"]),
            route=record.get("route"),
            rule=record.get("rule"),
            status=int(record["status"]),
            query_names=frozenset(query.get("read", ())),
            header_names=frozenset(headers.get("read", ())),
            body_names=frozenset(body.get("read", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def unknown_reads(recorded: RecordedDecision, decision: Decision) -> list[str]:
    """What the route of `decision`, by which the call is judged again, reads of it and the record
    does not hold: of a call that was refused for what it said in two ways, and is allowed now, all
    else that it said, too."""
    query, headers, body_names = _read_by(decision.route)
    query_names = query.names if query is not None else frozenset()
    header_names = headers.names if headers is not None else frozenset()
    unknown = [f"query parameter {name}" for name in sorted(query_names - recorded.query_names)]
    unknown += [f"header {name}" for name in sorted(header_names - recorded.header_names)]
    unknown += [f"body field {name}" for name in sorted(body_names - recorded.body_names)]
    if decision.allowed and recorded.reason in _SAID_TWICE:
        unknown.append(_SAID_TWICE[recorded.reason])
    return unknown


def _read_by(
    route: Route | None,
) -> tuple[QueryParameters | None, HeaderFields | None, frozenset[str]]:
    """The parameters, fields and names of body fields that the route's policy reads."""
    if route is None or route.policy is None:
        return None, None, frozenset()
    return route.policy_query, route.policy_headers, route.body_names


def _person(principal: Principal, call: Call) -> dict[str, Any]:
    kind = call.credential.kind if isinstance(call.credential, Credential) else None
    own = principal.issuer == OWN_ISSUER
    person: dict[str, Any] = {
        "id": principal.subject,
        "roles": list(principal.roles),
        "verified": principal.email_verified,
    }
    optional = {
        "email": principal.email,
        "client": principal.client_id,
        "auth_time": principal.auth_time,
        "amr": list(principal.amr) or None,
        "scopes": None if principal.scopes is None else list(principal.scopes),
        "routes": None if principal.routes is None else sorted(principal.routes),
        "issuer": None if own else principal.issuer,
        "aud": None if own else list(principal.audience or ()),
        "resource_only": principal.resource_only or None,
        "scope": " ".join(principal.granted_scopes) or None,
        "with": str(kind) if kind is not None and kind is not CredentialKind.BEARER else None,
    }
    return person | {name: value for name, value in optional.items() if value is not None}


def _principal(user: Mapping[str, Any], at: float) -> Principal:
    scopes, routes = user.get("scopes"), user.get("routes")
    # A token of our own names this gateway, and no resource.
    audience = user.get("aud", None if "with" in user else ())
    return Principal(
        subject=str(user["id"]),
        roles=tuple(map(str, user["roles"])),
        session_id=None,
        token_id="recorded",  # noqa: S106 (a name, not a secret)
        client_id=user.get("client"),
        kid="recorded",
        issued_at=int(at),
        expires_at=int(at) + 1,
        email=user.get("email"),
        email_verified=bool(user.get("verified")),
        auth_time=user.get("auth_time"),
        amr=tuple(user.get("amr", ())),
        scopes=None if scopes is None else tuple(scopes),
        routes=None if routes is None else frozenset(map(str, routes)),
        issuer=str(user.get("issuer", OWN_ISSUER)),
        audience=None if audience is None else tuple(map(str, audience)),
        resource_only=bool(user.get("resource_only")),
        granted_scopes=tuple(str(user.get("scope", "")).split()),
    )


def _stranger(reason: str) -> Reason:
    """Why nobody was known: the refusal itself, where it is one of a credential."""
    if reason in CREDENTIAL_REFUSALS:
        return Reason(reason)
    return Reason.NO_CREDENTIAL


CREDENTIAL_REFUSALS = frozenset(
    (
        Reason.TOKEN_MALFORMED, Reason.TOKEN_SIGNATURE_INVALID, Reason.TOKEN_EXPIRED,
        Reason.TOKEN_CLAIMS_INVALID, Reason.TOKEN_REVOKED, Reason.TOKEN_OUTDATED,
        Reason.KEY_UNKNOWN, Reason.SESSION_UNKNOWN,
    )
)  # fmt: skip


def _credential(user: Mapping[str, Any] | None) -> Credential:
    kind = CredentialKind((user or {}).get("with", CredentialKind.BEARER))
    # A cookie's proof of intent was checked then; now it counts as given.
    return Credential(CredentialKind.BEARER if kind is CredentialKind.COOKIE else kind, "")


def _pairs(part: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What was read.  What could be read in two ways has no values: each name comes twice, so
    that it is refused again by whoever reads it, and is never taken for absent."""
    values = part.get("values")
    if part and values is None:
        return [(name, "") for name in part["read"] for _ in range(2)]
    return list((values or {}).items())


def _query(pairs: Iterable[tuple[str, Any]]) -> str:
    return "&".join(f"{quote(str(k), safe='')}={quote(str(v), safe='')}" for k, v in pairs)


def _body(body: Any, names: frozenset[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in sorted(names):
        value = body
        for key in name.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, str | int | float | bool):
            fields[name] = value
    return fields


def _unflattened(values: Mapping[str, Any]) -> dict[str, Any] | None:
    if not values:
        return None
    body: dict[str, Any] = {}
    for name, value in values.items():
        block = body
        *path, last = name.split(".")
        for key in path:
            block = block.setdefault(key, {})
        block[last] = value
    return body
