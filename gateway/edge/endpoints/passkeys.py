"""A person's own passkeys: `/auth/factors/passkeys…` (docs/passkeys.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.access.authorizer import Authenticator
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.endpoint import (
    ACCEPTED,
    Endpoint,
    JsonReply,
    ProblemReply,
    Reply,
    ShieldedTasks,
    invalid_field,
)
from gateway.edge.endpoints.factors import NOT_ENROLLED, TOKEN, FactorCaller, FactorEndpoints
from gateway.edge.endpoints.json_body import Fields, Text, read_fields
from gateway.edge.endpoints.passkey_proofs import ANSWER, CHALLENGE_OVER
from gateway.edge.endpoints.rate_limits import EndpointLimits
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.factors.factor_kinds import FactorKind
from gateway.identity.factors.own_passkeys import OwnPasskeys
from gateway.identity.factors.passkey_ceremonies import CeremonyRefusal, PasskeyCeremonies
from gateway.identity.factors.passkeys import (
    PASSKEYS_MAX,
    Passkey,
    PasskeyProblem,
    Passkeys,
    described_passkey,
)
from gateway.identity.sessions.sessions import SESSION_ID
from gateway.model import Call, Reason

_PASSKEYS = ("factors", "passkeys")
_NAME_LONGEST = 64
_NAMELESS = "Passkey"
_NO_PASSKEY = invalid_field("credential", "is no new passkey that was asked for here")


@dataclass(frozen=True, slots=True)
class PasskeyDependencies:
    factors: FactorEndpoints
    """Who may change factors, and what follows from it, is theirs to say."""
    accounts: Accounts
    authenticator: Authenticator
    ceremonies: PasskeyCeremonies
    passkeys: Passkeys
    own_passkeys: OwnPasskeys
    limits: EndpointLimits
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
        fields = await read_fields(request, {"mfa_token": TOKEN}, optional=True)
        if isinstance(fields, ProblemReply):
            return fields
        caller = await self._deps.factors.caller(request, call, fields)
        if isinstance(caller, ProblemReply):
            return caller
        account_id = caller.owner.account_id
        if len(await self._deps.passkeys.find_all(account_id)) >= PASSKEYS_MAX:
            return invalid_field("", PasskeyProblem.TOO_MANY)
        account = await self._deps.accounts.by_id(account_id)
        # A token of an imported key may name somebody who has no account here.
        options = account and await self._deps.ceremonies.registration_options(
            caller.owner, account.email
        )
        return JsonReply(200, options) if options else ProblemReply(Reason.ROUTE_UNKNOWN)

    async def add(self, request: web.BaseRequest, call: Call) -> Reply:
        name = Text(longest=_NAME_LONGEST, required=False)
        fields = await _read(request, {**ANSWER, "name": name, "mfa_token": TOKEN})
        if isinstance(fields, ProblemReply):
            return fields
        caller = await self._deps.factors.caller(request, call, fields)
        if isinstance(caller, ProblemReply):
            return caller
        wait_s = await self._deps.limits.passkey_wait_s(caller.owner.account_id)
        if wait_s > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=wait_s)
        return await self._deps.shielded(self._add(request, call, caller, fields))

    async def rename(self, request: web.BaseRequest, call: Call) -> Reply:
        """404 for somebody else's passkey, as for one that never was."""
        fields = await _read(request, {"name": Text(longest=_NAME_LONGEST)})
        if isinstance(fields, ProblemReply):
            return fields
        caller = await self._deps.factors.caller(request, call, {})
        if isinstance(caller, ProblemReply):
            return caller
        passkey_id = call.segments[-1]
        if not SESSION_ID.fullmatch(passkey_id):
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        owner = caller.owner
        wait_s = await self._deps.limits.event_wait_s(owner.holder, owner.account_id)
        if wait_s > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=wait_s)
        return await self._deps.shielded(
            self._rename(request, call, caller, passkey_id, fields["name"])
        )

    async def remove(self, request: web.BaseRequest, call: Call) -> Reply:
        """The same."""
        caller = await self._deps.factors.caller(request, call, {})
        if isinstance(caller, ProblemReply):
            return caller
        passkey_id = call.segments[-1]
        if not SESSION_ID.fullmatch(passkey_id):
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        return await self._deps.shielded(self._remove(call, caller, passkey_id))

    async def _add(
        self, request: web.BaseRequest, call: Call, caller: FactorCaller, fields: dict[str, Any]
    ) -> Reply:
        """As a code of an app is confirmed: the session has the factor from now on."""
        self._deps.factors.require_key(call, caller)
        new = await self._deps.ceremonies.registered(
            caller.owner, fields["challenge_token"], fields["credential"]
        )
        if new is CeremonyRefusal.CHALLENGE:
            return CHALLENGE_OVER
        if isinstance(new, CeremonyRefusal):
            return _NO_PASSKEY
        added = await self._deps.own_passkeys.add(caller.owner, fields["name"], new)
        if isinstance(added, Reason):
            return ProblemReply(added, detail=NOT_ENROLLED.get(added))
        if isinstance(added, PasskeyProblem):
            field = "credential" if added is PasskeyProblem.REGISTERED else ""
            return invalid_field(field, str(added))
        reply = await self._deps.factors.finish(
            request, call, caller, added.enrolled, **_told(added.passkey)
        )
        if not isinstance(reply, JsonReply):
            return reply
        body = {**(reply.body or {}), "passkey": described_passkey(added.passkey)}
        return JsonReply(reply.status, body, reply.headers, reply.cookies)

    async def _rename(
        self,
        request: web.BaseRequest,
        call: Call,
        caller: FactorCaller,
        passkey_id: str,
        name: str,
    ) -> Reply:
        renamed = await self._deps.own_passkeys.rename(passkey_id, caller.owner, name)
        if isinstance(renamed, Reason):
            return ProblemReply(renamed)
        self._deps.audit.record(
            event_of(
                AuditKind.PASSKEY_RENAMED,
                call,
                request,
                subject=renamed.account_id,
                passkey_id=renamed.id,
            )
        )
        return JsonReply(200, described_passkey(renamed))

    async def _remove(self, call: Call, caller: FactorCaller, passkey_id: str) -> Reply:
        removed = await self._deps.own_passkeys.remove(passkey_id, caller.owner)
        if isinstance(removed, Reason):
            return ProblemReply(removed)
        return await self._deps.factors.after_removal(
            call, caller, FactorKind.PASSKEY, removed.changes, **_told(removed.passkey)
        )


async def _read(request: web.BaseRequest, names: Fields) -> dict[str, Any] | ProblemReply:
    fields = await read_fields(request, names)
    if isinstance(fields, ProblemReply):
        return fields
    name = fields.setdefault("name", _NAMELESS)
    if not name.isprintable() or not name.strip():
        return invalid_field("name", "must be printable")
    return fields


def _told(passkey: Passkey) -> dict[str, Any]:
    """What the audit log says of it."""
    return {
        "passkey_id": passkey.id,
        "backup_eligible": passkey.backup_eligible,
        "backed_up": passkey.backed_up,
    }
