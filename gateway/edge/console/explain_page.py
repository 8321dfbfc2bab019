"""`/admin/explain`: how a call would be decided, as `gateway explain` tells it."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.access.console import HOME
from gateway.access.explanation import Explanation, explain
from gateway.access.simulation import SimulatedRequest, person, simulate
from gateway.access.snapshot import Snapshot
from gateway.edge.console.pages import ConsolePage, ConsoleRequest, View
from gateway.edge.replies.sign_in_redirects import entrance
from gateway.model import Clock, Principal, Reason
from gateway.review.counterfactuals import find_counterfactuals
from gateway.review.rendering import as_data, as_text, status_of
from gateway.review.told_answers import status_for

EXPLAIN = f"{HOME}/explain"
_METHOD = re.compile(r"[A-Za-z-]{1,20}")
_URL = re.compile(r"(?:https?://[^/?#\s]+)?/\S*", re.IGNORECASE)
_FIELDS = ("method", "url", "who", "roles", "id", "ip", "header")
_LONGEST = {"url": 2_000, "header": 1_000}


@dataclass(frozen=True, slots=True)
class ExplainDependencies:
    snapshot: Callable[[], Snapshot]
    find_caller: Callable[[str], Awaitable[Principal | None]]
    clock: Clock
    at_once: asyncio.Semaphore
    """Explanations that one worker makes at a time, each in a thread."""


class ExplainPage:
    def __init__(self, dependencies: ExplainDependencies) -> None:
        self._deps = dependencies

    def pages(self) -> Sequence[ConsolePage]:
        return [ConsolePage(EXPLAIN, "Explain a call", self.show)]

    async def show(self, request: ConsoleRequest) -> View:
        asked = {name: request.query(name, _LONGEST.get(name, 200)) for name in _FIELDS}
        asked["method"] = asked["method"].upper() or "GET"
        values: dict[str, Any] = {"asked": asked, "told": None, "wrong": {}}
        if not asked["url"]:
            return View("explain.html", values)
        question = await self._question(asked)
        if isinstance(question, dict):
            return View("explain.html", {**values, "wrong": question}, status=422)
        async with self._deps.at_once:
            told = await asyncio.to_thread(_told, question, self._deps.snapshot())
        return View("explain.html", {**values, "told": told})

    async def _question(self, asked: dict[str, str]) -> SimulatedRequest | dict[str, str]:
        """What is to be decided; or what is wrong with which field."""
        wrong: dict[str, str] = {}
        if not _METHOD.fullmatch(asked["method"]):
            wrong["method"] = "is no method such as GET"
        if not _URL.fullmatch(asked["url"]):
            wrong["url"] = "is a path that begins with /, or a whole URL"
        headers: list[tuple[str, str]] = []
        if asked["header"]:
            name, colon, value = asked["header"].partition(":")
            headers.append((name.strip(), value.strip()))
            if not colon or not name.strip() or not asked["header"].isascii():
                wrong["header"] = "is NAME: VALUE"
        ip = asked["ip"] or "127.0.0.1"
        try:
            ip = str(ipaddress.ip_address(ip))
        except ValueError:
            wrong["ip"] = "is no address such as 192.0.2.7"
        caller = await self._caller(asked)
        if caller is None:
            wrong["who"] = "no account has that address"
        if wrong or caller is None:
            return wrong
        return SimulatedRequest(
            asked["method"], asked["url"], caller, headers, ip, clock=self._deps.clock
        )

    async def _caller(self, asked: dict[str, str]) -> Principal | Reason | None:
        if asked["who"]:
            return await self._deps.find_caller(asked["who"])
        roles = [role.strip() for role in asked["roles"].split(",") if role.strip()]
        if roles or asked["id"]:
            return person(asked["id"] or "someone", roles, now=self._deps.clock.now())
        return Reason.NO_CREDENTIAL


def _told(question: SimulatedRequest, snapshot: Snapshot) -> dict[str, Any]:
    """In a thread: data as `gateway explain --json` has it, and its lines."""
    answer = simulate(question, snapshot)
    decision = answer.decision
    status = status_of(decision, status_for)
    led_to = None
    if answer.call is not None:
        led_to = entrance(answer.call, decision, snapshot)
        told = explain(decision, answer.call, snapshot, question.clock.now)
    else:
        told = Explanation(f"denied: {decision.reason}, before any route is looked for", "anybody")
    turns = find_counterfactuals(question, answer, snapshot)
    data = as_data(decision, status, told, turns, led_to)
    lines = as_text(decision, status, told, turns, led_to)
    return {**data, "text": "\n".join(line for line, _ in lines)}
