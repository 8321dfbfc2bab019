"""What a worker tells of itself for the lists of the console, and when those are asked for alone:
its lease, its upstreams, and who is near a limit."""

from __future__ import annotations

import math
import os
from dataclasses import asdict
from typing import Any

from gateway.app.components import Components
from gateway.telemetry.worker_status import Status

_TARGETS_TOLD = 1_000


class WorkerLoad:
    def __init__(self, components: Components) -> None:
        self._components = components

    def tell(self) -> Status:
        replica, metrics = self._components.replica, self._components.metrics
        targets = self._components.clusters.described()
        staleness_s = replica.staleness_s
        return {
            "worker": os.getpid(),
            "connections": metrics.number("connections"),
            "restarts": metrics.number("worker_restarts") or 0,
            "lease": {
                "live": replica.is_live(),
                "staleness_s": None if math.isinf(staleness_s) else round(staleness_s, 3),
                "stream": replica.incarnation,
                "revocations": len(replica),
                "live_workers": replica.live_workers,
            },
            "targets": [asdict(target) for target in targets[:_TARGETS_TOLD]],
            "target_count": len(targets),
            "limits": [*self._limits()],
        }

    def _limits(self) -> list[dict[str, Any]]:
        both = (self._components.limits, self._components.auth_limits)
        return [asdict(limit) for limiter in both for limit in limiter.nearest()]
