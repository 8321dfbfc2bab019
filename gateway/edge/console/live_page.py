"""`/admin/live`: refusals as they happen, on every worker, and on demand what was allowed; and
`/admin/answer?id=…`: what one answer was about, as `gateway why` tells it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.access.console import HOME
from gateway.access.snapshot import Snapshot
from gateway.edge.console.pages import ConsolePage, ConsoleRequest, NotFound, View
from gateway.edge.console.renderer import ConsoleRenderer
from gateway.review.reason_guide import plain
from gateway.review.told_answers import LoggedAnswer, ToldAnswer, judge_again
from gateway.telemetry.live_following import LiveBatch, follow_workers
from gateway.telemetry.refusal_socket import ask_workers

LIVE, ANSWER = f"{HOME}/live", f"{HOME}/answer"
STREAM = f"{LIVE}/stream"
_ID = re.compile(r"[!-~]{1,256}")
_FILTERS = ("route", "reason", "subject")


@dataclass(frozen=True, slots=True)
class LiveDependencies:
    workers: Path
    """The folder of their sockets."""
    snapshot: Callable[[], Snapshot]
    renderer: ConsoleRenderer
    at_once: asyncio.Semaphore
    """Explanations that one worker makes at a time, each in a thread: a call goes before them."""
    reasons_url: str | None = None


class LivePage:
    def __init__(self, dependencies: LiveDependencies) -> None:
        self._deps = dependencies

    def pages(self) -> Sequence[ConsolePage]:
        return [
            ConsolePage(LIVE, "Live calls", self.show),
            ConsolePage(STREAM, "Live calls", self.show, section=LIVE, stream=self.stream),
            ConsolePage(ANSWER, "One answer", self.answer, section=LIVE),
        ]

    async def show(self, request: ConsoleRequest) -> View:
        chosen = _chosen(request)
        return View(
            "live.html",
            {
                "chosen": chosen,
                "stream": STREAM,
                "words": {name: value for name, value in chosen.items() if value},
            },
        )

    async def stream(self, request: ConsoleRequest) -> AsyncGenerator[str, None]:
        """Events of a stream (HTML, section 9.2): rows, and what was lost."""
        chosen, lost = _chosen(request), 0
        batches = follow_workers(self._deps.workers, allowed=bool(chosen["allowed"]))
        async with aclosing(batches):
            yield self._event("state", "live_state.html", {"lost": 0, "busy": False})
            async for batch in batches:
                lost += batch.dropped
                if batch.dropped or batch.busy:
                    values = {"lost": lost, "busy": batch.busy}
                    yield self._event("state", "live_state.html", values)
                rows = _rows(batch, chosen)
                if rows:
                    yield self._event("answers", "live_rows.html", {"answers": rows})
                else:
                    yield ": beat\n\n"

    async def answer(self, request: ConsoleRequest) -> View | NotFound:
        request_id = request.query("id", longest=256)
        if not request_id:
            return View("answer.html", {"request_id": "", "told": None})
        if not _ID.fullmatch(request_id):
            return NotFound("That is no id of a request.")
        async with self._deps.at_once:
            told = await asyncio.to_thread(self._told, request_id)
        return View(
            "answer.html",
            {"request_id": request_id, "told": told, "plain": plain},
            status=200 if told is not None else 404,
        )

    def _told(self, request_id: str) -> ToldAnswer | None:
        """In a thread: it asks sockets, and judges again."""
        _, found = ask_workers(self._deps.workers, request_id)
        if found is None:
            return None
        logged = LoggedAnswer.of_workers(found)
        told = ToldAnswer.of(request_id, logged, self._deps.reasons_url)
        judge_again(told, logged, self._deps.snapshot())
        return told

    def _event(self, name: str, template: str, values: Mapping[str, Any]) -> str:
        """One event; each line of its data is a field of its own."""
        lines = self._deps.renderer.fragment(template, values).splitlines()
        data = "".join(f"data: {line}\n" for line in lines)
        return f"event: {name}\n{data}\n"


def _chosen(request: ConsoleRequest) -> dict[str, str]:
    chosen = {name: request.query(name) for name in _FILTERS}
    return {**chosen, "allowed": "1" if request.query("allowed") else ""}


def _rows(batch: LiveBatch, chosen: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """The newest first, of those that are wanted."""
    answers = [answer for told in batch.answers if (answer := _row(told)) is not None]
    wanted = [
        answer
        for answer in answers
        if all(not chosen[name] or chosen[name] in str(answer[name]) for name in _FILTERS)
    ]
    return sorted(wanted, key=lambda answer: answer["at"], reverse=True)


def _row(told: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a row shows of one answer: what the access log holds, and nothing more."""
    access = told.get("access")
    if not isinstance(access, Mapping):
        return None
    return {
        "id": access.get("http.request.id", ""),
        "at": datetime.fromisoformat(access["@timestamp"]).timestamp(),
        "allowed": access.get("event.outcome") == "success",
        "status": access.get("http.response.status_code", ""),
        "reason": access.get("event.reason", ""),
        "method": access.get("http.request.method", ""),
        "host": access.get("url.domain", ""),
        "path": access.get("url.path", ""),
        "subject": access.get("user.id", ""),
        "ip": access.get("client.ip", ""),
        "route": access.get("authgate.route", ""),
        "rule": access.get("rule.id", ""),
        "place": f"{access['authgate.file']}:{access.get('authgate.line', '')}"
        if "authgate.file" in access
        else "",
        "worker": access.get("process.pid", ""),
    }
