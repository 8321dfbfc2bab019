"""`/admin/issuers`: whose tokens are taken, as each worker finds them, and each of them asked now.

Law: only what the configuration names is asked, never an address that somebody typed; one check at
a time in a worker, and none for longer than its bound, or once its operator has gone.  Whom it
asked is told to the audit log, whether or not it came to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from gateway.audit.log import AuditKind
from gateway.audit.operator_events import operator_event
from gateway.edge.console.overview_page import WorkerStatuses
from gateway.edge.console.pages import (
    Acted,
    ConsoleAction,
    ConsolePage,
    ConsoleRequest,
    NotDone,
    NotFound,
    View,
)
from gateway.identity.issuers.issuer_checks import CheckedIssuer
from gateway.telemetry.worker_status import Status

ISSUERS = "/admin/issuers"
ROWS_MAX = 500

CheckNamed = Callable[[str], Awaitable[Sequence[CheckedIssuer]]]
"""Asks the issuer of that name, or all where it is empty; nothing where there is none."""


class IssuersPage:
    def __init__(self, statuses: WorkerStatuses, check_named: CheckNamed) -> None:
        self._statuses = statuses
        self._check_named = check_named
        self._is_checking = False

    def pages(self) -> Sequence[ConsolePage]:
        return [
            ConsolePage(
                ISSUERS,
                "Issuers",
                self.show,
                actions={"check": ConsoleAction(self.check, fresh=False, writes=False)},
            )
        ]

    async def show(self, request: ConsoleRequest) -> View:
        statuses = await self._statuses.gather()
        values = {
            "issuers": list(_told(statuses, "issuers")),
            "providers": list(_told(statuses, "providers")),
            "path": ISSUERS,
            "checked": None,
        }
        return View("issuers.html", values)

    async def check(self, request: ConsoleRequest) -> Acted | NotDone | NotFound:
        if self._is_checking:
            return NotDone("A check runs already: wait for it.", status=409)
        self._is_checking = True
        name = request.form.get("issuer", "")
        try:
            checked = await self._check_named(name)
        except asyncio.CancelledError:
            # A name that the configuration does not have is waited for by nobody.
            request.record(
                operator_event(AuditKind.ISSUERS_CHECKED, None, "left", issuers=name or "all")
            )
            raise
        finally:
            self._is_checking = False
        if not checked:
            return NotFound("The configuration names no such issuer.")
        rows = [row for one in checked for row in one.rows]
        names = ",".join(one.verifier.issuer.name for one in checked)
        refused = sum(row.good is False for row in rows)
        event = operator_event(
            AuditKind.ISSUERS_CHECKED, None, "checked", issuers=names, refused=str(refused)
        )

        async def view() -> View:
            shown = await self.show(request)
            return View(shown.template, {**shown.values, "checked": rows})

        return Acted([event], view=view)


def _told(statuses: Sequence[Status], what: str) -> Iterable[Mapping[str, Any]]:
    """By name, what each worker says of it."""
    names = sorted({name for status in statuses for name in status.get(what, {})})
    for name in names[:ROWS_MAX]:
        for status in statuses:
            yield {"name": name, "worker": status["worker"], **status.get(what, {}).get(name, {})}
