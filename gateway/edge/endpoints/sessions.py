"""`/auth/refresh`, `/auth/logout` and `/auth/sessions` (docs/accounts.md): the sessions of a
caller, renewed, listed and ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from gateway.access.authorizer import Authenticator
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AccountEvents, AuditSink, event_of
from gateway.edge.endpoints.cookie_sessions import CookieSessions
from gateway.edge.endpoints.csrf import is_of_one_application
from gateway.edge.endpoints.endpoint import (
    ACCEPTED,
    Endpoint,
    JsonReply,
    ProblemReply,
    Reply,
    ShieldedTasks,
    await_propagation,
    user_agent_of,
)
from gateway.edge.endpoints.json_body import Flag, Text, read_fields
from gateway.edge.endpoints.provider_sign_out import ProviderSignOut
from gateway.edge.endpoints.sign_out_limit import SignOutLimit
from gateway.edge.replies.cookies import cookie_of
from gateway.identity.clients.personal_keys import PersonalKeys, described
from gateway.identity.made_up import AddressTurns
from gateway.identity.sessions.callers import end_own
from gateway.identity.sessions.sessions import SESSION_ID, Sessions, SignInSource
from gateway.identity.sessions.token_dates import TooSoon
from gateway.identity.sign_in.refresh_tokens import (
    RefreshTokens,
    ReuseDetected,
    SessionGrant,
    SessionWait,
)
from gateway.identity.tokens.access_tokens import TokenIssuer, TokenSubject, TokenVerifier
from gateway.model import Call, Change, Credential, CredentialKind, Principal, Reason
from gateway.stores.protocols import Database, RevocationPublisher


@dataclass(frozen=True, slots=True)
class SessionDependencies:
    database: Database
    authenticator: Authenticator
    refresh_tokens: RefreshTokens
    sessions: Sessions
    personal_keys: PersonalKeys
    issuer: TokenIssuer
    verifier: TokenVerifier
    publisher: RevocationPublisher
    audit: AuditSink
    events: AccountEvents
    shielded: ShieldedTasks
    sign_out_limit: SignOutLimit
    cookies: CookieSessions
    session_wait_s: SessionWait
    provider_sign_out: ProviderSignOut
    counts_alone: Callable[[str], bool]
    """As of `csrf.is_of_one_application`."""


_COOKIE = frozenset({CredentialKind.COOKIE})
_BY_OWNER = "ended by its owner"


class SessionEndpoints:
    def __init__(self, dependencies: SessionDependencies) -> None:
        self._deps = dependencies
        self._turns = AddressTurns()

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            ("refresh",): {"POST": self.refresh},
            ("logout",): {"POST": self.logout},
            ("sessions",): {"GET": self.list_sessions},
            ("sessions", "*"): {"DELETE": self.end_session},
        }

    async def refresh(self, request: web.BaseRequest, call: Call) -> Reply:
        cookie = cookie_of(call)
        fields = await read_fields(
            request,
            {"refresh_token": Text(longest=256, required=cookie is None)},
            optional=cookie is not None,
        )
        if isinstance(fields, ProblemReply):
            return fields
        if cookie is None or "refresh_token" in fields:
            return await self._deps.shielded(self._refresh(fields["refresh_token"], call))
        return await self._deps.shielded(
            self._deps.cookies.refresh(cookie, call.host, self._deps.session_wait_s)
        )

    async def logout(self, request: web.BaseRequest, call: Call) -> Reply:
        fields = await read_fields(
            request,
            {
                "refresh_token": Text(longest=256, required=False),
                "all": Flag(),
                "provider": Flag(),
            },
            optional=True,
        )
        if isinstance(fields, ProblemReply):
            return fields
        wait_s = max(map(self._deps.sign_out_limit.wait_s, _credentials(call, fields)))
        if wait_s > 0:
            return ProblemReply(Reason.TOO_MANY_ATTEMPTS, retry_after_s=wait_s)
        # Asked before the session is over, and what is known of it may be deleted.
        offer = await self._provider_offer(call, fields) if fields.get("provider") else None
        cookie = cookie_of(call)
        if cookie is None or "refresh_token" in fields:
            reply = await self._deps.shielded(self._sign_out(call, fields))
        else:
            reply = await self._deps.shielded(
                self._deps.cookies.sign_out(
                    cookie,
                    call.host,
                    everywhere=fields.get("all", False),
                    on_ended=lambda changes: self._record_sign_out(call, changes),
                )
            )
        if offer is None or not isinstance(reply, JsonReply):
            return reply
        return replace(reply, status=200, body={"provider_sign_out": offer})

    async def _provider_offer(self, call: Call, fields: dict[str, Any]) -> dict[str, str] | None:
        """Where they may sign out too, who have a session that a provider began."""
        cookie = cookie_of(call)
        if "refresh_token" in fields:
            async with self._turns.turn(call.client_ip):
                session = await self._deps.refresh_tokens.session_of(fields["refresh_token"])
            session_id = None if session is None else session.id
        else:
            accepted = _COOKIE if cookie is not None else ACCEPTED
            principal = await self._deps.authenticator.authenticate(call, accepted)
            session_id = None if isinstance(principal, Reason) else principal.session_id
        if session_id is None:
            return None
        # A page of one application reads what it is answered, and an ID token may count elsewhere.
        names_session = not is_of_one_application(call, self._deps.counts_alone)
        return await self._deps.provider_sign_out.offer(session_id, names_session=names_session)

    async def list_sessions(self, _request: web.BaseRequest, call: Call) -> Reply:
        principal = await self._deps.authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        sessions = await self._deps.sessions.find_active(principal.subject)
        keys = await self._deps.personal_keys.find_active(principal.subject)
        return JsonReply(
            200,
            {
                "sessions": [
                    {
                        "session_id": session.id,
                        "created_at": session.created_at,
                        "last_used_at": session.seen_at,
                        "expires_at": session.expires_at,
                        "address": session.address,
                        "user_agent": session.user_agent,
                        "current": session.id == principal.session_id,
                    }
                    for session in sessions
                ],
                "keys": [described(key) for key in keys],
            },
        )

    async def end_session(self, _request: web.BaseRequest, call: Call) -> Reply:
        """404 for somebody else's session, as for one that never existed."""
        principal = await self._deps.authenticator.authenticate(call, ACCEPTED)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        session_id = call.segments[-1]
        if not SESSION_ID.fullmatch(session_id):
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        return await self._deps.shielded(self._end(session_id, principal, call))

    async def _refresh(self, token: str, call: Call) -> Reply:
        # A token that is used up for an answer that cannot be given would be a reuse the next time.
        self._deps.issuer.require_key()
        source = SignInSource(user_agent_of(call), call.client_ip)
        async with self._turns.turn(call.client_ip):
            rotated = await self._deps.refresh_tokens.rotate(
                token, source, self._deps.session_wait_s
            )
        if isinstance(rotated, TooSoon):
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=rotated.wait_s)
        if isinstance(rotated, Reason):
            return ProblemReply(rotated)
        if isinstance(rotated, ReuseDetected):
            # The reply is the same when a worker has not confirmed: the relay goes on.
            if not all(change.confirmed for change in rotated.changes):
                self._deps.audit.record(
                    event_of(
                        AuditKind.REFRESH_REUSED,
                        call,
                        result=Reason.REFRESH_TOKEN_REUSED,
                        subject=rotated.account_id,
                        sid=rotated.session_id,
                    )
                )
            await self._deps.publisher.publish(rotated.changes)
            return ProblemReply(Reason.REFRESH_TOKEN_REUSED)
        if rotated.repeated:
            await self._deps.events.record(
                rotated.account.id,
                event_of(
                    AuditKind.REFRESH_REPEATED,
                    call,
                    subject=rotated.account.id,
                    sid=rotated.session_id,
                ),
            )
        return token_reply(self._deps.issuer, rotated)

    async def _sign_out(self, call: Call, fields: dict[str, Any]) -> Reply:
        changes = await self._end_presented(call, fields)
        if isinstance(changes, Reason):
            return ProblemReply(changes)
        self._record_sign_out(call, changes)
        return await await_propagation(self._deps.publisher, changes)

    def _record_sign_out(self, call: Call, changes: Sequence[Change]) -> None:
        """Record what has ended: the `sid`, whose sign-in names the account, or the account
        where all its sessions have.  A repeated sign-out ends nothing and is not recorded."""
        if all(change.confirmed for change in changes):
            return
        ended = {str(change.kind): change.target for change in changes}
        self._deps.audit.record(
            event_of(
                AuditKind.SIGNED_OUT, call, subject=ended.get("subject"), sid=ended.get("session")
            )
        )

    async def _end_presented(self, call: Call, fields: dict[str, Any]) -> Sequence[Change] | Reason:
        """End the session of the access token or, without one, of the refresh token."""
        everywhere: bool = fields.get("all", False)
        principal = self._bearer(call.credential)
        if isinstance(principal, Principal):
            return await self._deps.sessions.sign_out(principal, everywhere=everywhere)
        token: str | None = fields.get("refresh_token")
        if token is None:
            return principal
        async with self._turns.turn(call.client_ip):
            session = await self._deps.refresh_tokens.session_of(token)
        if session is None:
            return Reason.INVALID_REFRESH_TOKEN
        return await self._deps.sessions.sign_out_session(session, everywhere=everywhere)

    def _bearer(self, credential: Credential | Reason | None) -> Principal | Reason:
        """The holder of the token.  One that has expired or was revoked still ends its session."""
        if isinstance(credential, Reason):
            return credential
        if credential is None or credential.kind is not CredentialKind.BEARER:
            return Reason.NO_CREDENTIAL
        return self._deps.verifier.verify(credential.text, allow_expired=True)

    async def _end(self, session_id: str, owner: Principal, call: Call) -> Reply:
        changes = await end_own(self._deps.database, session_id, _BY_OWNER, by=owner)
        if changes is None:
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        if isinstance(changes, Reason):
            return ProblemReply(changes)
        if not all(change.confirmed for change in changes):
            self._deps.audit.record(
                event_of(AuditKind.SESSION_ENDED, call, subject=owner.subject, sid=session_id)
            )
        return await await_propagation(self._deps.publisher, changes)


