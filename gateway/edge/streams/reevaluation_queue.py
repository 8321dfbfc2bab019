"""Which long-lived requests are to be judged again, and the one task that does it.

Law: whoever is entered here is held in the same turn of the loop, and nothing of it passes until
it was judged, with the principal and by the configuration of that moment.  All of them together
take REEVALUATE_FOR_S at a time, and one judgement at least, and leave as long to everybody else
before they go on; those of each subject take turns with those of all others.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from gateway.model import Principal, Reason

if TYPE_CHECKING:
    from gateway.edge.streams.reevaluation import Reevaluation

REEVALUATE_FOR_S = 0.005
"""Before everybody else has as long: what one judgement takes is for its policy to say."""


class ReevaluatedRequest(Protocol):
    """`registry.LongLivedRequest` is it."""

    principal: Principal | None
    reevaluation: Reevaluation | None
    """Set where its route wants it judged again rather than ended."""

    @property
    def closed(self) -> bool: ...

    def hold(self) -> None:
        """Let nothing of it pass, either way, until `release` or `terminate`."""

    def release(self) -> None: ...

    def terminate(self, reason: Reason, detail: str = "") -> None:
        """End it, at once or as soon as its framing allows; `detail` where the policy gave a
        reason of its own."""


class ReevaluationQueue:
    def __init__(self) -> None:
        self._waiting: dict[str | None, dict[ReevaluatedRequest, None]] = {}
        """By subject, the next one first; None is everybody who is not known."""
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, request: ReevaluatedRequest) -> None:
        """Hold it until its turn, where its route wants it judged again; once, whatever changes
        meanwhile."""
        reevaluation = request.reevaluation
        if reevaluation is None or request.closed:
            return
        reevaluation.pending = True
        request.hold()
        self._waiting.setdefault(_subject(request), {})[request] = None
        if self._task is None:
            self._start()

    def discard(self, request: ReevaluatedRequest) -> None:
        """It has ended, or another attempt follows, which is judged before it is sent."""
        waiting = self._waiting.get(_subject(request))
        if waiting is not None and request in waiting:
            del waiting[request]
            if not waiting:
                del self._waiting[_subject(request)]

    def close(self) -> None:
        """The worker ends: whoever waits is cut with what is left."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    # --- private ---

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._judge_all())
        self._task.add_done_callback(self._ended)

    async def _judge_all(self) -> None:
        while self._waiting:
            until = time.perf_counter() + REEVALUATE_FOR_S
            while self._waiting:
                _judge(self._next())
                if time.perf_counter() > until:
                    break
            # A call takes several turns of the loop: not each may wait for one of ours.
            await asyncio.sleep(REEVALUATE_FOR_S)

    def _next(self) -> ReevaluatedRequest:
        subject = next(iter(self._waiting))
        waiting = self._waiting.pop(subject)
        request = next(iter(waiting))
        del waiting[request]
        if waiting:
            self._waiting[subject] = waiting  # behind those of all others
        return request

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A judgement that failed ends its own request, and the others are judged all the same."""
        self._task = None
        if self._waiting and not task.cancelled():
            self._start()


def _judge(request: ReevaluatedRequest) -> None:
    reevaluation = request.reevaluation
    if reevaluation is None or request.closed:
        return
    try:
        refusal = reevaluation.refusal(request.principal)
    except Exception:
        request.terminate(Reason.NO_RULE)
        raise
    if refusal is None:
        request.release()
    else:
        request.terminate(*refusal)


def _subject(request: ReevaluatedRequest) -> str | None:
    principal = request.principal
    return None if principal is None else principal.subject
