"""One worker: its listeners, the tasks beside them, and its life.

Nothing here raises because a store is away.  A worker serves public routes from its
first moment, answers 503 to the rest until it has what it needs, and goes on trying.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from aiohttp import web

from gateway.access.resource_servers import resource_paths
from gateway.access.snapshot import Snapshot
from gateway.app.auth import AuthDependencies, build_auth_api
from gateway.app.bootstrap import BootstrapContext, prepare
from gateway.app.components import build_components
from gateway.app.listeners import (
    WorkerListener,
    admin_listener,
    demo_listener,
    ext_authz_listener,
    public_listener,
)
from gateway.app.maintenance import SWEEP_EVERY_S, Maintenance
from gateway.app.quickstart import DemoUser
from gateway.app.status import WorkerStatus
from gateway.audit.log import AuditEvent, AuditKind
from gateway.edge.server.listener import Listener
from gateway.edge.server.listener_tls import Certificates
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.known_passwords import KnownPasswords
from gateway.model import ConfigProblem, Reason
from gateway.stores.migrations import SchemaProblem
from gateway.stores.protocols import StoreUnavailable
from gateway.telemetry.live_answers import LiveAnswers
from gateway.telemetry.refusal_socket import RefusalSocket

log = structlog.get_logger(__name__)

AGAIN_FIRST_S, AGAIN_MOST_S = 0.1, 2.0
DEMO_EMAIL = "demo@example.com"
DEMO_ROLE = "manager"


class App:
    """One worker: its components, its listeners, and its life."""

    def __init__(
        self,
        plan: BootstrapContext,
        certificates: Certificates | None = None,
        *,
        deaths: Callable[[], int] = lambda: 0,
    ) -> None:
        """`deaths`: how many workers have died since the gateway was started."""
        self.components = build_components(plan, certificates)
        self.maintenance = Maintenance(self.components)
        self.draining = False
        self.status = WorkerStatus(
            self.components, ready=lambda: self.ready, draining=lambda: self.draining
        )
        self._refusals = RefusalSocket(plan.folder.workers, self.components.access_log.find)
        self._live = LiveAnswers(
            plan.folder.workers,
            self.components.access_log,
            self.components.clock,
            lambda: plan.configuration.snapshot.version,
            self._watch_allowed,
        )
        self._public: Listener | None = None
        self._applied = ""
        plan.configuration.on_change.append(self._apply)
        plan.configuration.on_refusal.append(self._refused)
        self._apply(plan.configuration.snapshot)
        self.components.metrics.node(
            "worker_restarts", "Workers that died and were replaced, since the start.", deaths
        )

    # --- listeners ---

    @property
    def connections(self) -> int:
        """Open ones of the public listener."""
        return self._public.open if self._public is not None else 0

    @property
    def buffered_bytes(self) -> int:
        """Held by the public listener for who is slow."""
        return self._public.buffers.total_bytes if self._public is not None else 0

    def public_listener(self) -> Listener:
        self._public = public_listener(self.components, lambda: self.draining)
        return self._public

    def admin_listener(self) -> Listener:
        return admin_listener(self.components, self.status)

    async def ext_authz_listener(self, address: str) -> WorkerListener:
        """Serves from now on."""
        return await ext_authz_listener(self.components, lambda: self.ready, address)

    def demo_listener(self) -> web.AppRunner:
        return demo_listener(self.components.plan.settings.own_paths)

    # --- life ---

    async def start(self) -> None:
        """Starts what runs beside the listeners.  Raises for nothing that may heal."""
        parts = self.components
        configuration = parts.plan.configuration
        configuration.load()
        parts.replica.start()
        parts.tasks.start("configuration", configuration.watch)
        parts.tasks.start("open", self._open)
        parts.tasks.start("sql-watch", parts.sql_watch.run)
        parts.tasks.start("clock-monitor", parts.clock_monitor.run)
        if not parts.plan.settings.stores_are_own:
            parts.tasks.start("stream-identity", parts.stream_identity.run)
            parts.tasks.start("settings-watch", self._once_open(parts.settings_watch.run))
        parts.tasks.start("keys", self.maintenance.rotate_keys)
        parts.tasks.start("issuers", parts.issuer_tokens.run)
        parts.tasks.start("limits", parts.limits.run)
        parts.tasks.start("auth-limits", parts.auth_limits.run)
        parts.tasks.start("mail", self._once_open(parts.mailer.run))
        parts.tasks.start("audit", self._once_open(parts.audit.run))
        if parts.plan.settings.audit_retention_days:
            parts.tasks.start("audit-pruning", self._once_open(self.maintenance.prune_audit))
        parts.tasks.start("access-log", parts.access_log.run)
        if parts.decision_log is not None:
            parts.tasks.start("decision-log", parts.decision_log.run)
        if parts.plan.shadow is not None:
            parts.plan.shadow.load()
            parts.tasks.start("shadow-configuration", parts.plan.shadow.watch)
            parts.tasks.start("shadow", parts.shadow.run)
        parts.tasks.every("api-keys", SWEEP_EVERY_S, parts.api_keys.write_uses)
        parts.tasks.start("sweep", self.maintenance.sweep)
        if parts.certificates is not None:
            parts.tasks.start("certificates", self.maintenance.follow_certificates)
        if (tracing := parts.classes.tracing) is not None:
            tracing.thread.start()
        with suppress(OSError):
            await self.status.socket.start()
            await self.status.brief.start()
            await self.status.load.start()
            await self._refusals.start()
            await self._live.start()

    async def wait_until_ready(self, within_s: float) -> bool:
        """Whether this worker can decide, and sign people in, within that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.components.auth_api.opened.wait()
                while not self.ready:  # noqa: ASYNC110 (the clock fences it, and no event does)
                    await asyncio.sleep(0.01)
        return self.ready

    @property
    def ready(self) -> bool:
        """Whether calls with a credential can be decided here, and should be sent here."""
        # Its desk is opened once and stays open: SQL being away later makes no node unready.
        return (
            not self.draining
            and self.components.auth_api.opened.is_set()
            and self.components.replica.is_live()
        )

    async def drain(self) -> None:
        """Calls are still taken, and told to go elsewhere next time."""
        self.draining = True
        if self._public is not None:
            self._public.drain()
        await asyncio.sleep(self.components.plan.settings.drain_s)

    async def last_calls(self) -> None:
        """Closes the public listener; whoever has come is heard."""
        if self._public is not None:
            await self._public.last_calls()

    async def stop(self) -> None:
        parts = self.components
        await parts.auth_api.close()
        await parts.operator_writes.wait()
        await parts.tasks.stop()
        if (tracing := parts.classes.tracing) is not None:
            await tracing.thread.stop()
        await parts.issuer_tokens.close()
        await parts.provider_keys.close()
        await parts.replica.stop()
        await self.status.socket.stop()
        await self.status.brief.stop()
        await self.status.load.stop()
        await self._refusals.stop()
        await self._live.stop()
        parts.long_lived.close()
        parts.clusters.close()
        await parts.audit.close()
        await parts.redis.close()
        await parts.sql_watch.close()
        await parts.database.close()

    # --- what runs beside the listeners ---

    async def _open(self) -> None:
        """Brings the installation to where accounts can sign in; tries until it is there."""
        parts = self.components
        await _until_done(
            "installation",
            lambda: prepare(parts.plan, parts.database, parts.key_rotation),
        )
        await _until_done("assertions", parts.assertions.open)
        parts.ring.publish(parts.assertions.verifying_keys())
        await _until_done("signing-keys", parts.ring.refresh)
        await _until_done("accounts", self._open_auth_api)

    def _watch_allowed(self, wanted: bool) -> None:
        observer = self.components.observer
        if wanted:
            observer.attach(self._live)
        else:
            observer.detach(self._live)

    def _once_open(self, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """Before the installation is open its tables may not be there."""

        async def waiting() -> None:
            await self.components.auth_api.opened.wait()
            await work()

        return waiting

    async def _open_auth_api(self) -> None:
        parts = self.components
        dependencies = AuthDependencies(
            settings=parts.plan.settings,
            database=parts.database,
            redis=parts.redis,
            clock=parts.clock,
            replica=parts.replica,
            ring=parts.ring,
            verifier=parts.verifier,
            authenticator=parts.authenticator,
            refresh_tokens=parts.refresh_tokens,
            cookies=parts.cookies,
            csrf=parts.csrf,
            mailer=parts.mailer,
            audit=parts.audit,
            configuration=parts.plan.configuration,
            meter=parts.classes.record_endpoint,
            hashing=parts.classes.hashing,
            defects=parts.metrics.defects("answer"),
            limits=parts.auth_limits,
            metrics=parts.metrics,
            issuer_keys=parts.issuer_tokens,
            return_targets=parts.return_targets,
            provider_client=parts.provider_client,
            provider_keys=parts.provider_keys,
            known_passwords=KnownPasswords(parts.plan.folder.known_passwords),
            page_overrides=parts.plan.page_overrides,
            key_secret=parts.plan.key_secret(),
        )
        parts.auth_api.open(await build_auth_api(dependencies))

    def _refused(self, problems: list[ConfigProblem]) -> None:
        detail = {"problems": len(problems), "first": str(problems[0]) if problems else ""}
        self.components.audit.record(
            AuditEvent(AuditKind.CONFIGURATION, result="refused", detail=detail)
        )

    def _apply(self, snapshot: Snapshot) -> None:
        """What is resolved once for each configuration rather than for each call."""
        parts = self.components
        if snapshot.version != self._applied:
            self._applied = snapshot.version
            parts.audit.record(
                AuditEvent(AuditKind.CONFIGURATION, detail={"version": snapshot.version})
            )
        parts.limits.adopt(snapshot.limits.values())
        parts.clusters.apply(snapshot.upstreams.values())
        parts.issuer_tokens.adopt(snapshot.issuers, resource_paths(snapshot.routes))
        parts.provider_client.adopt(snapshot.providers)
        parts.provider_keys.adopt(snapshot.providers)
        parts.long_lived.reloaded()
        for route in snapshot.routes:
            parts.metrics.route(route.id)

    # --- gateway dev ---

    async def demo_user(self) -> DemoUser:
        """The account that `gateway dev` shows, made at its first start: its password is
        drawn, so that a data folder that is later served to others holds no known one."""
        parts = self.components
        guest = DemoUser(DEMO_EMAIL, parts.plan.folder.demo_password())
        accounts = Accounts(parts.database)
        if await accounts.by_email(guest.email) is None:
            hashed = await parts.auth_api.passwords().rehash(guest.password)
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
        except SchemaProblem as error:
            if not failed:
                log.error("schema-refused", what=what, why=str(error))
        else:
            break
        failed = True
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, AGAIN_MOST_S)
    if failed:
        log.info("store-recovered", what=what)
