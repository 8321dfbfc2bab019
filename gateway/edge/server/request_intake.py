"""What one client sends: heads queued, bodies fed to who reads them, and little that waits.

Law: nothing is read past what may wait.  A body nobody reads, a queue that is full, and what may
be no HTTP at all, hold the client back.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.edge.http1.request_head import RequestHead, RequestHeadReader
from gateway.edge.http1.request_parser import BODY_END, RequestParser
from gateway.edge.http1.turns import SHARE, Turns
from gateway.edge.server.body_pace import BodyPace
from gateway.edge.server.client_transport import ClientTransport
from gateway.edge.server.limits import ListenerLimits
from gateway.edge.server.request_body import BUFFER_BYTES, EMPTY_BODY, BadRequest, RequestBody
from gateway.model import Reason

MAX_QUEUED = 32
HEAD_COST, FIELD_COST = 512, 48
"""Bytes that a head, and each field of it, takes in memory beside the text."""
BODY_BYTES = 2 * BUFFER_BYTES + 262_144
"""What a body holds at most that is not read on: its reader's, and one read of the loop."""


class IntakeOwner(Protocol):
    """The connection, as far as its intake tells it."""

    def serve_next(self) -> None:
        """A request, or the refusal of one, was queued."""

    def watch(self) -> None:
        """Something has begun that must not take too long."""

    def weigh(self) -> None:
        """What waits in memory has become more, or less."""


class Nobody:
    """Whom the intake tells once the client has gone."""

    def serve_next(self) -> None:
        """Nothing is served any more."""

    def watch(self) -> None:
        """Nothing takes too long any more."""

    def weigh(self) -> None:
        """Nothing waits any more."""


