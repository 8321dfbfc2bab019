"""The processes of one gateway: a master that only watches, and its workers (gunicorn).

The master reads the configuration, finds the ports free, starts the embedded Valkey from its
main thread (the child dies with the thread that started it) and forks the workers.  A worker
opens its own sockets with SO_REUSEPORT: on one shared socket 64 keep-alive connections went
64 : 0.  Signals: SIGTERM drains, SIGINT ends at once, SIGHUP reloads in place.
"""

from __future__ import annotations

import gc
import os
import socket
import time

import structlog

from gateway.app.bootstrap import BootstrapContext
from gateway.app.gateway_process import GatewayProcess, Listeners
from gateway.app.master import GunicornApplication, Master
from gateway.app.setting_types import Address
from gateway.app.start_report import start_event
from gateway.app.supervision import Systemd
from gateway.edge.server.descriptors import raise_limit
from gateway.telemetry.retained_counts import RetainedCounts

log = structlog.get_logger(__name__)

LOCK_WAIT_S = 3.0
"""The workers of a master that was killed need up to a second to notice."""


class StartRefused(Exception):
    """What keeps the gateway from being started; the text says what to do."""


class PortTaken(StartRefused):
    """Somebody else listens where we were told to; `setting` decides it."""

    def __init__(self, setting: str, address: Address) -> None:
        super().__init__(
            f"{setting}: {address} is in use by another program; stop it, or set {setting}"
            f" to another address, such as {Address(address.host, address.port + 1)}"
        )


class FolderInUse(StartRefused):
    """Another gateway runs on this data folder."""


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
    for setting, address in listeners.told():
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
    log.info("starting", **start_event(process))
    RetainedCounts(process.plan.folder.workers).begin_anew()
    raise_limit()
    gc.collect()
    gc.freeze()
    # Requests leave no cycles behind; to look for some after each 700 objects costs 3 µs of
    # the 30 that a request takes in Python.
    gc.set_threshold(20_000, 20, 50)
    Master(GunicornApplication(process)).run()
