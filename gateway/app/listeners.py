"""The listeners of a worker: the public one, the operator's, and the demo's."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.own_paths import OwnPaths
from gateway.app.components import Components
from gateway.app.console import build_console
from gateway.app.settings import Settings
from gateway.app.status import WorkerStatus
from gateway.edge.admin.decision_api import DecisionApi
from gateway.edge.admin.decision_point import DecisionPoint
from gateway.edge.admin.listener import AdminListener, AdminOptions
from gateway.edge.proxy.handler import Proxy
from gateway.edge.proxy.request import CallReader
from gateway.edge.replies.observers import DecisionObserver, DecisionObservers, DenialObserver
from gateway.edge.replies.sign_in_redirects import SignInRedirects
from gateway.edge.server.descriptors import room_for_admin, room_for_clients
from gateway.edge.server.limits import ListenerLimits
from gateway.edge.server.listener import Listener
from gateway.review.error_page import ExplainedDenial
from gateway.telemetry.retained_counts import RetainedCounts

log = structlog.get_logger(__name__)


def public_listener(components: Components, draining: Callable[[], bool]) -> Listener:
    settings = components.plan.settings
    classes = components.classes
    problem_types = classes.problem_types(settings.reasons_url)
    handler = Proxy(
        components.gate,
        lambda: components.plan.configuration.snapshot,
        components.reader,
        components.clusters,
        components.auth_api,
        long_lived=components.long_lived,
        metrics=classes.request_metrics,
        observer=components.observer,
        denial_page=ExplainedDenial(),
        sign_in_redirects=_sign_in_redirects(components),
        draining=draining,
        assertion_signer=components.assertions,
        csrf=components.csrf,
        origins=OwnOrigins(settings.public_url),
        problem_types=problem_types,
        forwarder=classes.forwarder,
    )
    components.observer.on_change.append(handler.observers_changed)
    return Listener(
        classes.handler(handler),
        components.reader,
        _listener_limits(settings),
        problem_types=problem_types,
        on_shutdown=components.long_lived.end_sockets,
        on_refusal=lambda reason, request: components.access_log.refused(reason, "", request),
        metrics=components.metrics,
        meter=components.metrics.route(""),
        defects=components.metrics.defects("answer"),
    )


def admin_listener(components: Components, status: WorkerStatus) -> Listener:
    settings = components.plan.settings
    classes = components.classes
    problem_types = classes.problem_types(settings.reasons_url)
    options = AdminOptions(
        hosts=_admin_hosts(settings),
        own_paths=settings.own_paths,
    )
    reader = classes.reader(settings.trusted_proxies)
    parts = build_console(components, status)
    loopback = settings.admin_listen.loopback
    decisions = DecisionApi(decision_point(components, classes.reader()))
    defects = components.metrics.defects("answer")
    admin = AdminListener(
        options,
        status.socket,
        reader,
        status,
        classes.handler(decisions, trusted=True),
        console=parts.console if parts is not None else None,
        readiness=status.brief,
        operators=parts.operators if parts is not None and loopback else None,
        meter=components.metrics.record_endpoint,
        defects=defects,
        complete=RetainedCounts(components.plan.folder.workers).completed,
        on_refusal=components.access_log.answered,
        problem_types=problem_types,
        audit=components.audit,
    )
    # One proxy may ask with all of them.
    limits = ListenerLimits(connections=room_for_admin(), connections_of_one=0)
    return Listener(
        admin,
        reader,
        limits,
        problem_types=problem_types,
        on_refusal=lambda reason, request: components.access_log.refused(reason, "", request),
        meter=components.metrics.route(""),
        defects=defects,
    )


def decision_point(components: Components, reader: CallReader) -> DecisionPoint:
    """What answers other proxies; `reader` is of the listener that they ask."""
    settings, classes = components.plan.settings, components.classes
    observers: list[DecisionObserver] = [DenialObserver(components.audit), components.access_log]
    if classes.tracing is not None:
        observers.append(classes.tracing.tracer)
    return classes.decision_point(
        components.gate,
        lambda: components.plan.configuration.snapshot,
        reader,
        live=components.replica.is_live,
        refusal=components.long_lived.refusal,
        assertion_signer=components.assertions,
        metrics=classes.request_metrics,
        observer=DecisionObservers(*observers),
        origins=OwnOrigins(settings.public_url),
        sign_in_redirects=_sign_in_redirects(components),
        problem_types=classes.problem_types(settings.reasons_url),
    )


class WorkerListener(Protocol):
    """What is closed when a worker ends."""

    async def stop(self, within_s: float) -> None:
        """Takes nothing any more; what has begun has so long to end."""


async def ext_authz_listener(
    components: Components, ready: Callable[[], bool], address: str
) -> WorkerListener:
    """Serves from now on.  Its libraries are loaded here, by whoever asks for it."""
    # gRPC's core would write a line of its own for each handshake that fails, as a stranger's does.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from gateway.edge.ext_authz.server import CONNECTIONS_MAX, ExtAuthzServer

    server = ExtAuthzServer(
        decision_point(components, components.classes.reader()),
        ready=ready,
        defects=components.metrics.defects("answer"),
        connections=min(CONNECTIONS_MAX, room_for_admin()),
    )
    await server.start(address, components.certificates)
    return server


def demo_listener(own_paths: OwnPaths) -> web.AppRunner:
    from gateway.app import demo_backend  # `gateway dev` alone has it

    return web.AppRunner(demo_backend.application(own_paths), access_log=None, shutdown_timeout=1.0)


def _sign_in_redirects(components: Components) -> SignInRedirects:
    settings = components.plan.settings
    return SignInRedirects(settings.public_url, settings.own_paths, components.return_targets)


def _listener_limits(settings: Settings) -> ListenerLimits:
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
        stall_s=settings.client_write_timeout_s,
        connections=connections,
        buffered_bytes=settings.max_buffered_bytes,
        connections_of_one=settings.max_connections_per_address,
    )


def _admin_hosts(settings: Settings) -> frozenset[str]:
    """Beside those of loopback, as `Host` says them: lower case, without port or brackets."""
    url = () if settings.admin_url is None else (urlsplit(settings.admin_url).hostname or "",)
    return frozenset(host.lower() for host in (*settings.admin_hosts, *url))
