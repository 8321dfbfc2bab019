"""What the workers say of themselves: `/admin/workers`, `/admin/upstreams`, `/admin/limits`.

Law: what a worker tells is what that worker knows; nothing is added up that each counts alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.edge.console.overview_page import WorkerStatuses
from gateway.edge.console.pages import ConsolePage, ConsoleRequest, View

WORKERS, UPSTREAMS, LIMITS = "/admin/workers", "/admin/upstreams", "/admin/limits"
ROWS_MAX = 500


class LoadPages:
    def __init__(self, statuses: WorkerStatuses, loads: WorkerStatuses) -> None:
        """`loads`: as `app.load.WorkerLoad` tells them."""
        self._statuses = statuses
        self._loads = loads

    def pages(self) -> Sequence[ConsolePage]:
        return [
            ConsolePage(WORKERS, "Workers", self.show_workers),
            ConsolePage(UPSTREAMS, "Upstreams", self.show_upstreams),
            ConsolePage(LIMITS, "Limits", self.show_limits),
        ]

    async def show_workers(self, request: ConsoleRequest) -> View:
        statuses = await self._statuses.gather()
        loads = {load["worker"]: load for load in await self._loads.gather()}
        workers = [
            {
                "id": status["worker"],
                "ready": status["ready"],
                "draining": status.get("draining", False),
                "version": status["configuration"]["version"],
                "stale": status["configuration"]["stale"],
                "load": loads.get(status["worker"]),
            }
            for status in statuses
        ]
        # Of all workers of this machine, as each of them tells it.
        restarts = max((load["restarts"] for load in loads.values()), default=0)
        values = {"workers": workers, "restarts": restarts, "path": WORKERS}
        return View("workers.html", {**values, "same": len({w["version"] for w in workers}) == 1})

    async def show_upstreams(self, request: ConsoleRequest) -> View:
        text = request.query("q").casefold()
        loads = await self._loads.gather()
        rows = [
            {"worker": load["worker"], **target}
            for load in loads
            for target in load["targets"]
            if text in target["upstream"].casefold() or text in target["target"].casefold()
        ]
        # Whatever is wrong stands first.
        rows.sort(key=lambda row: (_is_well(row), row["upstream"], row["target"], row["worker"]))
        left_out = sum(load["target_count"] - len(load["targets"]) for load in loads)
        values = {"targets": rows[:ROWS_MAX], "target_count": len(rows) + left_out}
        return View("upstreams.html", {**values, "q": request.query("q"), "path": UPSTREAMS})

    async def show_limits(self, request: ConsoleRequest) -> View:
        rows = [
            {
                "worker": load["worker"],
                **limit,
                "share": max((c["used"] for c in limit["callers"]), default=0) / limit["burst"],
            }
            for load in await self._loads.gather()
            for limit in load["limits"]
        ]
        rows.sort(key=lambda row: (-row["share"], row["name"], row["worker"]))
        return View("limits.html", {"limits": rows[:ROWS_MAX], "limit_count": len(rows)})


def _is_well(row: Mapping[str, Any]) -> bool:
    return bool(row["is_healthy"] and row["is_reachable"] and not row["is_open"])
