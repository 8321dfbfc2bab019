"""Pages of a test: bulbs that are switched on and off."""

from __future__ import annotations

from gateway.audit.log import AuditEvent, AuditKind
from gateway.edge.console.pages import (
    Acted,
    ConsoleAction,
    ConsolePage,
    ConsoleRequest,
    NotDone,
    NotFound,
    View,
)
from gateway.model import Reason
from gateway.stores.protocols import StoreUnavailable


class Bulbs:
    """Those that are on; `away` is a store that does not answer."""

    def __init__(self) -> None:
        self.on: set[str] = set()
        self.away = False

    def pages(self) -> list[ConsolePage]:
        switch = ConsoleAction(self.switch)
        return [
            ConsolePage(
                "/admin/bulbs/{id}",
                "Bulb",
                self.show,
                section="/admin",
                actions={"switch": switch, "look": ConsoleAction(self.switch, fresh=False)},
                notices={"switched": "The bulb was switched."},
            )
        ]

    async def show(self, request: ConsoleRequest) -> View | NotFound:
        if self.away:
            raise StoreUnavailable("SQL", Reason.STORE_UNAVAILABLE)
        if request.parameters["id"] == "none":
            return NotFound("There is no such bulb.")
        sentence = f"bulb {request.parameters['id']} {sorted(self.on)}"
        return View("notice.html", {"sentence": sentence, "request_id": request.request_id})

    async def switch(self, request: ConsoleRequest) -> Acted | NotDone:
        if "colour" in request.form:
            return NotDone("A bulb has no colour.", fields={"colour": "unknown"})
        self.on.add(request.parameters["id"])
        event = AuditEvent(AuditKind.ACCOUNT_CHANGED, subject=request.parameters["id"])
        return Acted([event], notice="switched")
