"""`/auth/providers…`: sign-in by a provider, from the button to the session (docs/providers.md).

    GET  /auth/providers                  by whom people may sign in
    GET  /auth/providers/NAME/start       leads the browser there
    GET  /auth/providers/NAME/callback    the browser comes back with a code
    POST /auth/providers/NAME/callback    the same by a form, which leads on to the one above

Law: whoever comes back is nobody but by what the provider says to us itself.  A form that another
site posts carries no cookie of ours, and so does nothing but lead on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

import structlog
from aiohttp import web

from gateway.access.authorizer import Authenticator
from gateway.access.providers import Provider
from gateway.access.routing.own_paths import OwnPaths, url_host
from gateway.access.routing.request_values import QueryParameters, query_parameter
from gateway.audit.log import AuditKind
from gateway.edge.endpoints.audit_events import AuditSink, event_of
from gateway.edge.endpoints.endpoint import (
    Endpoint,
    JsonReply,
    ProblemReply,
    Reply,
    ShieldedTasks,
    leads_to,
)
from gateway.edge.endpoints.factor_changes import FreshCallers
from gateway.edge.endpoints.form_body import MalformedForm, read_form
from gateway.edge.endpoints.login_guard import LoginGuard
from gateway.edge.endpoints.provider_refusals import (
    AWAY,
    CANCELLED,
    NOT_ADMITTED,
    NOT_BELIEVED,
    OVER,
    REFUSALS,
)
from gateway.edge.endpoints.rate_limits import EndpointLimits
from gateway.edge.endpoints.session_opening import SessionOpener
from gateway.edge.replies.cookies import single_cookie
from gateway.identity.providers.client import OAuthRefused, ProviderClient, ProviderResponse
from gateway.identity.providers.ended_sessions import EndedSessions
from gateway.identity.providers.id_tokens import ProviderUnavailable
from gateway.identity.providers.identities import IdentityRefused, ProviderIdentity
from gateway.identity.providers.linked_identities import (
    LinkedAccount,
    LinkedIdentities,
    LinkRefusal,
)
from gateway.identity.providers.provider_sessions import ProviderSessions
from gateway.identity.providers.round_trips import (
    TRIP_COOKIE,
    LinkRequest,
    RoundTrip,
    RoundTrips,
)
from gateway.identity.sign_in.return_targets import ReturnTargets
from gateway.identity.sign_in.throttle import Throttle
from gateway.model import Call, Clock, CredentialKind, Reason
from gateway.stores.protocols import RevocationPublisher

log = structlog.get_logger(__name__)

_PROVIDERS = "providers"
START, CALLBACK = "start", "callback"
_CODE_MAX = 4_096
"""Characters of what a provider sends back: Microsoft's codes have up to two thousand."""
_CODE = re.compile(f"[ -~]{{1,{_CODE_MAX}}}")
"""RFC 6749 appendix A.11.  What is none a provider may fail over, and be left alone for it."""
_ANSWER = ("code", "state", "iss", "error")
_COOKIE = frozenset({CredentialKind.COOKIE})
TELL_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class ProviderDependencies:
    providers: Callable[[], Mapping[str, Provider]]
    """Those of the running configuration."""
    client: ProviderClient
    trips: RoundTrips
    identities: LinkedIdentities
    sessions: ProviderSessions
    ended_sessions: EndedSessions
    return_targets: ReturnTargets
    opener: SessionOpener
    publisher: RevocationPublisher
    throttle: Throttle
    guard: LoginGuard
    limits: EndpointLimits
    shielded: ShieldedTasks
    audit: AuditSink
    authenticator: Authenticator
    clock: Clock
    fresh_callers: FreshCallers
    count: Callable[[str, str], None]
    """Counts what came of a sign-in, by provider and outcome."""
    public_url: str
    """An origin (RFC 6454) in its shortest form."""
    own_paths: OwnPaths


