"""What a worker tells of itself: to `/metrics`, `/readyz` and the admin page."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from gateway.access.routing.routes import Auth, Route
from gateway.app.components import Components
from gateway.app.load import WorkerLoad
from gateway.telemetry.worker_status import Status, WorkerStatusSocket


class WorkerStatus:
    """Meets `edge.admin.listener.Outbox`."""

    def __init__(
        self, components: Components, *, ready: Callable[[], bool], draining: Callable[[], bool]
    ) -> None:
        self._components = components
        self._ready = ready
        self._draining = draining
        self.socket = WorkerStatusSocket(components.plan.folder.workers, self.tell)
        self.brief = WorkerStatusSocket(components.plan.folder.workers, self.tell_brief, ".brief")
        self.load = WorkerStatusSocket(
            components.plan.folder.workers, WorkerLoad(components).tell, ".load"
        )

    def tell(self) -> Status:
        """Whatever a worker knows of itself: with many routes it is long."""
        routes = self._components.plan.configuration.snapshot.routes
        return {
            **self.tell_brief(),
            "routes": [_shown(route) for route in routes],
            "metrics": self._components.metrics.state(),
        }

    def routes(self, most: int) -> tuple[list[Mapping[str, Any]], int]:
        """The first of the routes that run here, and how many there are."""
        routes = self._components.plan.configuration.snapshot.routes
        return [_shown(route) for route in islice(routes, most)], len(routes)

    def tell_brief(self) -> Status:
        """How the worker is: as long as its issuers are many."""
        configuration = self._components.plan.configuration
        snapshot = configuration.snapshot
        return {
            "worker": os.getpid(),
            "ready": self._ready(),
            "draining": self._draining(),
            "configuration": {"version": snapshot.version, "stale": configuration.stale},
            "dependencies": self._dependencies(),
            "issuers": self._issuers(),
            "providers": {
                name: {"error": self._components.provider_client.last_error(provider)}
                for name, provider in snapshot.providers.items()
            },
            "problems": [str(problem) for problem in configuration.problems],
        }

    def _dependencies(self) -> Mapping[str, str]:
        return {
            "sql": self._sql_state(),
            "redis": self._redis_state(),
            "revocations": "confirmed" if self._components.replica.is_live() else "stale",
            "keys": self._keys_state(),
            "clock": self._components.clock_monitor.state(),
        }

    def _issuers(self) -> Mapping[str, Mapping[str, Any]]:
        """None of them makes a worker unready: calls of everybody else go on."""
        tokens = self._components.issuer_tokens
        told: dict[str, dict[str, Any]] = {
            name: {
                "keys": len(keys.keys),
                "age_s": None if math.isinf(keys.age_s) else round(keys.age_s),
                "stale": not keys.is_believed(),
                "error": keys.last_error,
            }
            for name, keys in tokens.key_sets.items()
        }
        for name, introspector in tokens.introspectors.items():
            told.setdefault(name, {})["introspection_error"] = introspector.last_error
        return told

    def _sql_state(self) -> str:
        if self._components.sql_watch.unavailable:
            return "away"
        return "open" if self._components.auth_api.opened.is_set() else "not opened yet"

    def _redis_state(self) -> str:
        if self._components.redis.is_unavailable:
            return "away"
        return (
            "open, and not the one of another node"
            if self._components.stream_identity.differs
            else "open"
        )

    def _keys_state(self) -> str:
        if not self._components.ring.kids():
            return "unknown"
        return "known" if self._components.ring.can_sign() else "known, and none signs"

    @property
    def draining(self) -> bool:
        """Whether the worker ends."""
        return self._draining()

    async def mails(self) -> Sequence[Mapping[str, Any]]:
        """Meets `edge.admin.listener.Outbox`: what nobody sends, as there is no mail server."""
        if self._components.plan.settings.smtp_url is not None:
            return []
        return [
            {
                "to": mail.recipient,
                "subject": mail.content.subject,
                "text": mail.content.text,
                "at": mail.created_at,
            }
            for mail in await self._components.mailer.waiting_mail()
        ]


def _shown(route: Route) -> Mapping[str, Any]:
    return {
        "id": route.id,
        "methods": list(route.methods),
        "host": ", ".join(route.hosts) or None,
        "path": route.pattern,
        "auth": str(route.auth),
        "issuers": sorted(route.issuers) if route.auth is not Auth.PUBLIC else [],
        "resource": route.resource_server.path if route.resource_server else None,
        "scopes": list(route.resource_server.scopes) if route.resource_server else [],
        "policy": route.policy.name if route.policy else None,
        "upstream": route.upstream.name if route.upstream else None,
        "answer": str(route.direct_response) if route.direct_response else None,
    }
