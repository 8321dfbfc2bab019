"""`/admin`: how each worker is, whose tokens are taken, what is routed, which mails wait.

Law: the text of a mail holds a link that sets a password: it is shown to who may act, and with a
sign-in with which they could.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from gateway.access.console import HOME
from gateway.audit.log import AuditEvent, AuditKind
from gateway.edge.console.pages import ConsolePage, ConsoleRequest, Operator, View
from gateway.telemetry.worker_status import Status

MAILS_MAX = 50
ROUTES_MAX = 100
"""That are shown: more are found on the page of who can reach what."""
PROBLEMS_MAX = 200


class WorkerStatuses(Protocol):
    async def gather(self) -> list[Status]:
        """The status of every live worker, this one first."""


class Outbox(Protocol):
    async def mails(self) -> Sequence[Mapping[str, Any]]:
        """The mails that were not sent but kept, the newest first."""


class OverviewPage:
    def __init__(
        self,
        workers: WorkerStatuses,
        outbox: Outbox | None,
        routes: Callable[[int], tuple[Sequence[Mapping[str, Any]], int]],
        may_act: Callable[[Operator], bool],
    ) -> None:
        """`routes` gives the first of them, and how many there are; `may_act` is
        `operators.Operators.may_act`."""
        self._routes = routes
        self._may_act = may_act
        self._workers = workers
        self._outbox = outbox

    def pages(self) -> Sequence[ConsolePage]:
        return [ConsolePage(HOME, "Overview", self.show)]

    async def show(self, request: ConsoleRequest) -> View:
        workers = await self._workers.gather()
        routes, count = self._routes(ROUTES_MAX)
        mails = [] if self._outbox is None else list(await self._outbox.mails())
        shown = mails[:MAILS_MAX] if self._may_act(request.operator) else []
        read = AuditEvent(AuditKind.MAIL_READ, detail={"mails": len(shown)})
        return View(
            "overview.html",
            {
                "workers": workers,
                "ready": all(worker["ready"] for worker in workers),
                "issuers": list(_issuers(workers)),
                "problems": list(dict.fromkeys(p for w in workers for p in w["problems"]))[
                    :PROBLEMS_MAX
                ],
                "routes": routes,
                "route_count": count,
                "mail_count": len(mails),
                "mails": shown,
            },
            events=[read] if shown else [],
        )


def _issuers(workers: Sequence[Status]) -> Iterable[Mapping[str, Any]]:
    for name in sorted(workers[0]["issuers"]):
        for worker in workers:
            told = worker["issuers"].get(name, {})
            yield {
                "name": name,
                "worker": worker["worker"],
                "key_count": told.get("keys"),
                "age_s": told.get("age_s"),
                "stale": told.get("stale", False),
                "error": told.get("error") or told.get("introspection_error") or "",
            }
