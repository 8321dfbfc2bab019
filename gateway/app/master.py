"""The master process: forks the workers, watches them, and tells what becomes of them."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Any

import structlog
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from gateway.app.gateway_process import GatewayProcess
from gateway.app.supervision import how_it_ended
from gateway.app.worker_process import IN_FLIGHT_S, WorkerProcess

log = structlog.get_logger(__name__)

HANG_S = 30
"""A worker whose loop stood still for so long is killed and replaced."""


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


class GunicornApplication(BaseApplication):  # type: ignore[misc]
    def __init__(self, process: GatewayProcess) -> None:
        self.process = process
        super().__init__()

    def load_config(self) -> None:
        settings = self.process.plan.settings
        chosen = {
            "bind": [str(address) for _, address in self.process.listeners.named()],
            "workers": settings.workers,
            "worker_class": WorkerProcess,
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
        except (OSError, RuntimeError) as error:
            # No process, descriptor or inode, or (RuntimeError) no folder for the worker's file:
            # those that live go on, and it is tried again.
            if not self._spawn_failed:
                why = error.strerror if isinstance(error, OSError) else "the data folder is away"
                log.error("worker-not-started", why=why)
            self._spawn_failed = True
            self.app.process.deaths.add()
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
        if self.app.process.valkey is not None:
            self.app.process.valkey.check()
        if self.app.process.certificates is not None:
            # A worker that is forked from now on begins with what is good.
            self.app.process.certificates.poll()

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        try:
            super().halt(reason, exit_status)
        finally:
            # After the workers: they write to it until they end.
            self.app.process.stop_stores()
            log.info("stopped")
