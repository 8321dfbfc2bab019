"""Answers as they are given, for who looks at them now: refusals, and on demand what was allowed.

Law: it costs nothing while nobody looks.  Refusals are taken from what the access log has just
written, twice a second; whoever wants what was allowed too is an observer of calls for that while.
Each viewer has a bounded queue of its own: who reads slowly loses answers and is told how many,
and nobody waits for them.  A line holds what the access log says of an answer, each part
of which is cut to a length, and nothing of what a policy read.

A worker listens on a unix socket (0600) in the data folder, named by its process id.  Who connects
says `refusals` or `all` in one line, and is sent JSON lines: the last refusals first, then a line
for each half second in which there was something, and a beat where there was nothing for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.access.authorizer import Decision
from gateway.access.decision_record import kept_call, record_of
from gateway.model import Call, Clock, Reason
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.access_record import AnsweredRequest, fields_of_decision
from gateway.telemetry.socket_folder import SocketFolder

SUFFIX = ".live"
RECENT = 50
VIEWERS_MAX = 8
"""Of one worker: a console follows each worker once for each of its own viewers."""
QUEUE_MAX = 20
"""Lines that wait for one viewer."""
ALLOWED_MAX = 50
"""Allowed calls of one TICK_S that are shown."""
TICK_S = 0.5
BEAT_S = 5.0
STALLED_S = 10.0
"""How long a viewer may take nothing."""
_LONGEST_WISH_BYTES = 64


class LiveAnswers:
    """Of one worker.  `edge.replies.observers.DecisionObserver` of what is allowed."""

    takes_allowed = True

    def __init__(
        self,
        folder: Path,
        access_log: AccessLog,
        clock: Clock,
        version: Callable[[], str],
        allowed_wanted: Callable[[bool], None],
    ) -> None:
        """`allowed_wanted` makes this one an observer of calls, or ends that."""
        self._folder = SocketFolder(folder)
        self._access_log = access_log
        self._clock = clock
        self._version = version
        self._allowed_wanted = allowed_wanted
        self._own = f"{os.getpid()}{SUFFIX}"
        self._worker = os.getpid()
        self._viewers: list[_Viewer] = []
        self._allowed: deque[dict[str, Any]] = deque()
        self._allowed_skipped = 0
        self._server: asyncio.AbstractServer | None = None
        self._ticking: asyncio.Task[None] | None = None

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    async def start(self) -> None:
        """Raises OSError where the folder cannot hold a socket."""
        listener = self._folder.listen(self._own)
        self._server = await asyncio.start_unix_server(
            self._answer, sock=listener, limit=_LONGEST_WISH_BYTES
        )

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                self._folder.remove(self._own)
        for viewer in self._viewers:
            viewer.end()
        self._folder.close()

    # --- what it observes ---

    def decided(
        self,
        call: Call | None,
        decision: Decision | None,
        status: int,
        request_id: str,
        took_s: float = 0.0,
    ) -> None:
        if call is None or decision is None or not decision.allowed:
            return  # a refusal comes by the access log
        if len(self._allowed) >= ALLOWED_MAX:
            self._allowed_skipped += 1
            return
        kept, _ = kept_call(call, decision.route)
        record = record_of(
            kept,
            decision,
            at=self._clock.now(),
            status=status,
            request_id=request_id,
            version=self._version(),
        )
        fields = fields_of_decision(record, call.headers, took_s=took_s, worker=self._worker)
        self._allowed.append({"access": fields})

    def refused(self, reason: Reason, route_id: str, request: AnsweredRequest) -> None:
        """A refusal comes by the access log."""

    def answered(self, reason: str | None, request: AnsweredRequest) -> None:
        """The gateway's own endpoints allow nothing that a policy judged."""

    # --- who looks ---

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(STALLED_S):
                wish = (await reader.readuntil(b"\n")).strip()
            if len(self._viewers) >= VIEWERS_MAX:
                writer.write(b'{"busy": true}\n')
                return
            await self._serve(_Viewer(wants_allowed=wish == b"all"), writer)
        except (
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError,
        ):  # fmt: skip
            pass  # who looked has gone, or is no console of ours
        finally:
            writer.close()

    async def _serve(self, viewer: _Viewer, writer: asyncio.StreamWriter) -> None:
        self._viewers.append(viewer)
        self._changed()
        try:
            viewer.put(self._access_log.recent(RECENT), 0)
            while (line := await viewer.next_line(BEAT_S)) is not None:
                writer.write(line)
                async with asyncio.timeout(STALLED_S):
                    await writer.drain()
        finally:
            self._viewers.remove(viewer)
            self._changed()

    def _changed(self) -> None:
        """Who looks has changed, and with it what is asked of the worker."""
        self._access_log.watcher = self._take if self._viewers else None
        wanted = any(viewer.wants_allowed for viewer in self._viewers)
        if wanted and self._ticking is None:
            self._allowed_wanted(True)
            self._ticking = asyncio.create_task(self._tick())
        elif not wanted and self._ticking is not None:
            self._allowed_wanted(False)
            self._ticking.cancel()
            self._ticking = None
            self._allowed.clear()

    def _take(self, answers: list[dict[str, Any]], skipped: int) -> None:
        for viewer in self._viewers:
            viewer.put(answers, skipped)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            answers, skipped = list(self._allowed), self._allowed_skipped
            self._allowed.clear()
            self._allowed_skipped = 0
            for viewer in self._viewers:
                if viewer.wants_allowed and (answers or skipped):
                    viewer.put(answers, skipped)


class _Viewer:
    """Somebody who looks: the lines that wait for them, and how many answers they have lost."""

    def __init__(self, *, wants_allowed: bool) -> None:
        self.wants_allowed = wants_allowed
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._ended = False
        self._woken = asyncio.Event()

    def put(self, answers: list[dict[str, Any]], skipped: int) -> None:
        self._dropped += skipped
        if len(self._lines) >= QUEUE_MAX:
            self._dropped += len(answers)
            return
        told = [{"access": answer["access"]} for answer in answers]
        line = json.dumps({"answers": told, "dropped": self._dropped}, default=str)
        self._dropped = 0
        self._lines.append(line.encode() + b"\n")
        self._woken.set()

    def end(self) -> None:
        self._ended = True
        self._woken.set()

    async def next_line(self, beat_s: float) -> bytes | None:
        """The next, a beat where there is none for so long, or None at the end."""
        if not self._lines and not self._ended:
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), beat_s)
        if self._ended:
            return None
        return self._lines.popleft() if self._lines else b'{"beat": true}\n'
