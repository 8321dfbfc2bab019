"""What a worker is made of: the only place that turns settings into the rooms' own options.

Nothing here raises because a store is away: what is built connects when it is first used.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from gateway.access.authorizer import Authorizer
from gateway.access.routing.csrf import OwnOrigins
from gateway.app.auth import LazyAuthApi, pages_options
from gateway.app.bootstrap import BootstrapContext, make_key_rotation, make_mailer
from gateway.app.setting_types import access_log_sample
from gateway.app.settings_watch import SettingsWatch
from gateway.app.shared_settings import shared
from gateway.app.tracing import WorkerClasses, classes_of
from gateway.audit.log import AuditLog
from gateway.background_tasks import Tasks
from gateway.edge.endpoints.cookie_sessions import (
    CookieDependencies,
    CookieSessions,
    reread_interval_s,
)
from gateway.edge.endpoints.endpoint import ShieldedTasks
from gateway.edge.pages.assembly import build_refusal_page
from gateway.edge.proxy.request import CallReader
from gateway.edge.replies.cookies import SessionStorage
from gateway.edge.replies.observers import DecisionObserver, DecisionObservers, DenialObserver
from gateway.edge.server.descriptors import are_scarce
from gateway.edge.server.listener_tls import Certificates
from gateway.edge.streams.reevaluation import SessionReading
from gateway.edge.streams.registry import LongLivedRequests
from gateway.edge.upstream.clusters import Clusters
from gateway.edge.upstream.resolver import SystemResolver
from gateway.identity.accounts.account_claims import AccountClaims
from gateway.identity.clients.basic_keys import BasicKeyAuthenticator
from gateway.identity.clients.key_authenticator import ApiKeyAuthenticator
from gateway.identity.clients.key_terms import KeyTerms
from gateway.identity.issuers.introspection import ASK_WAIT_S, AT_ONCE
from gateway.identity.issuers.issuer_tokens import IssuerTokens, IssuerTokensOptions
from gateway.identity.issuers.kept_keys import KeptKeys
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.key_ring import KeyRing
from gateway.identity.keys.rotation import KeyRotation
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.providers.client import ProviderClient
from gateway.identity.providers.key_sets import ProviderKeySets
from gateway.identity.sessions.sealing import SessionSealer
from gateway.identity.sessions.sessions import Sessions
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens
from gateway.identity.sign_in.return_targets import ReturnTargets
from gateway.identity.sign_in.session_cookies import CookieMint, Csrf
from gateway.identity.tokens.access_tokens import TokenVerifier
from gateway.identity.tokens.authenticator import RequestAuthenticator
from gateway.identity.tokens.upstream_assertions import Assertions
from gateway.model import Clock, CredentialKind, SystemClock
from gateway.rate_limit.limiter import RateLimiter
from gateway.revocation.replica import Replica, ReplicaOptions
from gateway.revocation.stream_identity import StreamIdentity
from gateway.stores.counters import RedisCounters
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database
from gateway.stores.redis import RedisStore, open_redis
from gateway.stores.stream import RedisChangeStream
from gateway.stores.watch import StoreWatch
from gateway.telemetry.access_log import AccessLog, AccessLogOptions
from gateway.telemetry.clock_skew import ClockMonitor
from gateway.telemetry.decision_log import DecisionLog, DecisionLogOptions
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.shadow import Shadow

log = structlog.get_logger(__name__)

AUTH_CALLERS = 20_000
"""Addresses, or sessions, that each limit of `/auth` remembers in one worker: 5 MB."""


@dataclass(frozen=True, slots=True)
class Components:
    """Built once for each worker, by `build_components`, after its fork."""

    plan: BootstrapContext
    certificates: Certificates | None
    clock: Clock
    metrics: Metrics
    classes: WorkerClasses
    tasks: Tasks
    database: Database
    sql_watch: StoreWatch
    redis: RedisStore
    clock_monitor: ClockMonitor
    replica: Replica
    stream_identity: StreamIdentity
    settings_watch: SettingsWatch
    ring: KeyRing
    key_rotation: KeyRotation
    verifier: TokenVerifier
    issuer_tokens: IssuerTokens
    provider_client: ProviderClient
    provider_keys: ProviderKeySets
    api_keys: ApiKeyAuthenticator
    csrf: Csrf
    refresh_tokens: RefreshTokens
    cookies: CookieSessions
    authenticator: RequestAuthenticator
    audit: AuditLog
    limits: RateLimiter
    auth_limits: RateLimiter
    assertions: Assertions
    gate: Authorizer
    shadow: Shadow
    decision_log: DecisionLog | None
    access_log: AccessLog
    observer: DecisionObservers
    reader: CallReader
    long_lived: LongLivedRequests
    clusters: Clusters
    return_targets: ReturnTargets
    auth_api: LazyAuthApi
    mailer: MailOutbox
    operator_writes: ShieldedTasks
    """What operators do in the console, and have begun."""


def build_components(
    plan: BootstrapContext, certificates: Certificates | None = None
) -> Components:
    """Within the running loop of the worker."""

    async def sql_time() -> float:
        async with database.read_transaction() as tx:
            return await tx.now()

    async def keys_changed() -> None:
        await ring.refresh()

    settings = plan.settings
    clock = SystemClock()
    metrics = Metrics()
    classes = classes_of(settings, metrics, clock)
    tasks = Tasks(metrics.defects("task"))
    # What a worker finds was made before it; a folder that is away comes back with what it holds.
    database = classes.database(open_database(settings.database_url, clock=clock, create=False))
    sql_watch = StoreWatch(
        open_database(settings.database_url, clock=clock, pool_size=1, create=False),
        on_change=_log_sql,
    )
    redis = open_redis(plan.redis_url, durable=settings.embedded_redis, store=classes.redis)
    clock_monitor = ClockMonitor(clock, {"SQL": sql_time, "Redis": redis.time})
    replica = Replica(
        database,
        RedisChangeStream(redis),
        clock,
        ReplicaOptions(
            max_staleness_s=settings.max_staleness_s,
            max_token_life_s=settings.max_token_life_s,
            workers=settings.workers,
        ),
        keys_changed=keys_changed,
    )
    stream_identity = StreamIdentity(
        database, lambda: replica.incarnation, settings.max_staleness_s
    )
    settings_watch = SettingsWatch(database, shared(settings, plan.key_secret()))
    replica.confirms_nothing = lambda: stream_identity.differs or settings_watch.differs
    sealer = Sealer(plan.key_secret())
    ring = KeyRing(database, sealer, clock, refused=replica.refuses_key)
    key_rotation = make_key_rotation(plan, database, sealer, replica)
    verifier = TokenVerifier(
        ring,
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        max_life_s=settings.max_token_life_s,
        clock=clock,
    )
    addresses = SystemResolver().addresses
    issuer_tokens = IssuerTokens(
        IssuerTokensOptions(settings.token_issuer, settings.max_token_life_s),
        classes.fetcher(addresses),
        KeptKeys(plan.folder.issuers),
        clock,
        posts=lambda issuer: classes.form_poster(
            addresses, issuer.ca, timeout_s=ASK_WAIT_S, at_once=2 * AT_ONCE
        ),
        fetched=metrics.by_issuer(
            "issuer_fetches", "Fetches of issuers' keys: ok, unreachable, refused."
        ),
        asked=metrics.by_issuer(
            "issuer_introspections",
            "Questions to issuers whether a token is good: active, inactive, unreachable, refused.",
        ),
    )
    provider_keys = ProviderKeySets(
        classes.fetcher(addresses),
        clock,
        metrics.by_provider(
            "provider_fetches", "Fetches of providers' keys: ok, unreachable, refused."
        ),
    )
    provider_client = ProviderClient(
        classes.fetcher(addresses),
        classes.provider_servers(addresses),
        provider_keys,
        clock,
        redirect_uri=lambda name: (
            settings.public_url + settings.own_paths.endpoint("providers", name, "callback")
        ),
        asked=metrics.by_provider(
            "provider_questions",
            "Questions to providers of who signs in: ok, unreachable, refused.",
        ),
    )
    claims = AccountClaims(
        lambda: plan.configuration.snapshot.attributes,
        lambda: plan.configuration.snapshot.tenants,
    )
    key_terms = KeyTerms(
        lambda: plan.configuration.snapshot.factor_rule,
        lambda: plan.configuration.snapshot.trusted_providers,
    )
    api_keys = ApiKeyAuthenticator(database, replica, clock, claims, key_terms)
    csrf = Csrf(derived_key(plan.key_secret(), KeyPurpose.CSRF))
    refresh_tokens = RefreshTokens(
        database,
        RefreshOptions(
            life_s=settings.refresh_ttl_s, idle_s=settings.refresh_idle_s, claims=claims
        ),
        factor_rule=lambda: plan.configuration.snapshot.factor_rule,
    )
    reread_s = reread_interval_s(settings.access_ttl_s, settings.refresh_idle_s)
    cookies = CookieSessions(
        CookieDependencies(
            storage=SessionStorage(
                redis,
                clock,
                SessionSealer(derived_key(plan.key_secret(), KeyPurpose.SESSION)),
                CookieMint(derived_key(plan.key_secret(), KeyPurpose.SESSION_COOKIE)),
            ),
            refresh_tokens=refresh_tokens,
            sessions=Sessions(database, idle_s=settings.refresh_idle_s),
            revocations=replica,
            publisher=replica,
            csrf=csrf,
            clock=clock,
            ttl_s=reread_s,
        )
    )
    authenticator = RequestAuthenticator(
        verifier,
        ring,
        replica,
        clock,
        others={
            CredentialKind.API_KEY: api_keys,
            CredentialKind.BASIC: BasicKeyAuthenticator(api_keys),
            CredentialKind.COOKIE: cookies,
        },
        issuers=issuer_tokens,
    )
    audit = AuditLog(
        database,
        clock,
        derived_key(plan.key_secret(), KeyPurpose.AUDIT_PSEUDONYM),
        derived_key(plan.key_secret(), KeyPurpose.AUDIT_CHAIN),
        dropped=metrics.tally(
            "audit_events_dropped", "Events that found no room in the queue of the audit log."
        ),
    )
    limits = RateLimiter(
        clock,
        RedisCounters(redis),
        live=lambda: replica.live_workers,
        # Nobody else opens the embedded server, and its folder is one gateway's.
        alone=settings.embedded_redis and settings.workers == 1,
    )
    auth_limits = RateLimiter(
        clock,
        RedisCounters(redis),
        live=lambda: replica.live_workers,
        capacity=AUTH_CALLERS,
    )
    assertions = Assertions(database, plan.key_secret(), clock, issuer=settings.token_issuer)
    gate = Authorizer(authenticator, limits, csrf, origins=OwnOrigins(settings.public_url))
    shadow = Shadow(metrics, clock, plan.shadow, authenticator, OwnOrigins(settings.public_url))
    decision_log: DecisionLog | None = None
    if settings.decision_log is not None:
        decision_log = DecisionLog(
            DecisionLogOptions(
                plan.folder.path / "decisions",
                settings.decision_log,
                workers=settings.workers,
            ),
            clock,
            lambda: plan.configuration.snapshot.version,
            dropped=metrics.tally(
                "decision_log_dropped",
                "Decisions that the log lost: its queue or its disk was full.",
            ),
        )
    access_log = AccessLog(
        AccessLogOptions(
            access_log_sample(settings.access_log),
            settings.access_log_format == "combined",
            settings.access_log_file,
        ),
        clock,
        lambda: plan.configuration.snapshot.version,
        dropped=metrics.tally(
            "access_log_dropped",
            "Lines that the access log lost: its queue was full, or nobody took them.",
        ),
    )
    observers: list[DecisionObserver] = [DenialObserver(audit), access_log, shadow]
    if decision_log is not None:
        observers.append(decision_log)
    if classes.tracing is not None:
        observers.append(classes.tracing.tracer)
    observer = DecisionObservers(*observers)
    reader = classes.reader(settings.trusted_proxies)
    long_lived = LongLivedRequests(
        replica.refusal, clock.now, SessionReading(refresh_tokens, reread_s), issuer_tokens
    )
    replica.on_change.append(long_lived.changed)
    clusters = Clusters(
        on_sweep=long_lived.sweep,
        metrics=metrics,
        tls=plan.configuration.tls,
        scarce=are_scarce,
    )
    return_targets = ReturnTargets(
        derived_key(plan.key_secret(), KeyPurpose.RETURN_TO),
        clock,
        public_url=settings.public_url,
        own_paths=settings.own_paths,
        shared_hosts=lambda: plan.configuration.snapshot.shared_hosts,
    )
    auth_api = LazyAuthApi(
        classes.record_endpoint, build_refusal_page(pages_options(settings, plan.page_overrides))
    )
    mailer = make_mailer(plan, database)
    return Components(
        plan=plan,
        certificates=certificates,
        clock=clock,
        metrics=metrics,
        classes=classes,
        tasks=tasks,
        database=database,
        sql_watch=sql_watch,
        redis=redis,
        clock_monitor=clock_monitor,
        replica=replica,
        stream_identity=stream_identity,
        settings_watch=settings_watch,
        ring=ring,
        key_rotation=key_rotation,
        verifier=verifier,
        issuer_tokens=issuer_tokens,
        provider_client=provider_client,
        provider_keys=provider_keys,
        api_keys=api_keys,
        csrf=csrf,
        refresh_tokens=refresh_tokens,
        cookies=cookies,
        authenticator=authenticator,
        audit=audit,
        limits=limits,
        auth_limits=auth_limits,
        assertions=assertions,
        gate=gate,
        shadow=shadow,
        decision_log=decision_log,
        access_log=access_log,
        observer=observer,
        reader=reader,
        long_lived=long_lived,
        clusters=clusters,
        return_targets=return_targets,
        auth_api=auth_api,
        mailer=mailer,
        operator_writes=ShieldedTasks(),
    )


def _log_sql(unavailable: bool, why: str) -> None:
    if unavailable:
        log.warning("sql-away", why=why)
    else:
        log.info("sql-back")
