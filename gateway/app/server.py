"""The processes of one gateway: a master that only watches, and its workers (gunicorn).

The master reads the configuration, finds the ports free, starts the embedded Valkey from its
main thread (the child dies with the thread that started it) and forks the workers.  A worker
opens its own sockets with SO_REUSEPORT: on one shared socket 64 keep-alive connections went
64 : 0.  Signals: SIGTERM drains, SIGINT ends at once, SIGHUP reloads in place.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from types import FrameType
from typing import Any, Protocol

import structlog
from aiohttp import web
from aiohttp.worker import GunicornUVLoopWebWorker
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from gateway.app.bootstrap import BootstrapContext, initialize
from gateway.app.gauges import add_gauges
from gateway.app.quickstart import DemoUser
from gateway.app.setting_types import Address, without_secrets
from gateway.app.supervision import Deaths, Readiness, Systemd, how_it_ended
from gateway.app.worker import App
from gateway.edge.server.descriptors import raise_limit
from gateway.edge.server.listener import Site
from gateway.edge.server.listener_tls import Certificates
from gateway.stores.embedded import EmbeddedValkey
from gateway.telemetry.retained_counts import KeptCounts

log = structlog.get_logger(__name__)

IN_FLIGHT_S = 30.0
"""What has begun when the listeners close has so long to end."""
CATCH_UP_S = 2.0
"""A worker that starts lets its connections wait so long for its replica: the callers of a
worker that was replaced see a pause, not a refusal."""
HANG_S = 30
"""A worker whose loop stood still for so long is killed and replaced."""
LOCK_WAIT_S = 3.0
"""The workers of a master that was killed need up to a second to notice."""


class Refused(Exception):
    """What keeps the gateway from being started; the text says what to do."""


class PortTaken(Refused):
    """Somebody else listens where we were told to; `setting` decides it."""

    def __init__(self, setting: str, address: Address) -> None:
        super().__init__(
            f"{setting}: {address} is in use by another program; stop it, or set {setting}"
            f" to another address, such as {Address(address.host, address.port + 1)}"
        )


class FolderInUse(Refused):
    """Another gateway runs on this data folder."""


class ChildProcess(Protocol):
    """What the master keeps alive beside its workers (the embedded Valkey)."""

    def check(self) -> None:
        """Restarts it when it has died.  Called about once a second, from the main thread."""

    def stop(self) -> None: ...


@dataclass
class Listeners:
    """Where a worker listens, in the order in which gunicorn opens the sockets."""

    public: Address
    admin: Address
    demo: Address | None = None

    def named(self) -> list[tuple[str, Address]]:
        found = [("GATEWAY_LISTEN", self.public), ("GATEWAY_ADMIN_LISTEN", self.admin)]
        return found + ([("--demo-listen", self.demo)] if self.demo else [])


@dataclass
class GatewayProcess:
    """All that the processes of one gateway share."""

    plan: BootstrapContext
    listeners: Listeners
    certificates: Certificates | None = None
    """What the public listener shows; None where it speaks plain HTTP."""
    child: ChildProcess | None = None
    welcome: Callable[[App, DemoUser], None] | None = None
    """Told once, when the first worker can decide: what `gateway dev` prints."""
    readiness: Readiness = field(default_factory=Readiness)
    deaths: Deaths = field(default_factory=Deaths)
    systemd: Systemd = field(default_factory=lambda: Systemd(None))

    def open_stores(self) -> None:
        """Starts the embedded Valkey, and makes what a fresh installation lacks.

        From the main thread, before any fork.  Raises CertificateWrong, ServerMissing,
        StoreUnavailable (the embedded one only: any other may come back), and what `initialize`
        raises.
        """
        settings = self.plan.settings
        if settings.tls_cert is not None and settings.tls_key is not None:
            self.certificates = Certificates(settings.tls_cert, settings.tls_key)
        self.plan.redis_url = settings.redis_url
        if settings.embedded_redis:
            child = EmbeddedValkey(self.plan.folder.path)
            self.plan.redis_url = child.start()
            self.child = child
        try:
            initialize(self.plan)
        except BaseException:
            self.stop_child()
            raise

    def stop_child(self) -> None:
        if self.child is not None:
            self.child.stop()


def lock_data_dir(plan: BootstrapContext) -> None:
    """Makes this process the one gateway of its data folder; FolderInUse, FolderError."""
    plan.folder.make()
    deadline = time.monotonic() + LOCK_WAIT_S
    while not plan.folder.lock():
        if time.monotonic() > deadline:
            raise FolderInUse(
                f"another gateway runs on {plan.folder.path}; stop it, or give this one a"
                " folder of its own (GATEWAY_DATA_DIR)"
            )
        time.sleep(0.1)


def find_ports_free(listeners: Listeners) -> None:
    """Raises PortTaken.  Asked without SO_REUSEPORT: with it, two gateways of one user would
    silently share a port and each get half of the connections."""
    for setting, address in listeners.named():
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.host, address.port))
            except OSError as error:
                raise PortTaken(setting, address) from error


def run(process: GatewayProcess) -> None:
    """Serves until a signal ends it; leaves by SystemExit with the exit code."""
    # gunicorn would tell systemd as soon as it has forked.
    process.systemd = Systemd(os.environ.pop("NOTIFY_SOCKET", None))
    for name in [n for n in os.environ if n.startswith(("GUNICORN_", "LISTEN_FD"))]:
        # Nothing but our own settings steers the processes.
        del os.environ[name]
    _tell_start(process)
    KeptCounts(process.plan.folder.workers).begin_anew()
    raise_limit()
    gc.collect()
    gc.freeze()
    # Requests leave no cycles behind; to look for some after each 700 objects costs 3 µs of
    # the 30 that a request takes in Python.
    gc.set_threshold(20_000, 20, 50)
    Master(_Gateway(process)).run()


def _tell_start(process: GatewayProcess) -> None:
    settings = process.plan.settings
    redis = "embedded" if settings.embedded_redis else without_secrets(settings.redis_url)
    log.info(
        "starting",
        version=version("authgate"),
        **{setting: str(address) for setting, address in process.listeners.named()},
        public_url=settings.public_url,
        workers=settings.workers,
        database=without_secrets(settings.database_url),
        redis=redis,
        data_dir=str(process.plan.folder.path),
        configuration=process.plan.configuration.snapshot.version,
    )


class _Log(Logger):  # type: ignore[misc]
    """gunicorn's remarks go where ours go; it has no access log."""

    def setup(self, cfg: Any) -> None:
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel("WARNING")
        self.error_log.addFilter(_untold)


