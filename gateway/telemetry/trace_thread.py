"""The thread that sends what a tracer has finished, a message at a time.

Law: it alone waits for the collector.  A collector that is away, slow or full costs the calls
nothing: what is not sent in time is lost, counted, and told once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from gateway.telemetry.metrics import Tally
from gateway.telemetry.tracer import FinishedCall, TraceOptions, Tracer

log = structlog.get_logger(__name__)

STOP_WITHIN_S = 2.0
"""What a worker that ends waits for the collector to take the rest."""


class SpanSender(Protocol):
    """`otlp.OtlpSender` meets it.  Called in one thread alone, but for `close`."""

    def send(self, calls: Sequence[FinishedCall]) -> SendResult: ...

    def close(self) -> None:
        """What is being sent may be given up."""


class SendResult:
    """How many spans were taken and lost; `why` in words, empty where none was lost."""

    __slots__ = ("lost", "taken", "why")

    def __init__(self, taken: int, lost: int, why: str = "") -> None:
        self.taken = taken
        self.lost = lost
        self.why = why


class TraceThread:
    def __init__(
        self,
        tracer: Tracer,
        options: TraceOptions,
        make_sender: Callable[[], SpanSender],
        *,
        taken: Tally | None = None,
        lost: Tally | None = None,
    ) -> None:
        """`make_sender` is called in the thread: what it imports takes a second."""
        self._tracer = tracer
        self._options = options
        self._make_sender = make_sender
        self._taken = taken or Tally()
        self._lost = lost or Tally()
        self._sender: SpanSender | None = None
        self._stopping = threading.Event()
        self._failed = False
        self._broken = False
        """A defect was told of."""
        # A collector that never answers must not keep the worker from ending.
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def stop(self, within_s: float = STOP_WITHIN_S) -> None:
        """Send what waits, as far as that is done in time."""
        if self._thread.ident is None:
            return  # the worker did not come so far
        self._stopping.set()
        self._tracer.wanted.set()
        await asyncio.to_thread(self._thread.join, within_s)
        if self._thread.is_alive() and self._sender is not None:
            await asyncio.to_thread(self._sender.close)

    def _run(self) -> None:
        self._sender = sender = self._make_sender()
        while not self._stopping.is_set():
            self._tracer.wanted.wait(self._options.delay_s)
            self._tracer.wanted.clear()
            self._send_all(sender)
        self._send_all(sender)
        sender.close()

    def _send_all(self, sender: SpanSender) -> None:
        waiting = self._tracer.waiting
        while waiting:
            calls = [waiting.popleft() for _ in range(min(len(waiting), self._options.batch))]
            try:
                result = sender.send(calls)
            except Exception:
                # One call that cannot be told must not end the traces of all others.
                if not self._broken:
                    log.exception("traces-failed")
                self._broken = True
                self._lost.n += len(calls)
                continue
            self._taken.n += result.taken
            self._lost.n += result.lost
            if result.lost and not self._failed:
                log.warning("traces-not-sent", why=result.why, spans=result.lost)
            elif self._failed and not result.lost:
                log.info("traces-sent-again")
            self._failed = bool(result.lost)