def token_reply(issuer: TokenIssuer, grant: SessionGrant, *, until: int | None = None) -> JsonReply:
    """The access token that `issuer` mints from the grant, with its refresh token; `until` is as
    for `TokenIssuer.issue`."""
    account = grant.account
    issued = issuer.issue(
        TokenSubject(
            subject=account.id,
            email=account.email,
            email_verified=account.email_verified,
            roles=account.roles,
            session_id=grant.session_id,
            client_id=None,
            amr=grant.amr,
            auth_time=grant.auth_time,
            claims=grant.claims,
        ),
        grant.issued_at,
        until=until,
    )
    return JsonReply(
        200,
        {
            "access_token": issued.text,
            "token_type": "Bearer",
            "expires_in": issued.expires_at - grant.issued_at,
            "refresh_token": grant.refresh_token,
            "refresh_expires_in": grant.expires_in_s,
            "user": {
                "user_id": account.id,
                "email": account.email,
                "roles": list(account.roles),
            },
        },
    )


def _credentials(call: Call, fields: dict[str, Any]) -> list[str]:
    """Every credential by which a sign-out is requested: an invented one must not hide another
    that is valid.  Where there is none, the empty text."""
    texts = [call.credential.text] if isinstance(call.credential, Credential) else []
    if "refresh_token" in fields:
        texts.append(str(fields["refresh_token"]))
    return texts or [""]
