"""One worker, put together: the only place that turns settings into the rooms' own options.

Nothing here raises because a store is away.  A worker serves public routes from its
first moment, answers 503 to the rest until it has what it needs, and goes on trying.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog
from aiohttp import web

from gateway.access.authorizer import Gate
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.routes import Route
from gateway.access.snapshot import Snapshot
from gateway.app import demo_backend
from gateway.app.auth import Desk, Parts, open_desk
from gateway.app.bootstrap import Plan, keeper_of, postman_of, prepare
from gateway.app.quickstart import Guest
from gateway.app.settings import Settings
from gateway.audit.chain import ChainKey
from gateway.audit.log import AuditEvent, AuditKind, AuditLog
from gateway.audit.pruning import prune, pruner_name
from gateway.background_tasks import Tasks
from gateway.edge.admin.decision_api import DecisionApi
from gateway.edge.admin.listener import AdminListener, AdminOptions
from gateway.edge.endpoints.cookie_sessions import (
    CookieParts,
    CookieSessions,
    life_of_what_was_read,
)
from gateway.edge.endpoints.rate_limits import OwnLimits
from gateway.edge.proxy.handler import Proxy
from gateway.edge.proxy.request import CallReader
from gateway.edge.replies.cookies import SessionStorage
from gateway.edge.replies.observers import DenialJournal, Journal
from gateway.edge.server.descriptors import ADMIN_CONNECTIONS, room_for_clients
from gateway.edge.server.limits import ListenerLimits
from gateway.edge.server.listener import Door
from gateway.edge.server.listener_tls import LOOK_EVERY_S, Certificates
from gateway.edge.streams.reevaluation import SessionReading
from gateway.edge.streams.registry import OpenCalls
from gateway.edge.upstream.clusters import Upstreams
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.clients.api_keys import ApiKeyIdentifier
from gateway.identity.clients.client_auth import purge_assertions
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.key_ring import REFRESH_EVERY_S, KeyRing
from gateway.identity.keys.rotation import Rotated
from gateway.identity.keys.signing_keys import readable_chain_keys
from gateway.identity.sessions.sealing import SessionSealer
from gateway.identity.sessions.sessions import Sessions
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens
from gateway.identity.sign_in.session_cookies import CookieMint, Csrf
from gateway.identity.tokens.access_tokens import TokenVerifier
from gateway.identity.tokens.authenticator import Identification
from gateway.identity.tokens.upstream_assertions import Assertions
from gateway.model import CredentialKind, Problem, Reason, SystemClock
from gateway.rate_limit.limiter import Limits
from gateway.revocation.replica import Replica, ReplicaOptions
from gateway.revocation.stream_identity import OneStream
from gateway.stores.counters import RedisCounters
from gateway.stores.nonces import RedisOneTime
from gateway.stores.open_database import open_database
from gateway.stores.protocols import StoreUnavailable
from gateway.stores.redis import open_redis
from gateway.stores.stream import RedisChangeStream
from gateway.stores.watch import StoreWatch
from gateway.telemetry.clock_skew import ClockWatch
from gateway.telemetry.decision_log import DecisionLog, JournalOptions, Journals
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.refusal_log import RefusalLog
from gateway.telemetry.retained_counts import KeptCounts
from gateway.telemetry.shadow import Shadow
from gateway.telemetry.worker_status import Peers, Told

log = structlog.get_logger(__name__)

AGAIN_FIRST_S, AGAIN_MOST_S = 0.1, 2.0
SWEEP_EVERY_S = 60.0
PURGE_EVERY_S = 3600.0
PRUNE_EVERY_S = 23 * 3600
AUTH_CALLERS = 20_000
"""Addresses, or sessions, that each limit of `/auth` remembers in one worker: 5 MB."""
DEMO_EMAIL = "demo@example.com"
DEMO_ROLE = "manager"


class App:
    """Everything that one worker process holds."""

    def __init__(
        self,
        plan: Plan,
        certificates: Certificates | None = None,
        *,
        deaths: Callable[[], int] = lambda: 0,
    ) -> None:
        """`deaths`: how many workers have died since the gateway was started."""
        settings = plan.settings
        self.plan = plan
        self.certificates = certificates
        self.clock = SystemClock()
        self.metrics = Metrics()
        self.tasks = Tasks(self.metrics.defects("task"))
        self.draining = False
        self.database = open_database(settings.database_url, clock=self.clock)
        self.sql_watch = StoreWatch(
            open_database(settings.database_url, clock=self.clock, pool_size=1), told=_told_sql
        )
        self.redis = open_redis(plan.redis_url, durable=settings.embedded_redis)
        self.clock_watch = ClockWatch(self.clock, {"SQL": self._sql_time, "Redis": self.redis.time})
        self.replica = Replica(
            self.database,
            RedisChangeStream(self.redis),
            self.clock,
            ReplicaOptions(
                max_staleness_s=settings.max_staleness_s,
                max_token_life_s=settings.max_token_life_s,
                workers=settings.workers,
            ),
            keys_changed=self._keys_changed,
        )
        self.one_stream = OneStream(self.database, lambda: self.replica.incarnation)
        self.replica.confirms_nothing = lambda: self.one_stream.differs
        sealer = Sealer(plan.key_secret())
        self.ring = KeyRing(self.database, sealer, self.clock, refused=self.replica.refuses_key)
        self.keeper = keeper_of(plan, self.database, sealer, self.replica)
        self.verifier = TokenVerifier(
            self.ring,
            issuer=settings.token_issuer,
            audience=settings.token_audience,
            max_life_s=settings.max_token_life_s,
            clock=self.clock,
        )
        self.api_keys = ApiKeyIdentifier(self.database, self.replica, self.clock)
        self.csrf = Csrf(derived_key(plan.key_secret(), KeyPurpose.CSRF))
        self.cookies = self._cookie_sessions()
        self.identification = Identification(
            self.verifier,
            self.ring,
            self.replica,
            self.clock,
            others={
                CredentialKind.API_KEY: self.api_keys,
                CredentialKind.COOKIE: self.cookies,
            },
        )
        self.audit = AuditLog(
            self.database,
            self.clock,
            derived_key(plan.key_secret(), KeyPurpose.AUDIT_ADDRESS),
            derived_key(plan.key_secret(), KeyPurpose.AUDIT_CHAIN),
            dropped=self.metrics.tally(
                "audit_events_dropped", "Events that found no room in the queue of the audit log."
            ),
        )
        self.limits = Limits(
            self.clock,
            RedisCounters(self.redis),
            live=lambda: self.replica.live_workers,
            # Nobody else opens the embedded server, and its folder is one gateway's.
            alone=settings.embedded_redis and settings.workers == 1,
        )
        self.auth_limits = Limits(
            self.clock,
            RedisCounters(self.redis),
            live=lambda: self.replica.live_workers,
            capacity=AUTH_CALLERS,
        )
        self.assertions = Assertions(
            self.database, plan.key_secret(), self.clock, issuer=settings.token_issuer
        )
        self.gate = Gate(
            self.identification, self.limits, self.csrf, origins=OwnOrigins(settings.public_url)
        )
        self.shadow = Shadow(self.metrics, self.clock, plan.shadow, self.identification)
        self.decision_log: DecisionLog | None = None
        if settings.decision_log is not None:
            self.decision_log = DecisionLog(
                JournalOptions(
                    plan.folder.path / "decisions",
                    settings.decision_log,
                    workers=settings.workers,
                ),
                self.clock,
                lambda: plan.configuration.snapshot.version,
                dropped=self.metrics.tally(
                    "decision_log_dropped",
                    "Decisions that the log lost: its queue or its disk was full.",
                ),
            )
        self.refusals = RefusalLog()
        journals: list[Journal] = [DenialJournal(self.audit), self.refusals, self.shadow]
        if self.decision_log is not None:
            journals.append(self.decision_log)
        self.journal = Journals(*journals)
        self.reader = CallReader(settings.trusted_proxies)
        self.open_calls = OpenCalls(self.replica.refusal, self.clock.now, self._session_reading())
        self.replica.on_change.append(self.open_calls.changed)
        self.upstreams = Upstreams(on_sweep=self.open_calls.sweep, metrics=self.metrics)
        self.own = Desk(self.metrics.own)
        self.postman = postman_of(plan, self.database)
        self.peers = Peers(plan.folder.workers, self.tell)
        self._public: Door | None = None
        self._admin: Door | None = None
        self._adopted = ""
        plan.configuration.on_change.append(self._adopt)
        plan.configuration.on_refusal.append(self._refused)
        self._adopt(plan.configuration.snapshot)
        self.metrics.node(
            "worker_restarts", "Workers that died and were replaced, since the start.", deaths
        )

    def _refresh_tokens(self) -> RefreshTokens:
        settings = self.plan.settings
        options = RefreshOptions(life_s=settings.refresh_ttl_s, idle_s=settings.refresh_idle_s)
        return RefreshTokens(self.database, options)

    def _session_reading(self) -> SessionReading:
        settings = self.plan.settings
        ttl_s = life_of_what_was_read(settings.access_ttl_s, settings.refresh_idle_s)
        return SessionReading(self._refresh_tokens(), ttl_s)

    def _cookie_sessions(self) -> CookieSessions:
        settings = self.plan.settings
        return CookieSessions(
            CookieParts(
                storage=SessionStorage(
                    self.redis,
                    self.clock,
                    SessionSealer(derived_key(self.plan.key_secret(), KeyPurpose.SESSION)),
                    CookieMint(derived_key(self.plan.key_secret(), KeyPurpose.SESSION_COOKIE)),
                ),
                refresh_tokens=self._refresh_tokens(),
                sessions=Sessions(self.database, idle_s=settings.refresh_idle_s),
                revocations=self.replica,
                announcer=self.replica,
                csrf=self.csrf,
                clock=self.clock,
                ttl_s=life_of_what_was_read(settings.access_ttl_s, settings.refresh_idle_s),
            )
        )

    # --- doors ---

    @property
    def connections(self) -> int:
        """Open ones of the public listener."""
        return self._public.open if self._public is not None else 0

    @property
    def buffered_bytes(self) -> int:
        """Held by the public listener for who is slow."""
        return self._public.buffers.total_bytes if self._public is not None else 0

    def public_door(self) -> Door:
        handler = Proxy(
            self.gate,
            lambda: self.plan.configuration.snapshot,
            self.reader,
            self.upstreams,
            self.own,
            open_calls=self.open_calls,
            meters=self.metrics,
            journal=self.journal,
            draining=lambda: self.draining,
            asserter=self.assertions,
            csrf=self.csrf,
        )
        self._public = Door(
            handler,
            self.reader,
            _door_limits(self.plan.settings),
            on_shutdown=self.open_calls.close,
            on_refusal=lambda reason, request_id: self.refusals.refused(reason, "", request_id),
            metrics=self.metrics,
            meter=self.metrics.route(""),
            defects=self.metrics.defects("answer"),
        )
        return self._public

    def admin_door(self) -> Door:
        settings = self.plan.settings
        options = AdminOptions(
            hosts=frozenset(host.lower() for host in settings.admin_hosts),
            local_token=self.plan.folder.admin_token(),
            page=settings.admin_listen.loopback,
        )
        reader = CallReader()
        decisions = DecisionApi(
            self.gate,
            lambda: self.plan.configuration.snapshot,
            reader,
            live=self.replica.is_live,
            refusal=self.open_calls.refusal,
            asserter=self.assertions,
            meters=self.metrics,
            journal=Journals(DenialJournal(self.audit), self.refusals),
        )
        defects = self.metrics.defects("answer")
        listener = AdminListener(
            options,
            self.peers,
            self.identification,
            self,
            decisions,
            meter=self.metrics.own,
            defects=defects,
            complete=KeptCounts(self.plan.folder.workers).completed,
        )
        limits = ListenerLimits(connections=ADMIN_CONNECTIONS)
        self._admin = Door(
            listener,
            reader,
            limits,
            shutdown_timeout=1.0,
            meter=self.metrics.route(""),
            defects=defects,
        )
        return self._admin

    def demo_door(self) -> web.AppRunner:
        return web.AppRunner(demo_backend.application(), access_log=None, shutdown_timeout=1.0)

    # --- life ---

    async def start(self) -> None:
        """Starts what runs beside the doors.  Raises for nothing that may heal."""
        configuration = self.plan.configuration
        configuration.load()
        self.replica.start()
        self.tasks.start("configuration", configuration.watch)
        self.tasks.start("open", self._open)
        self.tasks.start("sql-watch", self.sql_watch.run)
        self.tasks.start("clock-watch", self.clock_watch.run)
        if not (self.plan.settings.embedded_redis and self.database.dialect == "sqlite"):
            self.tasks.start("one-stream", self.one_stream.run)
        self.tasks.start("keys", self._tend_keys)
        self.tasks.start("limits", self.limits.run)
        self.tasks.start("auth-limits", self.auth_limits.run)
        self.tasks.start("mail", self._once_open(self.postman.run))
        self.tasks.start("audit", self._once_open(self.audit.run))
        if self.plan.settings.audit_keep_days:
            self.tasks.start("audit-pruning", self._once_open(self._prune_audit))
        self.tasks.start("refusals", self.refusals.run)
        if self.decision_log is not None:
            self.tasks.start("decision-log", self.decision_log.run)
        if self.plan.shadow is not None:
            self.plan.shadow.load()
            self.tasks.start("shadow-configuration", self.plan.shadow.watch)
            self.tasks.start("shadow", self.shadow.run)
        self.tasks.every("api-keys", SWEEP_EVERY_S, self.api_keys.write_uses)
        self.tasks.start("sweep", self._sweep)
        if self.certificates is not None:
            self.tasks.start("certificates", self._follow_certificates)
        with suppress(OSError):
            await self.peers.start()

    async def wait_until_ready(self, within_s: float) -> bool:
        """Whether this worker can decide, and sign people in, within that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.own.opened.wait()
                while not self.ready:  # noqa: ASYNC110 (the clock fences it, and no event does)
                    await asyncio.sleep(0.01)
        return self.ready

    @property
    def ready(self) -> bool:
        """Whether calls with a credential can be decided here, and should be sent here."""
        # Its desk is opened once and stays open: SQL being away later makes no node unready.
        return not self.draining and self.own.opened.is_set() and self.replica.is_live()

    async def drain(self) -> None:
        """Calls are still taken, and told to go elsewhere next time."""
        self.draining = True
        if self._public is not None:
            self._public.drain()
        await asyncio.sleep(self.plan.settings.drain_s)

    async def last_calls(self) -> None:
        """Closes the public listener; whoever has come is heard."""
        if self._public is not None:
            await self._public.last_calls()

    async def stop(self) -> None:
        await self.own.close()
        await self.tasks.stop()
        await self.replica.stop()
        await self.peers.stop()
        self.open_calls.abort()
        self.upstreams.close()
        await self.audit.close()
        await self.redis.close()
        await self.sql_watch.close()
        await self.database.close()

    # --- what runs beside the doors ---

    async def _open(self) -> None:
        """Brings the installation to where accounts can sign in; tries until it is there."""
        await _until_done("installation", lambda: prepare(self.plan, self.database, self.keeper))
        await _until_done("assertions", self.assertions.open)
        self.ring.publish(self.assertions.verifying_keys())
        await _until_done("signing-keys", self.ring.refresh)
        await _until_done("accounts", self._open_desk)

    def _once_open(self, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """Before the installation is open its tables may not be there."""

        async def waiting() -> None:
            await self.own.opened.wait()
            await work()

        return waiting

    async def _open_desk(self) -> None:
        parts = Parts(
            settings=self.plan.settings,
            database=self.database,
            redis=self.redis,
            clock=self.clock,
            replica=self.replica,
            ring=self.ring,
            verifier=self.verifier,
            identification=self.identification,
            cookies=self.cookies,
            csrf=self.csrf,
            postman=self.postman,
            audit=self.audit,
            configuration=self.plan.configuration,
            meter=self.metrics.own,
            defects=self.metrics.defects("answer"),
            limits=OwnLimits(self.auth_limits),
            key_secret=self.plan.key_secret(),
        )
        self.own.open(await open_desk(parts))

    async def _keys_changed(self) -> None:
        await self.ring.refresh()

    async def _tend_keys(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_EVERY_S)
            await self.keeper.tend(
                period_s=self.plan.settings.key_rotation_s or None, told=self._rotated
            )
            await self.ring.refresh()
            self.ring.publish(self.assertions.verifying_keys())

    async def _prune_audit(self) -> None:
        """Once a day, on whichever worker is first."""
        keep_s = self.plan.settings.audit_keep_days * 86_400
        once = RedisOneTime(self.redis)
        while True:
            try:
                if await once.first("audit-prune", PRUNE_EVERY_S):
                    secret = self.plan.key_secret()
                    pruner = AuditLog(
                        self.database,
                        self.clock,
                        derived_key(secret, KeyPurpose.AUDIT_ADDRESS),
                        derived_key(secret, KeyPurpose.AUDIT_CHAIN),
                        writer=pruner_name(),
                    )
                    async with self.database.reading() as tx:
                        older = await readable_chain_keys(tx, Sealer(secret))
                    before_s = self.clock.now() - keep_s
                    await prune(self.database, pruner, before_s, map(ChainKey, older))
            except StoreUnavailable as error:
                log.warning("audit-not-pruned", store=error.store, why=error.detail)
            await asyncio.sleep(PURGE_EVERY_S)

    def _refused(self, problems: list[Problem]) -> None:
        detail = {"problems": len(problems), "first": str(problems[0]) if problems else ""}
        self.audit.record(AuditEvent(AuditKind.CONFIGURATION, result="refused", detail=detail))

    def _rotated(self, rotated: Rotated) -> None:
        detail = {
            "change": "rotated when it was due",
            "kid": rotated.active,
            "retiring": rotated.retiring,
        }
        self.audit.record(AuditEvent(AuditKind.KEY_CHANGED, detail=detail))

    async def _sweep(self) -> None:
        sessions = Sessions(self.database, idle_s=self.plan.settings.refresh_idle_s)
        purge_at = 0.0
        while True:
            self.identification.sweep()
            now = self.clock.steady()
            with suppress(StoreUnavailable):
                await sessions.erase_sealed()
                if now >= purge_at:
                    await sessions.purge()
                    await purge_assertions(self.database)
                    purge_at = now + PURGE_EVERY_S
            await asyncio.sleep(SWEEP_EVERY_S)

    async def _follow_certificates(self) -> None:
        assert self.certificates is not None
        while True:
            self.certificates.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def _adopt(self, snapshot: Snapshot) -> None:
        """What is resolved once for each configuration rather than for each call."""
        if snapshot.version != self._adopted:
            self._adopted = snapshot.version
            self.audit.record(
                AuditEvent(AuditKind.CONFIGURATION, detail={"version": snapshot.version})
            )
        self.limits.adopt(snapshot.limits.values())
        self.upstreams.adopt(snapshot.upstreams.values())
        self.open_calls.reloaded()
        for route in snapshot.routes:
            self.metrics.route(route.id)

    # --- what it tells of itself ---

    def tell(self) -> Told:
        configuration = self.plan.configuration
        snapshot = configuration.snapshot
        return {
            "worker": os.getpid(),
            "ready": self.ready,
            "draining": self.draining,
            "configuration": {"version": snapshot.version, "stale": configuration.stale},
            "dependencies": self._dependencies(),
            "problems": [str(problem) for problem in configuration.problems],
            "routes": [_shown(route) for route in snapshot.routes],
            "metrics": self.metrics.state(),
        }

    def _dependencies(self) -> Mapping[str, str]:
        return {
            "sql": self._sql_state(),
            "redis": self._redis_state(),
            "revocations": "confirmed" if self.replica.is_live() else "stale",
            "keys": self._keys_state(),
            "clock": self.clock_watch.state(),
        }

    async def _sql_time(self) -> float:
        async with self.database.reading() as tx:
            return await tx.now()

    def _sql_state(self) -> str:
        if self.sql_watch.away:
            return "away"
        return "open" if self.own.opened.is_set() else "not opened yet"

    def _redis_state(self) -> str:
        if self.redis.is_away:
            return "away"
        return "open, and not the one of another node" if self.one_stream.differs else "open"

    def _keys_state(self) -> str:
        if not self.ring.kids():
            return "unknown"
        return "known" if self.ring.can_sign() else "known, and none signs"

    async def mails(self) -> Sequence[Mapping[str, Any]]:
        """Meets `edge.admin.listener.Outbox`: what nobody sends, as there is no mail server."""
        if self.plan.settings.smtp_url is not None:
            return []
        return [
            {
                "to": mail.recipient,
                "subject": mail.letter.subject,
                "text": mail.letter.text,
                "at": mail.created_at,
            }
            for mail in await self.postman.outbox()
        ]

    # --- gateway dev ---

    async def demo_user(self) -> Guest:
        """The account that `gateway dev` shows, made at its first start: its password is
        drawn, so that a data folder that is later served to others holds no known one."""
        guest = Guest(DEMO_EMAIL, self.plan.folder.demo_password())
        accounts = Accounts(self.database)
        if await accounts.by_email(guest.email) is None:
            hashed = await self.own.passwords().rehash(guest.password)
            if isinstance(hashed, Reason):
                raise StoreUnavailable("hashing", hashed)
            await accounts.register(guest.email, hashed, roles=[DEMO_ROLE], verified=True)
        return guest


async def _until_done(what: str, work: Callable[[], Awaitable[object]]) -> None:
    """Tries until it succeeds.  What fails is logged once, and then when it has healed."""
    pause_s, failed = AGAIN_FIRST_S, False
    while True:
        try:
            await work()
        except StoreUnavailable as error:
            if not failed:
                log.warning(
                    "waiting-for-store",
                    what=what,
                    store=error.store,
                    why=error.detail,
                    effect="sign-in and calls with a credential are answered 503 meanwhile",
                )
            failed = True
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, AGAIN_MOST_S)
            continue
        if failed:
            log.info("store-is-back", what=what)
        return


