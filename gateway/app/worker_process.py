"""One worker process under gunicorn: its event loop, its signals, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import structlog
import uvloop
from aiohttp import web
from gunicorn.workers.base import Worker

from gateway.app.gateway_process import GatewayProcess
from gateway.app.gauges import add_gauges
from gateway.app.listeners import WorkerListener
from gateway.app.quickstart import DemoUser
from gateway.app.supervision import Readiness
from gateway.app.worker import App
from gateway.edge.server.listener import BACKLOG
from gateway.telemetry.metrics import Tally

log = structlog.get_logger(__name__)

IN_FLIGHT_S = 30.0
"""What has begun when the listeners close has so long to end."""


CATCH_UP_S = 2.0
"""A worker that starts lets its connections wait so long for its replica: the callers of a
worker that was replaced see a pause, not a refusal."""


class WorkerProcess(Worker):  # type: ignore[misc]
    """One process that serves.  Booting never ends the master: gunicorn halts when a
    worker leaves with its boot error, so what fails here leaves with 1 and is tried again."""

    graceful = False

    def init_process(self) -> None:
        self.loop = uvloop.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.stopping = asyncio.Event()
        try:
            super().init_process()
        except Exception:
            log.exception("worker-failed")
            # Not at once: what failed (no descriptors, no memory) may need a moment.
            time.sleep(1)
            sys.exit(1)

    def init_signals(self) -> None:
        """Through the event loop: gunicorn's own would interrupt it anywhere."""
        for signum, handle in (
            (signal.SIGTERM, self.handle_exit),
            (signal.SIGQUIT, self.handle_quit),
            (signal.SIGINT, self.handle_quit),
            (signal.SIGWINCH, self.handle_winch),
            (signal.SIGUSR1, self.handle_usr1),
            (signal.SIGABRT, self.handle_abort),
        ):
            self.loop.add_signal_handler(signum, handle, signum, None)
        # The master's handler would take the ends of children that a worker waits for.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.graceful = True
        self.stopping.set()

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        self.graceful = False
        self.stopping.set()

    def run(self) -> None:
        # Set once it serves: what fails before that is no good start.
        self.booted = False
        try:
            self.loop.run_until_complete(self._serve())
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()
        sys.exit(0)

    async def _serve(self) -> None:
        process: GatewayProcess = self.app.process
        app = App(process.plan, process.certificates, deaths=lambda: process.deaths.count)
        add_gauges(app)
        callbacks = app.components.metrics.defects("callback")
        self.loop.set_exception_handler(lambda _, context: _loop_failed(callbacks, context))
        self.loop.add_signal_handler(signal.SIGHUP, process.plan.configuration.request_reload)
        heartbeat = self.loop.create_task(self._heartbeat())
        try:
            await app.start()
            self.booted = True
            log.info("worker-started")
            await app.wait_until_ready(CATCH_UP_S)
            listeners, demo = await self._open(app, process)
            if self.age == 1 and process.welcome is not None:
                tell = process.welcome
                app.components.tasks.start("welcome", lambda: _welcome(app, tell))
            app.components.tasks.start("ready", lambda: _tell_ready(app, process.readiness))
            await self.stopping.wait()
            if self.graceful:
                log.info("worker-draining", drain_s=app.components.plan.settings.drain_s)
                await app.drain()
            await self._close(app, listeners)
            if demo is not None:
                await demo.cleanup()
            log.info("worker-stopped")
        finally:
            heartbeat.cancel()
            await app.stop()

    async def _open(
        self, app: App, process: GatewayProcess
    ) -> tuple[list[WorkerListener], web.AppRunner | None]:
        public, admin = app.public_listener(), app.admin_listener()
        public_socket, admin_socket, *demo_socket = (listener.sock for listener in self.sockets)
        shown = process.certificates
        public.start()
        public.listen(public_socket, None if shown is None else shown.context)
        admin.start()
        admin.listen(admin_socket)
        listeners: list[WorkerListener] = [public, admin]
        if process.listeners.ext_authz is not None:
            listeners.append(await app.ext_authz_listener(str(process.listeners.ext_authz)))
        demo: web.AppRunner | None = None
        for sock in demo_socket:
            demo = app.demo_listener()
            await demo.setup()
            await web.SockSite(demo, sock, backlog=BACKLOG).start()
        return listeners, demo

    async def _close(self, app: App, listeners: Sequence[WorkerListener]) -> None:
        """Listeners first, then what is in flight, then what they lived on."""
        if self.graceful:
            await app.last_calls()
        within_s = IN_FLIGHT_S if self.graceful else 0.5
        await asyncio.gather(*(listener.stop(within_s) for listener in listeners))

    async def _heartbeat(self) -> None:
        """Shows the master that the loop turns, while draining too; ends when it is gone."""
        while True:
            self.notify()
            if self.ppid != os.getppid():
                self.stopping.set()
            await asyncio.sleep(1)


async def _welcome(app: App, tell: Callable[[App, DemoUser], None]) -> None:
    if await app.wait_until_ready(60):
        tell(app, await app.demo_user())


async def _tell_ready(app: App, readiness: Readiness) -> None:
    while not app.ready:  # noqa: ASYNC110 (the clock fences it, and no event does)
        await asyncio.sleep(0.05)
    log.info("worker-ready")
    readiness.tell()


def _loop_failed(defects: Tally, context: dict[str, Any]) -> None:
    """What nobody awaited: one line, with the kind of error and never its text."""
    defects.n += 1
    error = context.get("exception")
    log.error("unhandled-exception", what=context.get("message"), error=type(error).__name__)