class ProviderEndpoints:
    def __init__(self, dependencies: ProviderDependencies) -> None:
        self._deps = dependencies
        self._public_host = url_host(dependencies.public_url)
        self._told_at: dict[str, float] = {}
        """By the name of a provider: strangers can have it fail as often as they like."""

    def endpoints(self) -> dict[tuple[str, ...], dict[str, Endpoint]]:
        return {
            (_PROVIDERS,): {"GET": self.list_providers},
            (_PROVIDERS, "*", START): {"GET": self.start},
            (_PROVIDERS, "*", CALLBACK): {"GET": self.callback, "POST": self.posted},
        }

    async def list_providers(self, _request: web.BaseRequest, _call: Call) -> Reply:
        providers = [
            {
                "name": provider.name,
                "label": provider.label,
                "start": self._deps.own_paths.endpoint(_PROVIDERS, provider.name, START),
            }
            for provider in self._deps.providers().values()
        ]
        return JsonReply(200, {"providers": providers})

    async def start(self, _request: web.BaseRequest, call: Call) -> Reply:
        provider = self._provider(call)
        if provider is None:
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        return_to = query_parameter(call.query, "return_to") or ""
        target = self._deps.return_targets.open(return_to, call.host)
        if target is None and return_to.startswith("/"):
            return_to = self._deps.return_targets.seal(call.host, return_to)
        elif target is None:
            return_to = ""
        if call.host != self._public_host:
            # What the provider knows is a URL of the public host, and so is the cookie.
            query = f"?{urlencode({'return_to': return_to})}" if return_to else ""
            path = self._deps.own_paths.endpoint(_PROVIDERS, provider.name, START)
            return leads_to(f"{self._deps.public_url}{path}{query}")
        permit = query_parameter(call.query, "permit")
        link = None if permit is None else await self._link_request(call, provider, permit)
        if isinstance(link, ProblemReply):
            return link
        asked = target.asked if target is not None else None
        max_age_s = asked.max_age_s if asked is not None else None
        begun_at = await self._deps.ended_sessions.now(provider.issuer.issuer)
        return await self._send(
            call,
            provider,
            RoundTrip(provider.name_and_issuer, return_to, link, max_age_s, begun_at),
        )

    async def _link_request(
        self, call: Call, provider: Provider, permit: str
    ) -> LinkRequest | ProblemReply:
        """Of the owner of the session that the permit is for."""
        principal = await self._deps.authenticator.authenticate(call, _COOKIE)
        if isinstance(principal, Reason):
            return ProblemReply(principal)
        session_id = principal.session_id
        whose = provider.name_and_issuer
        if session_id is None or not self._deps.trips.permits(permit, whose, session_id):
            return OVER
        refusal = await self._deps.fresh_callers.stale(principal)
        if refusal is not None:
            return refusal
        wait_s = await self._deps.limits.link_wait_s(principal.subject)
        if wait_s > 0:
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=wait_s)
        return LinkRequest(principal.subject, session_id)

    async def _send(
        self, call: Call, provider: Provider, trip: RoundTrip
    ) -> JsonReply | ProblemReply:
        begun = self._deps.trips.begin(trip, _trips_of(call))
        try:
            url = await self._deps.client.authorization_url(provider, begun.trip, call.client_ip)
        except ProviderUnavailable as error:
            return self._failed(provider, "unavailable", error, AWAY)
        except IdentityRefused as error:
            return self._failed(provider, "refused", error, AWAY)
        return leads_to(url, begun.cookie)

    async def posted(self, request: web.BaseRequest, call: Call) -> Reply:
        """Of another site, so without any cookie of ours; the navigation that follows has them."""
        provider = self._provider(call)
        if provider is None:
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        form = await read_form(request)
        if isinstance(form, ProblemReply):
            return form
        if isinstance(form, MalformedForm):
            return OVER
        answer = {name: form[name] for name in _ANSWER if name in form}
        if any(len(value) > _CODE_MAX for value in answer.values()):
            return OVER
        path = self._deps.own_paths.endpoint(_PROVIDERS, provider.name, CALLBACK)
        return leads_to(f"{path}?{urlencode(answer)}")

    async def callback(self, request: web.BaseRequest, call: Call) -> Reply:
        provider = self._provider(call)
        if provider is None or call.host != self._public_host:
            return ProblemReply(Reason.ROUTE_UNKNOWN)
        answer = QueryParameters(_ANSWER).read(call.query)
        state = "" if answer is None else answer.get("state", "")
        trip = None
        if answer is not None and state and len(state) <= _CODE_MAX:
            trip = await self._deps.trips.end(state, provider.name_and_issuer, _trips_of(call))
        if trip is None or answer is None:
            # Anybody can bring a browser here: counted, and not written.
            self._deps.audit.denied("provider_state", "/" + "/".join(call.segments), None)
            self._deps.count(provider.name, "state")
            return OVER
        reply = await self._returned(request, call, provider, trip, answer)
        cookie = self._deps.trips.without(state, _trips_of(call))
        return replace(reply, cookies=(*reply.cookies, cookie))

    async def _returned(
        self,
        request: web.BaseRequest,
        call: Call,
        provider: Provider,
        trip: RoundTrip,
        answer: Mapping[str, str],
    ) -> JsonReply | ProblemReply:
        code = answer.get("code", "")
        if "error" in answer or not _CODE.fullmatch(code):
            self._deps.count(provider.name, "cancelled")
            return CANCELLED
        device = self._deps.guard.some_device(call)
        reservation = await self._deps.throttle.reserve_provider(call.client_ip, device)
        if reservation.wait_s > 0:
            self._deps.count(provider.name, "too_many")
            return ProblemReply(Reason.TOO_MANY_ATTEMPTS, retry_after_s=reservation.wait_s)
        try:
            identity = await self._deps.client.identity(
                provider, trip, ProviderResponse(code, answer.get("iss"))
            )
            identity = replace(identity, begun_at=trip.begun_at)
            reply = await self._deps.shielded(self._admit(request, call, trip, identity))
        except ProviderUnavailable as error:
            await self._deps.throttle.give_back(reservation)
            return self._failed(provider, "unavailable", error, AWAY)
        except IdentityRefused as error:
            if isinstance(error, OAuthRefused) and error.error == "invalid_client":
                await self._deps.throttle.give_back(reservation)  # it is us whom it refuses
            else:
                await self._deps.throttle.failed(reservation)
            self._record_failure(request, call, provider, "not_believed")
            return self._failed(provider, "refused", error, NOT_BELIEVED)
        except BaseException:
            await self._deps.throttle.give_back(reservation)
            raise
        await self._deps.throttle.give_back(reservation)
        return reply

    async def _admit(
        self, request: web.BaseRequest, call: Call, trip: RoundTrip, identity: ProviderIdentity
    ) -> JsonReply | ProblemReply:
        provider = identity.provider
        if identity.missing is not None:
            log.info("provider-sign-in-not-admitted", provider=provider.name, why=identity.missing)
            self._record_failure(request, call, provider, "not_admitted")
            self._deps.count(provider.name, "not_admitted")
            return NOT_ADMITTED
        wait_s = await self._deps.limits.provided_wait_s(provider.issuer.issuer, identity.subject)
        if wait_s > 0:
            self._deps.count(provider.name, "too_many")
            return ProblemReply(Reason.RATE_LIMITED, retry_after_s=wait_s)
        identities = self._deps.identities
        if await self._deps.ended_sessions.has_ended_of(identity):
            found: LinkedAccount | LinkRefusal = LinkRefusal.ENDED_THERE
        elif trip.link is not None:
            found = await identities.link(identity, trip.link)
        else:
            found = await identities.sign_in(identity)
        if isinstance(found, LinkRefusal):
            self._record_failure(request, call, provider, found)
            self._deps.count(provider.name, found)
            return REFUSALS[found]
        self._record(request, call, identity, found)
        # A role that is gone must not count in the session that begins now, nor in others.
        await self._deps.publisher.publish(found.changes)
        if trip.link is not None:
            self._deps.count(provider.name, "linked")
            return leads_to(self._location(trip))
        return await self._open(request, call, trip, identity, found)

    async def _open(
        self,
        request: web.BaseRequest,
        call: Call,
        trip: RoundTrip,
        identity: ProviderIdentity,
        found: LinkedAccount,
    ) -> JsonReply | ProblemReply:
        origin = self._deps.sessions.origin(identity, found.identity_id)
        device = await self._deps.guard.known_device(call, found.account.normalized_email)
        opening = self._deps.opener.opening(
            request, call, "cookie", known_device=device is not None, origin=origin
        )
        reply = await self._deps.opener.open(
            opening, found.account, amr=identity.amr, without_password=True
        )
        if isinstance(reply, Reason):
            self._deps.opener.record_failure(opening, found.account, reply)
            reply = ProblemReply(reply)
        if isinstance(reply, ProblemReply):
            asked = "mfa_token" in reply.members
            self._deps.count(identity.provider.name, "factor" if asked else "refused_here")
            if not asked:
                return reply
            # Whoever completes it is led on as this would have been.
            return replace(reply, members={**reply.members, "return_to": trip.return_to})
        self._deps.count(identity.provider.name, "created" if found.is_new else "signed_in")
        return leads_to(self._location(trip), *reply.cookies)

    def _location(self, trip: RoundTrip) -> str:
        return self._deps.return_targets.location(trip.return_to, self._public_host)

    def _provider(self, call: Call) -> Provider | None:
        return self._deps.providers().get(call.segments[-2])

    def _record(
        self,
        request: web.BaseRequest,
        call: Call,
        identity: ProviderIdentity,
        found: LinkedAccount,
    ) -> None:
        account, name = found.account, identity.provider.name
        if found.is_new:
            self._deps.audit.record(
                event_of(AuditKind.REGISTERED, call, request, subject=account.id, provider=name)
            )
        if found.was_linked:
            self._deps.audit.record(
                event_of(
                    AuditKind.PROVIDER_LINKED, call, request, subject=account.id, provider=name
                )
            )
        if found.changes:
            self._deps.audit.record(
                event_of(
                    AuditKind.ROLE_CHANGED,
                    call,
                    request,
                    subject=account.id,
                    actor=f"provider:{name}",
                    roles=list(identity.roles),
                )
            )

    def _record_failure(
        self, request: web.BaseRequest, call: Call, provider: Provider, why: str
    ) -> None:
        self._deps.audit.record(
            event_of(
                AuditKind.SIGN_IN_FAILED, call, request, result=str(why), provider=provider.name
            )
        )

    def _failed(
        self, provider: Provider, outcome: str, error: Exception, reply: ProblemReply
    ) -> ProblemReply:
        # The provider's words are an operator's: a visitor can do nothing about them.
        now = self._deps.clock.steady()
        if now - self._told_at.get(provider.name, -math.inf) > TELL_EVERY_S:
            self._told_at[provider.name] = now
            log.warning("provider-sign-in-failed", provider=provider.name, why=str(error))
        self._deps.count(provider.name, outcome)
        return reply


def _trips_of(call: Call) -> str:
    return single_cookie(call, TRIP_COOKIE) or ""