def _untold(record: logging.LogRecord) -> bool:
    """What `Master` tells with an event of its own is not told twice."""
    return not str(record.msg).startswith(("Worker (pid:%s)", "WORKER TIMEOUT"))


class _Gateway(BaseApplication):  # type: ignore[misc]
    def __init__(self, process: GatewayProcess) -> None:
        self.process = process
        super().__init__()

    def load_config(self) -> None:
        settings = self.process.plan.settings
        chosen = {
            "bind": [str(address) for _, address in self.process.listeners.named()],
            "workers": settings.workers,
            "worker_class": Worker,
            "reuse_port": True,
            "backlog": 2048,
            "timeout": HANG_S,
            "graceful_timeout": int(settings.drain_s + IN_FLIGHT_S + 5),
            "control_socket_disable": True,
            # Nothing else need be writable; each worker has one empty file without a name.
            "worker_tmp_dir": str(self.process.plan.folder.path),
            "logger_class": _Log,
            "proc_name": "authgate",
        }
        for name, value in chosen.items():
            self.cfg.set(name, value)

    def load(self) -> Callable[[], None]:
        return lambda: None


class Master(Arbiter):  # type: ignore[misc]
    """Tells, beside what gunicorn does, what becomes of the workers."""

    _was_ready = False
    _spawn_failed = False

    def handle_term(self) -> None:
        self._tell_stop("SIGTERM", self.app.process.plan.settings.drain_s)
        super().handle_term()

    def handle_int(self) -> None:
        self._tell_stop("SIGINT", 0)
        super().handle_int()

    def handle_quit(self) -> None:
        self._tell_stop("SIGQUIT", 0)
        super().handle_quit()

    def _tell_stop(self, name: str, drain_s: float) -> None:
        log.info("stopping", signal=name, drain_s=drain_s, workers=len(self.WORKERS))
        self.app.process.systemd.stopping()

    def spawn_worker(self) -> int:
        try:
            pid = int(super().spawn_worker())
        except OSError as error:
            # No process, descriptor or inode: those that live go on, and it is tried again.
            if not self._spawn_failed:
                log.error("worker-not-started", why=error.strerror)
            self._spawn_failed = True
            return 0
        self._spawn_failed = False
        return pid

    def reap_workers(self) -> None:
        """A worker that ended by itself is told of by the name that its own lines bear."""
        before = dict(self.WORKERS)
        ends = {pid: how_it_ended(pid) for pid in before}
        super().reap_workers()
        for pid in before.keys() - self.WORKERS.keys():
            ended = ends[pid] or "unknown"
            if ended not in ("exit code 0", "SIGTERM"):
                self.app.process.deaths.add()
                log.error(
                    "worker-died",
                    worker=pid,
                    ended=ended,
                    effect="what it had in hand is lost; another takes its place",
                )

    def _tell_readiness(self) -> None:
        process, workers = self.app.process, self.num_workers
        ready = process.readiness.among(self.WORKERS)
        if self._was_ready:
            return
        if ready < workers:
            process.systemd.starting(ready, workers)
            return
        self._was_ready = True
        log.info("ready", workers=workers)
        process.systemd.ready(workers)

    def handle_hup(self) -> None:
        """Each worker reloads in place; gunicorn would replace them all."""
        self.kill_workers(signal.SIGHUP)

    def handle_usr2(self) -> None:
        """gunicorn would start a second master beside this one, on the same data folder."""
        log.warning("signal-ignored", signal="SIGUSR2")

    def murder_workers(self) -> None:
        well = [worker for worker in self.WORKERS.values() if not worker.aborted]
        super().murder_workers()
        for worker in well:
            if worker.aborted:
                log.error("worker-hung", worker=worker.pid, silent_s=HANG_S)
        self._tell_readiness()
        if self.app.process.child is not None:
            self.app.process.child.check()
        if self.app.process.certificates is not None:
            # A worker that is forked from now on begins with what is good.
            self.app.process.certificates.look()

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        try:
            super().halt(reason, exit_status)
        finally:
            # After the workers: they write to it until they end.
            self.app.process.stop_child()
            log.info("stopped")


