"""The operator's console: its pages, put together over what a worker is made of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.access.console import HOME
from gateway.access.simulation import person
from gateway.access.snapshot import Snapshot
from gateway.app.components import Components
from gateway.app.console_lists import LISTS, list_pages
from gateway.app.settings import Settings
from gateway.app.status import WorkerStatus
from gateway.control_groups import memory_bytes
from gateway.edge.console.account_sign_in import AccountSignIn, AccountSignInDependencies
from gateway.edge.console.console import Console, ConsoleDependencies
from gateway.edge.console.explain_page import EXPLAIN, ExplainDependencies, ExplainPage
from gateway.edge.console.live_page import LIVE, LiveDependencies, LivePage
from gateway.edge.console.local_sign_in import LocalSignIn, LocalSignInDependencies
from gateway.edge.console.operators import OperatorDependencies, Operators
from gateway.edge.console.overview_page import OverviewPage
from gateway.edge.console.pages import ConsolePage, NavigationEntry, PageRegistry
from gateway.edge.console.playground_page import PLAYGROUND, PlaygroundPage
from gateway.edge.console.reach_page import REACH, FindCaller, ReachPage
from gateway.edge.console.renderer import ConsoleRenderer
from gateway.edge.console.sign_in_page import ConsoleSignIn, ConsoleSignInDependencies
from gateway.edge.console.static_files import StaticFiles
from gateway.edge.console.trials import Trials
from gateway.edge.endpoints.audit_events import AuditSink, BoundedAuditSink
from gateway.edge.endpoints.rate_limits import EndpointLimits
from gateway.identity.accounts.account_claims import AccountClaims
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.sessions.hand_over import HandOvers
from gateway.model import Principal
from gateway.stores.nonces import RedisNonceStore

NAVIGATION = (
    NavigationEntry(HOME, "Overview"),
    NavigationEntry(LIVE, "Live calls"),
    NavigationEntry(REACH, "Who can reach what"),
    NavigationEntry(EXPLAIN, "Explain a call"),
    NavigationEntry(PLAYGROUND, "Policy playground"),
    *LISTS,
)


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    console: Console
    operators: Operators
    pages: PageRegistry


def build_console(components: Components, status: WorkerStatus) -> ConsoleParts | None:
    """None where it is not served: others than this machine could reach the listener, and nobody
    could sign in there (`GATEWAY_ADMIN_URL`)."""
    settings = components.plan.settings
    loopback = settings.admin_listen.loopback
    if not loopback and settings.admin_url is None:
        return None
    local = _local_sign_in(components) if loopback else None
    operators = Operators(
        OperatorDependencies(
            local,
            components.authenticator,
            components.csrf,
            components.clock,
            policy=lambda: components.plan.configuration.snapshot.console_policy,
        )
    )
    # Whoever reaches the listener can be refused there as often as they like.
    audit = BoundedAuditSink(components.audit, components.clock)
    static_files = StaticFiles()
    renderer = ConsoleRenderer(
        static_files,
        NAVIGATION,
        site=settings.public_url.partition("://")[2],
        leads_to=() if settings.admin_url is None else (settings.public_url,),
    )
    sign_in = ConsoleSignIn(
        ConsoleSignInDependencies(
            local,
            _account_sign_in(components, operators, audit),
            operators,
            renderer,
            audit,
            components.operator_writes,
        )
    )
    pages = PageRegistry(_pages(components, status, renderer, operators), NAVIGATION)
    dependencies = ConsoleDependencies(
        pages=pages,
        renderer=renderer,
        static_files=static_files,
        operators=operators,
        sign_in=sign_in,
        audit=audit,
        publisher=components.replica,
        clock=components.clock,
        shielded=components.operator_writes,
        draining=lambda: status.draining,
        https_only=not loopback,
    )
    return ConsoleParts(Console(dependencies), operators, pages)


def _pages(
    components: Components, status: WorkerStatus, renderer: ConsoleRenderer, operators: Operators
) -> Sequence[ConsolePage]:
    """Each file of pages is a line here."""
    plan, clock = components.plan, components.clock
    explained_at_once = asyncio.Semaphore(1)
    find_caller = _find_caller(components)

    def snapshot() -> Snapshot:
        return plan.configuration.snapshot

    live = LiveDependencies(
        plan.folder.workers, snapshot, renderer, explained_at_once, plan.settings.reasons_url
    )
    trials = Trials(
        plan.configuration.files.routes,
        plan.configuration.files.policies,
        plan.folder.path,
        _settings_of_trials(plan.settings),
        memory_limit=memory_bytes(),
    )
    explained = ExplainDependencies(snapshot, find_caller, clock, explained_at_once)
    return [
        *OverviewPage(status.brief, status, status.routes, operators.may_act).pages(),
        *LivePage(live).pages(),
        *ReachPage(snapshot, find_caller, clock).pages(),
        *ExplainPage(explained).pages(),
        *PlaygroundPage(trials).pages(),
        *list_pages(components, status),
    ]


def _settings_of_trials(settings: Settings) -> dict[str, str]:
    """By which a configuration is judged.  No secret is among them."""
    return {
        "PUBLIC_URL": settings.public_url,
        "AUTH_PREFIX": settings.auth_prefix,
        "ISSUER": settings.token_issuer,
        "AUDIENCE": settings.token_audience,
        "REGISTRATION": settings.registration,
    }


def _find_caller(components: Components) -> FindCaller:
    def snapshot() -> Snapshot:
        return components.plan.configuration.snapshot

    claims = AccountClaims(lambda: snapshot().attributes, lambda: snapshot().tenants)

    async def find(email: str) -> Principal | None:
        account = await Accounts(components.database).by_email(email)
        if account is None:
            return None
        return person(
            account.id,
            account.roles,
            now=components.clock.now(),
            email=account.email,
            email_verified=account.email_verified,
            claims=claims.of(account, None),
        )

    return find


def _local_sign_in(components: Components) -> LocalSignIn:
    plan = components.plan
    return LocalSignIn(
        plan.folder.admin_token(),
        derived_key(plan.key_secret(), KeyPurpose.CONSOLE),
        LocalSignInDependencies(
            components.database, components.replica, components.replica, components.clock
        ),
    )


def _account_sign_in(
    components: Components, operators: Operators, audit: AuditSink
) -> AccountSignIn | None:
    settings = components.plan.settings
    if settings.admin_url is None:
        return None
    return AccountSignIn(
        AccountSignInDependencies(
            origin=settings.admin_url,
            public_url=settings.public_url,
            own_paths=settings.own_paths,
            hand_overs=HandOvers(
                derived_key(components.plan.key_secret(), KeyPurpose.HAND_OVER),
                RedisNonceStore(components.redis),
                components.clock,
            ),
            cookies=components.cookies,
            operators=operators,
            return_targets=components.return_targets,
            session_wait_s=EndpointLimits(components.auth_limits).session_wait_s,
            audit=audit,
            shielded=components.operator_writes,
        )
    )
