"""The endpoints of second factors and passkeys, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.edge.endpoints.audit_events import AccountEvents
from gateway.edge.endpoints.dependencies import EndpointDependencies
from gateway.edge.endpoints.endpoint import Endpoints
from gateway.edge.endpoints.factor_checks import (
    CodeFactor,
    FactorChecks,
    PasskeyFactor,
    SecondFactor,
)
from gateway.edge.endpoints.factors import FactorDependencies, FactorEndpoints
from gateway.edge.endpoints.passkey_proofs import PasskeyProofs
from gateway.edge.endpoints.passkey_sign_in import (
    PasskeySignInDependencies,
    PasskeySignInEndpoints,
)
from gateway.edge.endpoints.passkeys import PasskeyDependencies, PasskeyEndpoints
from gateway.edge.endpoints.password_prover import PasswordProver
from gateway.edge.endpoints.second_step import SecondStepDependencies, SecondStepEndpoints
from gateway.edge.endpoints.session_opening import (
    SessionOpener,
)
from gateway.edge.endpoints.session_reissue import SessionReissue
from gateway.identity.factors.factor_kinds import FactorKind
from gateway.identity.factors.own_factors import OwnFactors
from gateway.identity.factors.own_passkeys import OwnPasskeys
from gateway.identity.factors.passkey_ceremonies import PasskeyCeremonies
from gateway.identity.factors.passkeys import Passkeys
from gateway.identity.factors.recovery_codes import RecoveryCodeFactor, recovery_code_of
from gateway.identity.factors.relying_party import relying_party
from gateway.identity.factors.totp import TotpFactor, code_of
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.sign_in.step_up import StepUps


@dataclass(frozen=True, slots=True)
class PublicHost:
    """The host of the public URL."""

    name: str
    counts_alone: Callable[[str], bool]
    """Whether a session cookie that is given at this host counts there alone."""


@dataclass(frozen=True, slots=True)
class PasskeyParts:
    passkeys: Passkeys
    own: OwnPasskeys
    ceremonies: PasskeyCeremonies
    proofs: PasskeyProofs


@dataclass(frozen=True, slots=True)
class Factors:
    own: OwnFactors
    checks: FactorChecks
    passkeys: PasskeyParts | None
    """None where the public URL names an IP address: no browser makes passkeys for one."""


def build_factors(deps: EndpointDependencies, notifications: SecurityNotifications) -> Factors:
    totp = TotpFactor(deps.database, deps.sealer)
    recovery_codes = RecoveryCodeFactor(deps.database, notifications)
    kinds: list[SecondFactor] = [
        CodeFactor(FactorKind.TOTP, code_of, totp.verify),
        CodeFactor(FactorKind.RECOVERY_CODE, recovery_code_of, recovery_codes.verify),
    ]
    own = OwnFactors(deps.database, totp, notifications, deps.providers.ended_sessions)
    party, parts = relying_party(deps.public_url), None
    if party is not None:
        passkeys = Passkeys(deps.database)
        use_wait_s = deps.limits.passkey_use_wait_s
        ceremonies = PasskeyCeremonies(party, deps.passkey_challenges, passkeys, use_wait_s)
        events = AccountEvents(deps.audit, deps.limits.told_event_wait_s)
        proofs = PasskeyProofs(ceremonies, deps.database, notifications, events)
        own_passkeys = OwnPasskeys(deps.database, own, notifications)
        parts = PasskeyParts(passkeys, own_passkeys, ceremonies, proofs)
        kinds.append(PasskeyFactor(proofs))
    return Factors(own, FactorChecks(kinds, deps.throttle), parts)


def factor_endpoints(
    deps: EndpointDependencies,
    factors: Factors,
    opener: SessionOpener,
    password_prover: PasswordProver,
    public: PublicHost,
) -> Endpoints:
    tokens = deps.refresh_tokens
    step_ups = StepUps(deps.database, tokens.live_sessions, tokens.claims_of)
    reissue = SessionReissue(deps.issuer, deps.cookies)
    second_step = SecondStepEndpoints(
        SecondStepDependencies(
            opener=opener,
            mfa_tokens=deps.mfa_tokens,
            factor_checks=factors.checks,
            password_prover=password_prover,
            step_ups=step_ups,
            reissue=reissue,
            authenticator=deps.authenticator,
            audit=deps.audit,
            origins=deps.origins,
            shielded=deps.shielded,
            session_wait_s=deps.limits.session_wait_s,
            event_wait_s=deps.limits.event_wait_s,
            factor_kinds=factors.own.kinds,
        )
    )
    own = FactorEndpoints(
        FactorDependencies(
            accounts=deps.accounts,
            own_factors=factors.own,
            factor_checks=factors.checks,
            mfa_tokens=deps.mfa_tokens,
            opener=opener,
            step_ups=step_ups,
            reissue=reissue,
            throttle=deps.throttle,
            limits=deps.limits,
            authenticator=deps.authenticator,
            clock=deps.clock,
            publisher=deps.publisher,
            audit=deps.audit,
            origins=deps.origins,
            shielded=deps.shielded,
            counts_alone=public.counts_alone,
            factor_rule=deps.factor_rule,
            site=public.name,
        )
    )
    passkeys: Endpoints = {}
    if factors.passkeys is not None:
        passkeys = {
            **_own_passkeys(deps, factors.passkeys, own),
            **_passkey_sign_in(deps, factors.passkeys, opener),
        }
    return {**second_step.endpoints(), **own.endpoints(), **passkeys}


def _own_passkeys(
    deps: EndpointDependencies, parts: PasskeyParts, own: FactorEndpoints
) -> Endpoints:
    return PasskeyEndpoints(
        PasskeyDependencies(
            factors=own,
            accounts=deps.accounts,
            authenticator=deps.authenticator,
            ceremonies=parts.ceremonies,
            passkeys=parts.passkeys,
            own_passkeys=parts.own,
            limits=deps.limits,
            shielded=deps.shielded,
            audit=deps.audit,
        )
    ).endpoints()


def _passkey_sign_in(
    deps: EndpointDependencies, parts: PasskeyParts, opener: SessionOpener
) -> Endpoints:
    return PasskeySignInEndpoints(
        PasskeySignInDependencies(
            ceremonies=parts.ceremonies,
            proofs=parts.proofs,
            opener=opener,
            guard=deps.guard,
            throttle=deps.throttle,
            audit=deps.audit,
            origins=deps.origins,
            shielded=deps.shielded,
            login_path=deps.own_paths.endpoint("login", "passkey"),
        )
    ).endpoints()