class RequestIntake:
    __slots__ = (
        "_link",
        "_loop",
        "_owner",
        "_turns",
        "_waiting_bytes",
        "body",
        "closing",
        "head_since",
        "held",
        "pace",
        "parser",
        "put_off",
        "queue",
        "queued_bytes",
        "reading_paused",
    )

    def __init__(
        self, owner: IntakeOwner, link: ClientTransport, heads: RequestHeadReader, turns: Turns
    ) -> None:
        self._owner: IntakeOwner = owner
        self._link = link
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        self.parser = RequestParser(heads)
        self.queue: list[tuple[RequestHead | Reason, RequestBody, int]] = []
        """Requests that wait for the answer to the one before, and the refusal that ends them; each
        with the bytes that its head takes in memory.  They are few: an empty deque takes 700
        bytes of each idle connection."""
        self.queued_bytes = 0
        """Those of all that wait."""
        self._waiting_bytes = 0
        """Of heads, since the queue was last empty."""
        self.held = False
        """Nothing is read until a request is answered."""
        self.reading_paused = False
        """Nothing is read until a body was read."""
        self.put_off = False
        """Nothing is read until others were: it has sent much at once."""
        self.closing = False
        """Nothing new is taken; what has begun is heard out."""
        self.body = EMPTY_BODY
        """The one that is coming, or has come last."""
        self.pace: BodyPace | None = None
        self.head_since = 0.0
        """Since when a head has been expected, by the loop's clock; 0.0 where none is."""

    def feed(self, data: bytes) -> None:
        if not self.closing or self.parser.in_body:
            self.parser.feed(data)
            if not self.put_off:
                self._read()

    def take_head(self, head: RequestHead, size: int) -> None:
        """A request is queued, and its body expected."""
        self.head_since = 0.0
        body = self._begin_body(head) if head.has_body else EMPTY_BODY
        queue = self.queue
        cost = size + HEAD_COST + FIELD_COST * len(head.fields)
        queue.append((head, body, cost))
        self.queued_bytes += cost
        self._waiting_bytes = size if len(queue) == 1 else self._waiting_bytes + size
        full = len(queue) >= MAX_QUEUED or self._waiting_bytes >= BUFFER_BYTES
        if full or (head.upgrade is not None and not head.has_body):
            # What follows an upgrade is no HTTP if it is granted; with a body it never is.  And
            # a queue has an end.  The transport is read on, up to BUFFER_BYTES: else nobody
            # would see the client go.
            self.held = True
        self._owner.serve_next()
        if self.queued_bytes >= BUFFER_BYTES:
            self._owner.weigh()

    def next_request(self) -> tuple[RequestHead | Reason, RequestBody]:
        """The first that waits, which waits no more."""
        head, body, cost = self.queue.pop(0)
        many = self.queued_bytes >= BUFFER_BYTES
        self.queued_bytes -= cost
        if many:
            self._owner.weigh()
        return head, body

    def refuse(self, reason: Reason) -> None:
        """Nothing more of this client is a request."""
        self.parser.stop()
        if not self.parser.in_body:
            self.queue.append((reason, EMPTY_BODY, 0))
            self._owner.serve_next()
        elif self.queue:
            # Its turn has not come: it is refused then, and never begun.
            self.queue[-1] = (reason, EMPTY_BODY, self.queue[-1][2])
        else:
            # The request itself is under way: its handler answers, if it still can.
            self.body.set_exception(BadRequest(reason))

    @property
    def cut_short(self) -> bool:
        """Nothing waits, and a body is coming, whole as far as it came."""
        return self.parser.in_body and not (self.queue or self.parser.broken)

    def end(self) -> None:
        """The client has sent its last byte: a body that was read to there is never whole."""
        parser = self.parser
        if parser.in_body and not (parser.broken or self._holds_back):
            self.refuse(Reason.REQUEST_MALFORMED)

    def expect_head(self) -> None:
        """From now on a head has its time: from its first byte, or on a new connection from
        the beginning."""
        self.head_since = self._loop.time()
        self._owner.watch()

    def stop(self) -> None:
        """The client has gone.  Nothing here refers to its connection any more, nor does a body
        that somebody still reads: both go at once, and not with the next garbage."""
        self.put_off = False
        self.parser.stop()
        self.queue.clear()
        self.queued_bytes = 0
        self.body = EMPTY_BODY
        self._owner = Nobody()

    def take_unread(self) -> bytes:
        """What was not read, for whoever takes over the transport."""
        self.put_off = False
        return self.parser.take_unread()

    # --- what holds the client back ---

    def pause_reading(self) -> None:
        """Meets `request_body.BodyFlow`: nobody reads the body that is coming."""
        self.reading_paused = True
        self._link.pause_reading()
        self._owner.weigh()

    def resume_reading(self) -> None:
        """A body is read, or answered."""
        self.reading_paused = False
        self._resume()
        self._owner.weigh()

    def answered(self) -> None:
        """One request fewer waits: what held the client back for them may be over."""
        waiting = len(self.queue)
        if self.held and (not waiting or (waiting == 1 and self.parser.in_body)):
            # Nothing waits any more, or only what cannot be served without the rest of it.
            self.held = False
            self._resume()
            self._owner.weigh()

    def buffered(self) -> int:
        """Bytes of it that wait in memory, at most."""
        waiting = self.parser.unread + self.queued_bytes
        if self.reading_paused:
            waiting += BODY_BYTES
        elif self.held:
            waiting += self.parser.body_bytes
        return waiting

    @property
    def puts_by(self) -> bool:
        """Whether what the client sends ahead waits in memory."""
        return self.held or self.put_off or self.queued_bytes >= BUFFER_BYTES

    # --- time ---

    def expect_body_by(self, at: float, body: RequestBody) -> None:
        """`body` must be whole by then, if it is still coming."""
        if self.pace is not None and self.parser.in_body and body is self.body:
            self.pace.expect_by(at)

    def sweep_head(self, now: float, limits: ListenerLimits, *, asked: bool) -> bool:
        """Whether a head takes too long.  One that has come early, while something else is
        `asked`, has its time once it is expected."""
        if self.head_since and asked:
            self.head_since = now
        return self.head_since != 0.0 and now - self.head_since > limits.head_s

    def sweep_body(self, now: float, limits: ListenerLimits) -> bool:
        """408 for a body that is too slow; whether one is coming."""
        parser = self.parser
        if self.pace is None or not parser.in_body or parser.broken:
            return False
        if self.reading_paused or self.held or self.put_off:
            # It is the upstream that is slow, not the client.
            self.pace.hold_back(now, parser.body_bytes)
        elif self.pace.is_too_slow(now, parser.body_bytes, limits):
            self.refuse(Reason.REQUEST_TIMEOUT)
        return True

    # --- private ---

    @property
    def _holds_back(self) -> bool:
        """Nothing is read now."""
        return self.held or self.reading_paused or self.put_off

    def _read(self) -> None:
        """Take what has come, unless something holds it back."""
        parser, share = self.parser, SHARE
        while parser.body_ended or not (self.held or self.reading_paused or self.put_off):
            if share <= 0 and parser.unread and not parser.body_ended:
                self._wait_for_turn()
                return
            event = parser.next_event(share)
            share -= parser.cost
            if event is None:
                if parser.head_begun and not self.head_since:
                    self.expect_head()
                return
            if isinstance(event, bytes):
                if event:
                    self.body.feed_data(event)
            elif event is BODY_END:
                self._end_body()
                if self.closing:
                    return
            elif isinstance(event, Reason):
                self.refuse(event)
            else:
                self.take_head(event, parser.head_bytes)
        if parser.unread >= BUFFER_BYTES:
            self._link.pause_reading()
            self._owner.weigh()

    def _wait_for_turn(self) -> None:
        """It has had its share of this turn of the loop."""
        self.put_off = True
        self._link.pause_reading()
        self._owner.weigh()
        self._turns.wait(self._take_turn)

    def _take_turn(self) -> None:
        if self.put_off:
            self.put_off = False
            self._resume()
            self._owner.weigh()

    def _resume(self) -> None:
        """Take what waited, and read on unless that is enough again."""
        if self._holds_back:
            return
        if not self.closing or self.parser.in_body:
            self._read()
        if self._link.half_closed_at:
            self.end()
        if not self._holds_back:
            self._link.resume_reading()

    def _begin_body(self, head: RequestHead) -> RequestBody:
        self.body = RequestBody(self, head.length)
        if self.pace is None:
            self.pace = BodyPace()
        self.pace.begin(self._loop.time())
        self._owner.watch()
        return self.body

    def _end_body(self) -> None:
        self.body.feed_eof()
        if self.queue:
            # Its request waits for another one: one body at a time does, whole as it may be.
            self.held = True
            self._owner.weigh()