class Worker(GunicornUVLoopWebWorker):
    """One process that serves.  Booting never ends the master: gunicorn halts when a
    worker leaves with its boot error, so what fails here leaves with 1 and is tried again."""

    graceful = False

    def init_process(self) -> None:
        try:
            super().init_process()
        except Exception:
            log.exception("worker-failed")
            # Not at once: what failed (no descriptors, no memory) may need a moment.
            time.sleep(1)
            sys.exit(1)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.graceful = True
        super().handle_exit(sig, frame)
        self._notify_waiter_done()

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        self.graceful = False
        super().handle_quit(sig, frame)

    async def _run(self) -> None:
        process: GatewayProcess = self.app.process
        app = App(process.plan, process.certificates, deaths=lambda: process.deaths.count)
        add_gauges(app)
        self.loop.set_exception_handler(_loop_failed)
        self.loop.add_signal_handler(signal.SIGHUP, process.plan.configuration.ask)
        beating = self.loop.create_task(self._beat())
        try:
            await app.start()
            self.booted = True
            log.info("worker-started")
            await app.wait_until_ready(CATCH_UP_S)
            runners = await self._open(app, process)
            if self.age == 1 and process.welcome is not None:
                tell = process.welcome
                app.components.tasks.start("welcome", lambda: _welcome(app, tell))
            app.components.tasks.start("ready", lambda: _tell_ready(app, process.readiness))
            await self._until_told(app)
            await self._close(app, runners)
            log.info("worker-stopped")
        finally:
            beating.cancel()
            await app.stop()

    async def _open(self, app: App, process: GatewayProcess) -> list[web.BaseRunner]:
        shown = process.certificates
        public, admin, *demo = (listener.sock for listener in self.sockets)
        runners: list[web.BaseRunner] = []
        for door, sock, context in (
            (app.public_listener(), public, None if shown is None else shown.context),
            (app.admin_listener(), admin, None),
        ):
            await door.setup()
            await Site(door, sock, context, backlog=2048).start()
            runners.append(door)
        for sock in demo:
            runner = app.demo_listener()
            await runner.setup()
            await web.SockSite(runner, sock, backlog=2048).start()
            runners.append(runner)
        return runners

    async def _until_told(self, app: App) -> None:
        while self.alive and self.ppid == os.getppid():
            await self._wait_next_notify()
        if self.graceful:
            log.info("worker-draining", drain_s=app.components.plan.settings.drain_s)
            await app.drain()

    async def _close(self, app: App, runners: list[web.BaseRunner]) -> None:
        """Listeners first, then what is in flight, then what they lived on."""
        if self.graceful:
            await app.last_calls()
        for runner in runners:
            runner._shutdown_timeout = IN_FLIGHT_S if self.graceful else 0.5
        await asyncio.gather(*(runner.cleanup() for runner in runners))

    async def _beat(self) -> None:
        """Shows the master that the loop turns, while draining too."""
        while True:
            self.notify()
            await asyncio.sleep(1)


async def _welcome(app: App, tell: Callable[[App, DemoUser], None]) -> None:
    if await app.wait_until_ready(60):
        tell(app, await app.demo_user())


async def _tell_ready(app: App, readiness: Readiness) -> None:
    while not app.ready:  # noqa: ASYNC110 (the clock fences it, and no event does)
        await asyncio.sleep(0.05)
    log.info("worker-ready")
    readiness.tell()


def _loop_failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody awaited: one line, with the kind of error and never its text."""
    error = context.get("exception")
    log.error("loop-failed", what=context.get("message"), error=type(error).__name__)
