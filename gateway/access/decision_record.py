"""A decision as one JSON object, without secrets, and read back.

Of the request only what a policy read is kept: method, host and path, the path that a COPY or
MOVE writes, and the query parameters, header fields and body fields that the route's rules name.
Credentials, tokens, cookies and other claims are never part of it.

Law: what is not kept is told apart from what did not come.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from gateway.access.authorizer import Decision
from gateway.access.record_gaps import (
    Beside,
    beside_of,
    body_fields,
    body_of,
    read_beside,
    read_by,
)
from gateway.access.routing.destinations import MOVING, moved_to
from gateway.access.routing.paths import split_target
from gateway.access.routing.routes import Route
from gateway.model import (
    OWN_ISSUER,
    Call,
    Credential,
    CredentialKind,
    Principal,
    Reason,
)

# Refusals that say nothing of the policy: they come and go with the load and the stores, or
# were a cookie's that proved no intent, and what its browser said of it is not written down.
UNJUDGED = frozenset(
    (
        Reason.RATE_LIMITED, Reason.REPLICA_STALE, Reason.STORE_UNAVAILABLE, Reason.STORE_BUSY,
        Reason.DRAINING, Reason.ISSUER_UNAVAILABLE, Reason.CROSS_ORIGIN, Reason.CSRF_INVALID,
    )
)  # fmt: skip
KEYS = frozenset((CredentialKind.API_KEY, CredentialKind.BASIC))
DESTINATION_CHARACTERS = 2_000
"""Of the path that a COPY or MOVE writes; a longer one is not written down."""


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
    query_held: bool = True
    """Whether the parameters that were read could be read in one way; and the header fields."""
    headers_held: bool = True
    beside: Beside | None = None
    """None in records of before there was such a thing."""
    holds_destination: bool = False
    with_cookie: bool = False
    took_s: float = 0.0
    """For how long before `at` it may have been decided."""
    holds_roles: bool = True
    """Whether all roles of the account were recorded, also where a key has fewer."""

    @property
    def is_judged(self) -> bool:
        """Whether a policy, or what goes before one, gave the answer.  One that was revoked while
        the call waited is no matter of either."""
        revoked = isinstance(self.caller, Principal) and self.reason in CREDENTIAL_REFUSALS
        return self.reason not in UNJUDGED and not revoked

    @property
    def kind(self) -> CredentialKind:
        """Of the credential of `caller`."""
        if self.with_cookie:
            return CredentialKind.COOKIE
        credential = self.call.credential
        return credential.kind if isinstance(credential, Credential) else CredentialKind.BEARER


def record_of(
    call: Call,
    decision: Decision,
    *,
    at: float,
    status: int,
    request_id: str,
    version: str,
    took_s: float = 0.0,
) -> dict[str, Any]:
    """What is written of one decision; plain JSON values.  `took_s` is for how long before `at` it
    may have been made."""
    route = decision.route
    query, headers, body_names = read_by(route)
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
        values, left_out = body_fields(call.body, body_names)
        record["body"] = {"read": sorted(body_names), "values": values}
        if left_out:
            record["body"]["left_out"] = left_out
    if call.method in MOVING:
        moved = moved_to(call)
        written = "" if moved is None else None if isinstance(moved, Reason) else moved.path
        if written is None or len(written) <= DESTINATION_CHARACTERS:
            record["destination"] = written
    record["beside"] = beside_of(call, decision)
    if took_s > 0.0:
        record["took_s"] = math.ceil(took_s * 1_000) / 1_000
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
    fields, left_out = body_fields(call.body, read_by(route)[2])
    characters = sum(len(value) for value in fields.values() if isinstance(value, str))
    return replace(call, body=body_of(fields, left_out)), characters


def read_record(record: Any) -> RecordedDecision | None:
    """A record read back; None for what is none of ours."""
    try:
        target = split_target(record["path"])
        if isinstance(target, Reason):
            return None
        query, headers, body = (record.get(key) or {} for key in ("query", "headers", "body"))
        user, beside = record.get("user"), record.get("beside")
        values = body.get("values") or {}
        # Before it was told apart, a field without a value may have been a list as well as absent.
        body_names = body.get("read", ()) if beside else values
        headers_held = "values" not in headers or headers["values"] is not None
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
                # Where the call writes is judged before its fields are.
                if headers_held or name != "destination"
            )
            + _destination(record, headers),
            client_ip=str(record["ip"]),
            scheme=str(record["scheme"]),
            credential=None if caller is Reason.NO_CREDENTIAL else _credential(user),
            encoded_slash=target.encoded_slash,
            files_only=target.files_only,
            body=body_of(values, sorted(body.get("left_out", ()))),
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
            body_names=frozenset(body_names),
            query_held="values" not in query or query["values"] is not None,
            headers_held=headers_held,
            beside=None if beside is None else read_beside(beside),
            holds_destination="destination" in record,
            with_cookie=bool(user) and user.get("with") == CredentialKind.COOKIE,
            took_s=float(record.get("took_s", 0.0)),
            holds_roles=not user or user.get("with") not in KEYS or "held_roles" in user,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _person(principal: Principal, call: Call) -> dict[str, Any]:
    kind = call.credential.kind if isinstance(call.credential, Credential) else None
    own = principal.issuer == OWN_ISSUER
    audience, granted = principal.audience or (), principal.granted_scopes
    scope = " ".join(granted)
    held = list(principal.roles if principal.held_roles is None else principal.held_roles)
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
        # Of each key, whether or not it is limited: older records tell nothing of them.
        "held_roles": held if kind in KEYS else None,
        "issuer": None if own else principal.issuer,
        # Of ours, which names this gateway, what it names besides.
        "aud": list(audience) if not own or len(audience) > 1 else None,
        "resource_only": principal.resource_only or None,
        "scope": scope or None,
        # One that is empty or holds a blank stands in no text of scopes.
        "granted": None if tuple(scope.split()) == granted else list(granted),
        "with": str(kind) if kind is not None and kind is not CredentialKind.BEARER else None,
    }
    return person | {name: value for name, value in optional.items() if value is not None}


def _principal(user: Mapping[str, Any], at: float) -> Principal:
    scopes, routes = user.get("scopes"), user.get("routes")
    # A token of our own names this gateway, and no resource.
    audience = user.get("aud", None if "with" in user else ())
    roles = tuple(map(str, user["roles"]))
    held = tuple(map(str, user.get("held_roles", roles)))
    return Principal(
        subject=str(user["id"]),
        roles=roles,
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
        granted_scopes=tuple(map(str, user.get("granted", str(user.get("scope", "")).split()))),
        held_roles=None if set(held) == set(roles) else held,
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


def _destination(
    record: Mapping[str, Any], headers: Mapping[str, Any]
) -> tuple[tuple[bytes, bytes], ...]:
    """The path that is written; one that is read in no way where it could be read in two."""
    written = record.get("destination", "")
    if written == "" or "destination" in (headers.get("values") or {}):
        return ()
    return ((b"destination", b"" if written is None else str(written).encode("latin-1")),)
