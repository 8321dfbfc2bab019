"""`/auth/tenant` and `/auth/me/attributes` (docs/attributes.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from gateway.access.attributes import Attribute, SetBy, is_tenant_name, tenant_of, tenants_of
from gateway.access.authorizer import Authenticator
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.csrf import is_of_one_application
from gateway.edge.endpoints.endpoint import (
    ACCEPTED,
    Endpoint,
    FieldError,
    JsonReply,
    ProblemReply,
    Reply,
    ShieldedTasks,
    await_propagation,
    invalid_field,
)
from gateway.edge.endpoints.json_body import Text, read_fields, read_object
from gateway.edge.endpoints.session_reissue import SessionReissue
from gateway.edge.replies.cookies import cookie_of
from gateway.identity.accounts.account_facts import (
    AccountFacts,
    Chosen,
    StoredAttribute,
    is_same,
    takes_over,
)
from gateway.identity.sessions.token_dates import TooSoon
from gateway.identity.sign_in.refresh_tokens import RefreshTokens, SessionWait
from gateway.model import Call, Principal, Reason
from gateway.stores.protocols import RevocationPublisher

_OTHER_HOST = "With a session cookie attributes are set at the host of the public URL alone."


@dataclass(frozen=True, slots=True)
class TenantDependencies:
    attributes: Callable[[], Mapping[str, Attribute]]
    """What accounts may have, as the current snapshot says."""
    authenticator: Authenticator
    facts: AccountFacts
    refresh_tokens: RefreshTokens
    reissue: SessionReissue
    session_wait_s: SessionWait
    account_event_wait_s: Callable[[str], Awaitable[float]]
    attributes_wait_s: Callable[[str], Awaitable[float]]
    publisher: RevocationPublisher
    shielded: ShieldedTasks
    audit: AuditSink
    counts_alone: Callable[[str], bool]
    """Whether a session cookie that is given at this host counts there alone."""


class TenantEndpoints:
    def __init__(self, dependencies: TenantDependencies) -> None:
        self._deps = dependencies

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            ("tenant",): {"GET": self.tenant, "POST": self.choose},
            ("me", "attributes"): {"GET": self.attributes, "PATCH": self.change},
        }

    async def tenant(self, _request: web.BaseRequest, call: Call) -> Reply:
        """What the credential says: the tenants of the caller, and the one that was chosen."""
        principal = await self._deps.authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        return JsonReply(
            200, {"tenant": tenant_of(principal), "tenants": dict(tenants_of(principal))}
        )

    async def choose(self, request: web.BaseRequest, call: Call) -> Reply:
        """The tenant for which this session acts; null for none.  The answer is that of a
        refresh: an access token of a bearer's session, for the cookie nothing to keep."""
        # As below: with a token that expires meanwhile another one would be had.
        fields = await read_fields(request, {"tenant": Text(longest=128, or_null=True)})
        principal = await self._deps.authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        if isinstance(fields, ProblemReply):
            return fields
        tenant = fields["tenant"]
        if principal.session_id is None or (
            tenant is not None and not (is_tenant_name(tenant) and tenant in tenants_of(principal))
        ):
            return invalid_field("tenant", "is none of yours")
        self._deps.reissue.require_key(call)
        wait_s = await self._deps.session_wait_s(principal.session_id, principal.subject)
        if wait_s > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=wait_s)
        return await self._deps.shielded(self._choose(principal, tenant, call))

    async def attributes(self, _request: web.BaseRequest, call: Call) -> Reply:
        """All that is kept, also what no token carries; `editable` are those that the caller may
        set, and what each can be."""
        principal = await self._deps.authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        known, own = self._deps.attributes(), self._own(principal)
        stored = await self._deps.facts.attributes(principal.subject)
        return JsonReply(
            200,
            {
                "attributes": {one.name: one.value for one in stored if one.name in known},
                "editable": {
                    name: {"type": one.type.value, "values": list(one.values)}
                    for name, one in sorted(own.items())
                },
            },
        )

    async def change(self, request: web.BaseRequest, call: Call) -> Reply:
        """Sets the caller's own attributes; null takes one away."""
        # It may come for ten seconds: who calls is asked once it is there.
        values = await read_object(request)
        principal = await self._deps.authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        if is_of_one_application(call, self._deps.counts_alone):
            return ProblemReply(Reason.CROSS_ORIGIN, detail=_OTHER_HOST)
        if isinstance(values, ProblemReply):
            return values
        own = self._own(principal)
        errors = _errors(values, own)
        if errors:
            return ProblemReply(Reason.BODY_INVALID, tuple(errors))
        # A key is limited as the session that it is not.
        wait_s = await self._deps.session_wait_s(principal.session_id or principal.token_id)
        if wait_s == 0:
            stored = await self._deps.facts.attributes(principal.subject)
            before = {one.name: one for one in stored}
            if all(_is_kept(before.get(name), value, own[name]) for name, value in values.items()):
                return JsonReply(204)
            wait_s = await self._deps.attributes_wait_s(principal.subject)
        if wait_s > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=wait_s)
        return await self._deps.shielded(self._change(principal, values, call))

    def _own(self, principal: Principal) -> dict[str, Attribute]:
        """Those that the caller may set by name: a client is nobody who has any."""
        if principal.client_id == principal.subject:
            return {}
        every = self._deps.attributes().items()
        return {name: one for name, one in every if SetBy.PERSON in one.set_by}

    async def _choose(self, principal: Principal, tenant: str | None, call: Call) -> Reply:
        deps, session_id = self._deps, principal.session_id
        assert session_id is not None
        has_cookie = cookie_of(call) is not None
        choose = partial(
            deps.facts.choose_tenant,
            session_id,
            principal.subject,
            tenant,
            deps.refresh_tokens.live_sessions.refusal_of,
        )
        chosen = await choose(change=False)
        if chosen is Chosen.WOULD_CHANGE:
            # Only what leaves an event is counted as one.
            if (seconds := await deps.account_event_wait_s(principal.subject)) > 0:
                return ProblemReply(Reason.RATE_LIMITED, retry_after_s=seconds)
            chosen = await choose(change=True)
        if isinstance(chosen, Reason):
            # As a refresh is answered.
            return ProblemReply(Reason.SESSION_UNKNOWN if has_cookie else chosen)
        if chosen is Chosen.REFUSED:
            # The account left the tenant meanwhile.
            return invalid_field("tenant", "is none of yours")
        if chosen is Chosen.CHANGED:
            deps.audit.record(
                event_of(
                    AuditKind.TENANT_CHOSEN,
                    call,
                    subject=principal.subject,
                    sid=session_id,
                    tenant=tenant,
                )
            )
        grant = await deps.refresh_tokens.renew(session_id, "cookie" if has_cookie else "bearer")
        if grant is None:
            return ProblemReply(Reason.SESSION_UNKNOWN)
        return await deps.reissue.reply(call, grant, by=principal)

    async def _change(self, principal: Principal, values: dict[str, Any], call: Call) -> Reply:
        try:
            changes = await self._deps.facts.put_own_attributes(
                principal, values, self._own(principal)
            )
        except ValueError:
            return invalid_field("", "is more than an account can hold")
        if isinstance(changes, TooSoon):
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=changes.wait_s)
        if isinstance(changes, Reason):
            return ProblemReply(changes)
        if not changes:
            return JsonReply(204)
        self._deps.audit.record(
            event_of(
                AuditKind.ATTRIBUTES_CHANGED,
                call,
                subject=principal.subject,
                sid=principal.session_id,
                names=",".join(sorted(values)),
            )
        )
        return await await_propagation(self._deps.publisher, changes)


def _is_kept(before: StoredAttribute | None, value: Any, attribute: Attribute) -> bool:
    """Whether to set it would change nothing."""
    if before is None:
        return value is None
    return is_same(before.value, value) and not takes_over(before.set_by, SetBy.PERSON, attribute)


def _errors(values: Mapping[str, Any], own: Mapping[str, Attribute]) -> list[FieldError]:
    """A name is told only where the caller may set it."""
    errors: list[FieldError] = []
    strange = False
    for name, value in values.items():
        attribute = own.get(name)
        if attribute is None:
            strange = True
        elif value is not None and (problem := attribute.problem(value)) is not None:
            errors.append(FieldError(name, problem))
    if strange:
        errors.append(FieldError("", "holds what is no attribute that you may set"))
    return errors