def _told_sql(away: bool, why: str) -> None:
    if away:
        log.warning("sql-away", why=why)
    else:
        log.info("sql-back")


def _door_limits(settings: Settings) -> ListenerLimits:
    wanted = settings.max_connections
    connections = room_for_clients(wanted)
    if connections < wanted:
        log.warning("descriptors-are-few", connections=connections, wanted=wanted)
    return ListenerLimits(
        head_bytes=settings.max_header_bytes,
        fields=settings.max_header_fields,
        line_bytes=settings.max_request_line_bytes,
        head_s=settings.header_timeout_s,
        keepalive_s=settings.keepalive_s,
        body_idle_s=settings.body_idle_s,
        body_bytes_per_s=settings.min_body_bytes_per_s,
        stall_s=settings.client_stall_s,
        connections=connections,
        buffered_bytes=settings.max_buffered_bytes,
        connections_of_one=settings.max_connections_per_address,
    )


def _shown(route: Route) -> Mapping[str, Any]:
    return {
        "id": route.id,
        "methods": list(route.methods),
        "host": route.host,
        "path": route.pattern,
        "auth": str(route.auth),
        "policy": route.policy.name if route.policy else None,
        "upstream": route.upstream.name if route.upstream else None,
        "answer": str(route.answer) if route.answer else None,
    }
