"""The endpoints of `/auth`, put together: each gets the dependencies that it needs."""

from __future__ import annotations

from gateway.access.providers import trusted_for_factors
from gateway.access.routing.own_paths import url_host
from gateway.edge.endpoints.account import AccountDependencies, AccountEndpoints
from gateway.edge.endpoints.audit_events import AccountEvents
from gateway.edge.endpoints.dependencies import EndpointDependencies
from gateway.edge.endpoints.endpoint import Endpoints
from gateway.edge.endpoints.factor_assembly import PublicHost, build_factors, factor_endpoints
from gateway.edge.endpoints.factor_changes import FreshCallers
from gateway.edge.endpoints.hand_over import HandOverDependencies, HandOverEndpoints
from gateway.edge.endpoints.issuer_events import IssuerEventDependencies, IssuerEventEndpoints
from gateway.edge.endpoints.mail_links import MailLinkDependencies, MailLinkEndpoints
from gateway.edge.endpoints.oauth import OAuthDependencies, OAuthEndpoints
from gateway.edge.endpoints.password_prover import PasswordProver
from gateway.edge.endpoints.personal_keys import PersonalKeyDependencies, PersonalKeyEndpoints
from gateway.edge.endpoints.provider_assembly import build_provider_endpoints
from gateway.edge.endpoints.provider_sign_out import ProviderSignOut
from gateway.edge.endpoints.registration import (
    RegistrationDependencies,
    RegistrationEndpoints,
)
from gateway.edge.endpoints.session_opening import (
    SessionOpener,
    SessionOpenerDependencies,
)
from gateway.edge.endpoints.session_reissue import SessionReissue
from gateway.edge.endpoints.sessions import SessionDependencies, SessionEndpoints
from gateway.edge.endpoints.sign_in import SignInDependencies, SignInEndpoints
from gateway.edge.endpoints.sign_out_limit import SignOutLimit
from gateway.edge.endpoints.tenants import TenantDependencies, TenantEndpoints
from gateway.identity.accounts.account_facts import AccountFacts
from gateway.identity.accounts.email_change import EmailChanges
from gateway.identity.accounts.invitations import Invitations
from gateway.identity.accounts.registration import Registrations
from gateway.identity.clients.api_keys import ApiKeys
from gateway.identity.clients.client_auth import ClientAuthenticator
from gateway.identity.clients.failures import ClientFailures
from gateway.identity.clients.key_terms import KeyTerms
from gateway.identity.clients.personal_keys import PersonalKeys
from gateway.identity.factors.own_factors import erase_factors
from gateway.identity.mail.notifications import SecurityNotifications


