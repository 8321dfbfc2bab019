"""A person's own keys: `/auth/keys` (docs/personal-keys.md)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.access.authorizer import Authenticator
from gateway.access.step_up import signed_in_within
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.caller_fields import read_caller_fields
from gateway.edge.endpoints.csrf import is_of_one_application
from gateway.edge.endpoints.endpoint import (
    ACCEPTED,
    Endpoint,
    JsonReply,
    ProblemReply,
    Reply,
    ShieldedTasks,
    await_propagation,
    invalid_field,
)
from gateway.edge.endpoints.json_body import Fields, Integer, Text, TextList
from gateway.edge.endpoints.rate_limits import EndpointLimits
from gateway.identity.accounts.role_names import ROLE
from gateway.identity.clients.key_form import SCOPE
from gateway.identity.clients.personal_keys import (
    KeyLimits,
    KeyProblem,
    PersonalKeys,
    described,
)
from gateway.identity.sessions.sessions import SESSION_ID
from gateway.model import Call, Clock, Principal, Reason
from gateway.stores.protocols import RevocationPublisher

FRESH_S = 900
"""How long ago who makes a key may have signed in: no stolen session is to last longer by it."""
LIFE_S = 90 * 86_400
"""Of a key that does not say."""
SHORTEST_S, LONGEST_S = 60, 366 * 86_400
_OTHER_HOST = "With a session cookie keys are made at the host of the public URL alone."
_ENTRIES_MAX = 64
_NAME_MAX = 64

_ROUTE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_FIELDS: Fields = {
    "name": Text(longest=_NAME_MAX),
    "roles": TextList(_ENTRIES_MAX, ROLE, "must hold names of roles"),
    "scopes": TextList(_ENTRIES_MAX, SCOPE, "must hold actions, such as orders:read or orders:*"),
    "routes": TextList(_ENTRIES_MAX, _ROUTE_ID, "must hold ids of routes"),
    "expires_in": Integer(SHORTEST_S, LONGEST_S),
}


@dataclass(frozen=True, slots=True)
class PersonalKeyDependencies:
    counts_alone: Callable[[str], bool]
    """Whether a session cookie that is given at this host counts there alone."""
    authenticator: Authenticator
    keys: PersonalKeys
    clock: Clock
    limits: EndpointLimits
    publisher: RevocationPublisher
    shielded: ShieldedTasks
    audit: AuditSink


class PersonalKeyEndpoints:
    def __init__(self, dependencies: PersonalKeyDependencies) -> None:
        self._deps = dependencies

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            ("keys",): {"GET": self.list_keys, "POST": self.create},
            ("keys", "*"): {"DELETE": self.end},
        }

    async def list_keys(self, _request: web.BaseRequest, call: Call) -> Reply:
        principal = await self._deps.authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        keys = await self._deps.keys.find_active(principal.subject)
        return JsonReply(200, {"keys": [described(key) for key in keys]})

    async def create(self, request: web.BaseRequest, call: Call) -> Reply:
        """The key itself is in this answer and in no other."""
        asked = await read_caller_fields(self._deps.authenticator, request, call, _FIELDS)
        if isinstance(asked, ProblemReply):
            return asked
        principal, fields = asked
        if is_of_one_application(call, self._deps.counts_alone):
            return ProblemReply(Reason.CROSS_ORIGIN, detail=_OTHER_HOST)
        if not fields["name"].isprintable() or not fields["name"].strip():
            return invalid_field("name", "must be printable")
        if not signed_in_within(FRESH_S, principal.auth_time, self._deps.clock.now()):
            return ProblemReply(Reason.INSUFFICIENT_USER_AUTHENTICATION, max_age_s=FRESH_S)
        wait_s = await self._deps.limits.key_wait_s(principal.subject)
        if wait_s > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=wait_s)
        return await self._deps.shielded(self._create(principal, fields, call))

    async def end(self, _request: web.BaseRequest, call: Call) -> Reply:
        """404 for somebody else's key, as for one that never was."""
        principal = await self._deps.authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        key_id = call.segments[-1]
        if not SESSION_ID.fullmatch(key_id):
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        return await self._deps.shielded(self._end(key_id, principal, call))

    async def _create(self, principal: Principal, fields: dict[str, Any], call: Call) -> Reply:
        limits = KeyLimits(*(_texts(fields.get(name)) for name in ("roles", "scopes", "routes")))
        life_s = fields.get("expires_in", LIFE_S)
        made = await self._deps.keys.create(principal, fields["name"], limits, life_s)
        if isinstance(made, Reason):
            return ProblemReply(made)
        if isinstance(made, KeyProblem):
            return invalid_field("roles" if made is KeyProblem.ROLE_NOT_HELD else "", str(made))
        self._deps.audit.record(
            event_of(
                AuditKind.PERSONAL_KEY_CREATED,
                call,
                subject=principal.subject,
                sid=principal.session_id,
                key_id=made.key.id,
                expires_at=made.key.expires_at,
            )
        )
        return JsonReply(201, {**described(made.key), "api_key": made.text})

    async def _end(self, key_id: str, principal: Principal, call: Call) -> Reply:
        changes = await self._deps.keys.end_own(key_id, by=principal)
        if changes is None:
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        if isinstance(changes, Reason):
            return ProblemReply(changes)
        if not all(change.confirmed for change in changes):
            self._deps.audit.record(
                event_of(
                    AuditKind.PERSONAL_KEY_ENDED,
                    call,
                    subject=principal.subject,
                    sid=principal.session_id,
                    key_id=key_id,
                )
            )
        return await await_propagation(self._deps.publisher, changes)


def _texts(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(sorted(set(values)))
