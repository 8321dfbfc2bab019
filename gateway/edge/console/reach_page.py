"""`/admin/reach`: who can reach what: roles, and a chosen person, by route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.access.console import HOME
from gateway.access.routing.routes import Route
from gateway.access.simulation import person
from gateway.access.snapshot import Snapshot
from gateway.edge.console.keyset import Listing, cursor, position
from gateway.edge.console.pages import ConsolePage, ConsoleRequest, View
from gateway.model import Clock, Principal
from gateway.review.reach import Reached, reach

REACH = f"{HOME}/reach"
ROWS = 50
ROLES_MAX = 8
"""Roles beside each other, at most: more are chosen by name."""

FindCaller = Callable[[str], Awaitable[Principal | None]]
"""The account of an address, as a caller; None where there is none."""


@dataclass(frozen=True, slots=True)
class ReachRow:
    route: Route
    cells: Sequence[Reached]


class ReachPage:
    def __init__(
        self, snapshot: Callable[[], Snapshot], find_caller: FindCaller, clock: Clock
    ) -> None:
        self._snapshot = snapshot
        self._find_caller = find_caller
        self._clock = clock
        self._indexed: tuple[Snapshot, Sequence[tuple[str, Route]]] | None = None

    def pages(self) -> Sequence[ConsolePage]:
        return [ConsolePage(REACH, "Who can reach what", self.show)]

    async def show(self, request: ConsoleRequest) -> View:
        snapshot = self._snapshot()
        known = roles_of(snapshot)
        wanted = [role.strip() for role in request.query("roles").split(",") if role.strip()]
        roles = (wanted or known)[:ROLES_MAX]
        email = request.query("person")
        caller = await self._find_caller(email) if email else None
        now = self._clock.now()
        callers: list[tuple[str, Principal | None, bool]] = [("nobody", None, False)]
        if caller is not None:
            callers.append((caller.email or caller.subject, caller, True))
        callers += [(role, person("someone", [role], now=now), False) for role in roles]
        words = request.query("q")
        listing = self._listing(snapshot, words.lower(), request.query("after", longest=2_000))
        rows = [
            ReachRow(
                route,
                [
                    reach(route, principal, self._clock.now, of_account=is_account)
                    for _, principal, is_account in callers
                ],
            )
            for route in listing.rows
        ]
        return View(
            "reach.html",
            {
                "listing": listing,
                "rows": rows,
                "columns": [name for name, _, _ in callers],
                "known": known,
                "asked": {"q": words, "roles": ", ".join(wanted), "person": email},
                "nobody": bool(email) and caller is None,
            },
        )

    def _listing(self, snapshot: Snapshot, words: str, after: str) -> Listing[Route]:
        """The routes after a cursor whose id, host, path, policy or action hold the words."""
        if self._indexed is None or self._indexed[0] is not snapshot:
            routes = sorted(snapshot.routes, key=lambda route: route.id)
            self._indexed = snapshot, [(_text(route), route) for route in routes]
        key = position(after, str)
        found: list[Route] = []
        for text, route in self._indexed[1]:
            if (key is not None and route.id <= str(key[0])) or words not in text:
                continue
            found.append(route)
            if len(found) > ROWS:
                break
        more = cursor(found[ROWS - 1].id) if len(found) > ROWS else ""
        return Listing(found[:ROWS], more, after if key is not None else "")


def roles_of(snapshot: Snapshot) -> list[str]:
    """Those that policies name."""
    return sorted({name for policy in snapshot.policies.values() for name in policy.roles.roles})


def _text(route: Route) -> str:
    policy = route.policy.name if route.policy is not None else ""
    parts = (route.id, route.pattern, *route.hosts, *route.methods, policy, route.action)
    return " ".join(parts).lower()
