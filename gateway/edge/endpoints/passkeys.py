"""A person's own passkeys: `/auth/factors/passkeys…` (docs/passkeys.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.access.authorizer import Authenticator
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
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
from gateway.edge.endpoints.factor_changes import FRESH_S, may_change_factors
from gateway.edge.endpoints.json_body import Text, read_fields
from gateway.edge.endpoints.passkey_proofs import ANSWER
from gateway.edge.endpoints.rate_limits import EndpointLimits
from gateway.identity.factors.passkey_ceremonies import CeremonyRefusal, PasskeyCeremonies
from gateway.identity.factors.passkeys import (
    PASSKEYS_MAX,
    Passkey,
    PasskeyProblem,
    Passkeys,
    described_passkey,
)
from gateway.identity.sessions.sessions import SESSION_ID
from gateway.model import Call, Clock, Principal, Reason
from gateway.stores.protocols import RevocationPublisher

_PASSKEYS = ("factors", "passkeys")
_NAME = Text(longest=64, required=False)
_NAMELESS = "Passkey"
_OTHER_HOST = "With a session cookie passkeys are changed at the host of the public URL alone."
_NO_PASSKEY = invalid_field("credential", "is no new passkey that was asked for here")


@dataclass(frozen=True, slots=True)
class PasskeyDependencies:
    counts_alone: Callable[[str], bool]
    """Whether a session cookie that is given at this host counts there alone."""
    authenticator: Authenticator
    ceremonies: PasskeyCeremonies
    passkeys: Passkeys
    clock: Clock
    limits: EndpointLimits
    publisher: RevocationPublisher
    shielded: ShieldedTasks
    audit: AuditSink


class PasskeyEndpoints:
    def __init__(self, dependencies: PasskeyDependencies) -> None:
        self._deps = dependencies

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            _PASSKEYS: {"GET": self.list_passkeys, "POST": self.add},
            (*_PASSKEYS, "options"): {"POST": self.options},
            (*_PASSKEYS, "*"): {"PATCH": self.rename, "DELETE": self.remove},
        }

    async def list_passkeys(self, _request: web.BaseRequest, call: Call) -> Reply:
        principal = await self._deps.authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        passkeys = await self._deps.passkeys.find_all(principal.subject)
        return JsonReply(200, {"passkeys": [described_passkey(one) for one in passkeys]})

    async def options(self, request: web.BaseRequest, call: Call) -> Reply:
        """For `navigator.credentials.create()`."""
        fields = await read_fields(request, {}, optional=True)
        if isinstance(fields, ProblemReply):
            return fields
        principal = await self._changer(call)
        if isinstance(principal, ProblemReply):
            return principal
        if len(await self._deps.passkeys.find_all(principal.subject)) >= PASSKEYS_MAX:
            return invalid_field("", PasskeyProblem.TOO_MANY)
        options = await self._deps.ceremonies.registration_options(principal)
        # A token of an imported key may name somebody who has no account here.
        return ProblemReply(Reason.ROUTE_UNKNOWN) if options is None else JsonReply(200, options)

    async def add(self, request: web.BaseRequest, call: Call) -> Reply:
        fields = await self._read(request, {**ANSWER, "name": _NAME})
        if isinstance(fields, ProblemReply):
            return fields
        principal = await self._changer(call)
        if isinstance(principal, ProblemReply):
            return principal
        wait_s = await self._deps.limits.passkey_wait_s(principal.subject)
        if wait_s > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=wait_s)
        return await self._deps.shielded(self._add(request, call, principal, fields))

    async def rename(self, request: web.BaseRequest, call: Call) -> Reply:
        """404 for somebody else's passkey, as for one that never was."""
        fields = await self._read(request, {"name": Text(longest=64)})
        if isinstance(fields, ProblemReply):
            return fields
        principal = await self._changer(call)
        if isinstance(principal, ProblemReply):
            return principal
        passkey_id = call.segments[-1]
        if not SESSION_ID.fullmatch(passkey_id):
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        renamed = await self._deps.passkeys.rename(passkey_id, principal, fields["name"])
        if isinstance(renamed, Reason):
            return ProblemReply(renamed)
        self._record(AuditKind.PASSKEY_RENAMED, request, call, renamed)
        return JsonReply(200, described_passkey(renamed))

    async def remove(self, request: web.BaseRequest, call: Call) -> Reply:
        """The same.  Once it is 204 every worker refuses what the passkey had opened."""
        principal = await self._changer(call)
        if isinstance(principal, ProblemReply):
            return principal
        passkey_id = call.segments[-1]
        if not SESSION_ID.fullmatch(passkey_id):
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        return await self._deps.shielded(self._remove(request, call, principal, passkey_id))

    async def _changer(self, call: Call) -> Principal | ProblemReply:
        """Who may change their passkeys now: a stolen session is not to become a passkey, nor to
        take one away."""
        principal = await self._deps.authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        if is_of_one_application(call, self._deps.counts_alone):
            return ProblemReply(Reason.CROSS_ORIGIN, detail=_OTHER_HOST)
        has_factor = bool(await self._deps.passkeys.find_all(principal.subject))
        if not may_change_factors(principal, self._deps.clock.now(), has_factor=has_factor):
            return ProblemReply(Reason.INSUFFICIENT_USER_AUTHENTICATION, max_age_s=FRESH_S)
        return principal

    async def _read(
        self, request: web.BaseRequest, names: dict[str, Any]
    ) -> dict[str, Any] | ProblemReply:
        fields = await read_fields(request, names)
        if isinstance(fields, ProblemReply):
            return fields
        name = fields.setdefault("name", _NAMELESS)
        if not name.isprintable() or not name.strip():
            return invalid_field("name", "must be printable")
        return fields

    async def _add(
        self, request: web.BaseRequest, call: Call, principal: Principal, fields: dict[str, Any]
    ) -> Reply:
        new = await self._deps.ceremonies.registered(
            principal, fields["challenge_token"], fields["credential"]
        )
        if new is CeremonyRefusal.CHALLENGE:
            return ProblemReply(Reason.INVALID_TOKEN)
        if isinstance(new, CeremonyRefusal):
            return _NO_PASSKEY
        added = await self._deps.passkeys.add(principal, fields["name"], new)
        if isinstance(added, Reason):
            return ProblemReply(added)
        if isinstance(added, PasskeyProblem):
            field = "credential" if added is PasskeyProblem.REGISTERED else ""
            return invalid_field(field, str(added))
        self._record(AuditKind.PASSKEY_ADDED, request, call, added)
        return JsonReply(201, described_passkey(added))

    async def _remove(
        self, request: web.BaseRequest, call: Call, principal: Principal, passkey_id: str
    ) -> Reply:
        removed = await self._deps.passkeys.remove(passkey_id, principal)
        if isinstance(removed, Reason):
            return ProblemReply(removed)
        self._record(AuditKind.PASSKEY_REMOVED, request, call, removed.passkey)
        return await await_propagation(self._deps.publisher, removed.changes)

    def _record(
        self, kind: AuditKind, request: web.BaseRequest, call: Call, passkey: Passkey
    ) -> None:
        self._deps.audit.record(
            event_of(
                kind,
                call,
                request,
                subject=passkey.account_id,
                passkey_id=passkey.id,
                backup_eligible=passkey.backup_eligible,
                backed_up=passkey.backed_up,
            )
        )