def build_endpoints(deps: EndpointDependencies) -> Endpoints:
    """Every endpoint below `/auth` but `/auth/csrf`, which is the CSRF guard's."""
    notifications = SecurityNotifications(deps.database, deps.mailer)
    registrations = Registrations(
        deps.database,
        deps.mailer,
        waits=deps.verification == "required",
        erase_factors=erase_factors,
    )
    personal_keys = PersonalKeys(
        deps.database,
        notifications,
        deps.refresh_tokens.live_sessions,
        KeyTerms(deps.factor_rule, lambda: trusted_for_factors(deps.providers.providers())),
    )
    public_host = url_host(deps.public_url)

    def shares_session(host: str) -> bool:
        return host != public_host and host in deps.shared_hosts()

    def counts_alone(host: str) -> bool:
        return host != public_host and bool(deps.shared_hosts())

    email_changes = EmailChanges(
        deps.database, deps.mailer, deps.registration_rules, barring_roles=deps.barring_roles
    )
    public = PublicHost(public_host, counts_alone)
    factors = build_factors(deps, notifications)
    fresh_callers = FreshCallers(deps.authenticator, factors.own.kinds, deps.clock, counts_alone)
    password_prover = PasswordProver(deps.accounts, deps.guard, deps.passwords)
    opener = SessionOpener(
        SessionOpenerDependencies(
            refresh_tokens=deps.refresh_tokens,
            issuer=deps.issuer,
            cookies=deps.cookies,
            guard=deps.guard,
            notifications=notifications,
            audit=deps.audit,
            verification=deps.verification,
            counts_alone=counts_alone,
            account_wait_s=deps.limits.account_wait_s,
            mfa_tokens=deps.mfa_tokens,
            factor_checks=factors.checks,
            ended_sessions=deps.providers.ended_sessions,
        )
    )
    sign_in = SignInEndpoints(
        SignInDependencies(
            accounts=deps.accounts,
            passwords=deps.passwords,
            opener=opener,
            guard=deps.guard,
            audit=deps.audit,
            origins=deps.origins,
            shielded=deps.shielded,
            login_path=deps.own_paths.endpoint("login"),
            notifications=notifications,
        )
    )
    registration = RegistrationEndpoints(
        RegistrationDependencies(
            accounts=deps.accounts,
            passwords=deps.passwords,
            registrations=registrations,
            invitations=Invitations(deps.database),
            throttle=deps.throttle,
            audit=deps.audit,
            origins=deps.origins,
            shielded=deps.shielded,
            verification=deps.verification,
            registration_rules=deps.registration_rules,
        )
    )
    sessions = SessionEndpoints(
        SessionDependencies(
            database=deps.database,
            authenticator=deps.authenticator,
            refresh_tokens=deps.refresh_tokens,
            sessions=deps.sessions,
            personal_keys=personal_keys,
            issuer=deps.issuer,
            verifier=deps.verifier,
            publisher=deps.publisher,
            audit=deps.audit,
            events=AccountEvents(deps.audit, deps.limits.told_event_wait_s),
            shielded=deps.shielded,
            sign_out_limit=SignOutLimit(deps.clock),
            cookies=deps.cookies,
            session_wait_s=deps.limits.session_wait_s,
            provider_sign_out=ProviderSignOut(
                deps.providers.providers, deps.providers.sessions, deps.providers.client
            ),
            counts_alone=counts_alone,
        )
    )
    key_endpoints = PersonalKeyEndpoints(
        PersonalKeyDependencies(
            counts_alone=counts_alone,
            authenticator=deps.authenticator,
            keys=personal_keys,
            clock=deps.clock,
            limits=deps.limits,
            publisher=deps.publisher,
            shielded=deps.shielded,
            audit=deps.audit,
        )
    )
    account = AccountEndpoints(
        AccountDependencies(
            authenticator=deps.authenticator,
            accounts=deps.accounts,
            passwords=deps.passwords,
            password_prover=password_prover,
            throttle=deps.throttle,
            publisher=deps.publisher,
            shielded=deps.shielded,
            notifications=notifications,
            guard=deps.guard,
            email_changes=email_changes,
            audit=deps.audit,
            registration_rules=deps.registration_rules,
            cookies=deps.cookies,
            fresh_callers=fresh_callers,
            event_wait_s=deps.limits.event_wait_s,
            database=deps.database,
            barring_roles=deps.barring_roles,
        )
    )
    mail_links = MailLinkEndpoints(
        MailLinkDependencies(
            registrations=registrations,
            registration_rules=deps.registration_rules,
            email_changes=email_changes,
            passwords=deps.passwords,
            throttle=deps.throttle,
            guard=deps.guard,
            publisher=deps.publisher,
            shielded=deps.shielded,
            audit=deps.audit,
        )
    )
    tenants = TenantEndpoints(
        TenantDependencies(
            attributes=deps.attributes,
            authenticator=deps.authenticator,
            facts=AccountFacts(deps.database),
            refresh_tokens=deps.refresh_tokens,
            reissue=SessionReissue(deps.issuer, deps.cookies),
            session_wait_s=deps.limits.session_wait_s,
            account_event_wait_s=deps.limits.account_event_wait_s,
            attributes_wait_s=deps.limits.attributes_wait_s,
            publisher=deps.publisher,
            shielded=deps.shielded,
            audit=deps.audit,
            counts_alone=counts_alone,
        )
    )
    oauth = OAuthEndpoints(
        OAuthDependencies(
            database=deps.database,
            client_authenticator=ClientAuthenticator(
                deps.database, deps.clock, deps.assertion_audiences
            ),
            failures=ClientFailures(deps.throttle, deps.clock),
            limits=deps.limits,
            api_keys=ApiKeys(deps.database),
            refresh_tokens=deps.refresh_tokens,
            issuer=deps.issuer,
            verifier=deps.verifier,
            authenticator=deps.authenticator,
            publisher=deps.publisher,
            shielded=deps.shielded,
            audit=deps.audit,
            issuer_name=deps.issuer_name,
            audience=deps.audience,
        )
    )
    hand_over = HandOverEndpoints(
        HandOverDependencies(
            hand_overs=deps.hand_overs,
            cookies=deps.cookies,
            authenticator=deps.authenticator,
            shares_session=shares_session,
            session_wait_s=deps.limits.session_wait_s,
            account_event_wait_s=deps.limits.account_event_wait_s,
            audit=deps.audit,
            shielded=deps.shielded,
            public_url=deps.public_url,
            own_paths=deps.own_paths,
            has_sign_in_page=deps.has_sign_in_page,
            return_targets=deps.return_targets,
        )
    )
    issuer_events = IssuerEventEndpoints(
        IssuerEventDependencies(
            issuers=deps.issuers,
            keys=deps.issuer_keys,
            clock=deps.clock,
            database=deps.database,
            deliveries=deps.deliveries,
            publisher=deps.publisher,
            shielded=deps.shielded,
            audit=deps.audit,
            count=deps.count_report,
        )
    )
    return {
        **registration.endpoints(),
        **sign_in.endpoints(),
        **sessions.endpoints(),
        **account.endpoints(),
        **key_endpoints.endpoints(),
        **tenants.endpoints(),
        **mail_links.endpoints(),
        **oauth.endpoints(),
        **hand_over.endpoints(),
        **issuer_events.endpoints(),
        **build_provider_endpoints(deps, opener, notifications, public, fresh_callers),
        **deps.guard.endpoints(),
        **factor_endpoints(deps, factors, opener, password_prover, public),
    }
