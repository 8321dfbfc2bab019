"""Acknowledged revocation (decision 0004) against every interleaving that hypothesis can think of.

The real judges (`Lease`, `PendingConfirmation`, `LeaseMonitor`) run on a model of the rest: a server that
may be emptied, rewound and restarted, or be replaced by its replica while some workers still
speak to it; a network that delays and loses requests and answers; processes that crash; clocks
that drift.  After every step: no worker that believes itself live accepts what was promised to
be refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.model import Change, ChangeKind, Reason
from gateway.revocation.lease import Lease, LeaseMonitor, PendingConfirmation, valid_for_s
from gateway.stores.protocols import StreamView
from tests.revocation.memory_stream import Server

STALENESS_S = 5.0
WORKERS = 2
DRIFTS = (1.005, 0.995)
ANSWERED_WITHIN_S = 1.0
"""A call to the server that takes longer has failed (`stores.redis`); what it asked may be done."""


def change(number: int) -> Change:
    return Change(str(number), ChangeKind.SESSION, f"s{number}", 0, Reason.TOKEN_REVOKED, 0)


@dataclass
class Renewal:
    """One on its way: to the server, then back."""

    lease: Lease
    sent_at: float
    position: int
    heartbeat: int
    answer: StreamView | None = None
    arrived: bool = False


@dataclass
class Question:
    """An append, or a look at the stream, on its way: to the server, then back."""

    sent_at: float
    appended: int | None
    """What is to be appended; None for a look."""
    judged: list[tuple[int, PendingConfirmation]]
    """What a look is meant to settle: announcements that were waiting when it was sent."""
    answer: StreamView | None = None
    arrived: bool = False


class Worker:
    def __init__(self, number: int, model: LeaseModel) -> None:
        self.number = number
        self.model = model
        self.begin_life()

    def begin_life(self) -> None:
        self.applied: set[int] = set()
        self.live_until = float("-inf")
        self.lease: Lease | None = None
        self.loaded = False
        self.loading: set[int] | None = None
        self.under_way: list[Renewal] = []
        self.questions: list[Question] = []
        self.announcing: list[tuple[int, PendingConfirmation]] = []
        self.old: list[str] = []
        self.monitor = LeaseMonitor(self.clock, STALENESS_S)

    def clock(self) -> float:
        return self.model.now * DRIFTS[self.number] + 1000 * self.number

    def is_live(self) -> bool:
        return self.clock() < self.live_until


class LeaseModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.server = Server()
        self.kept_server = Server()
        self.old_server = self.server
        self.stranded: set[int] = set()
        """Workers that still speak to the old server, which no replica acknowledges any more."""
        self.sql: list[int] = []
        self.sql_incarnation = ""
        self.promised: list[int] = []
        self.names = 0
        self.incarnations = 1
        self.workers = [Worker(number, self) for number in range(WORKERS)]

    # What a worker does.

    @rule(number=st.integers(0, WORKERS - 1))
    def register(self, number: int) -> None:
        worker = self.workers[number]
        self.names += 1
        view = self._reached(number).register(f"w{self.names}")
        if number in self.stranded:
            return
        if worker.lease:
            worker.old.append(worker.lease.name)
        worker.lease, worker.loaded, worker.loading = Lease(f"w{self.names}", view), False, None

    @rule(number=st.integers(0, WORKERS - 1))
    def begin_to_load(self, number: int) -> None:
        """What is committed from here on may be missed: the pages before are read."""
        worker = self.workers[number]
        if worker.lease and not worker.loaded:
            worker.loading = set(self.sql)

    @rule(number=st.integers(0, WORKERS - 1))
    def end_of_loading(self, number: int) -> None:
        worker = self.workers[number]
        if worker.lease and worker.loading is not None:
            worker.applied |= worker.loading
            worker.loaded, worker.loading = True, None
            self.sql_incarnation = self.sql_incarnation or worker.lease.incarnation

    def _reached(self, number: int) -> Server:
        return self.old_server if number in self.stranded else self.server

    @rule(number=st.integers(0, WORKERS - 1))
    def send_renewal(self, number: int) -> None:
        worker = self.workers[number]
        lease = worker.lease
        # One at a time; one that was given up on may still arrive.
        if lease and worker.loaded and len(worker.under_way) < 3:
            renewal = Renewal(lease, worker.clock(), lease.position, lease.next_heartbeat())
            worker.under_way.append(renewal)

    @rule(number=st.integers(0, WORKERS - 1), which=st.integers(0, 2))
    def renewal_arrives(self, number: int, which: int) -> None:
        waiting = [r for r in self.workers[number].under_way if not r.arrived]
        if waiting:
            renewal = waiting[which % len(waiting)]
            name, server = renewal.lease.name, self._reached(number)
            answer = server.renew(name, renewal.heartbeat, renewal.position)
            if number in self.stranded:
                self.workers[number].under_way.remove(renewal)  # done, and not acknowledged
                return
            renewal.arrived, renewal.answer = True, answer

    @rule(number=st.integers(0, WORKERS - 1))
    def renewal_is_answered(self, number: int) -> None:
        worker = self.workers[number]
        if not worker.under_way:
            return
        # Only the last one sent is still listened to.
        renewal = worker.under_way.pop()
        if not renewal.arrived or renewal.lease is not worker.lease or not worker.loaded:
            return
        view, lease = renewal.answer, renewal.lease
        if view is None or not lease.follows(renewal.position, view):
            worker.old.append(lease.name)
            worker.lease = None
            return
        for entry, applied in lease.unapplied(view.entries):
            worker.applied.add(int(applied.id))
            lease.position = entry
        if lease.confirms(renewal.position, view):
            worker.live_until = renewal.sent_at + valid_for_s(STALENESS_S)
            self._see(number, view)
            while worker.old:
                self._reached(number).leases.pop(worker.old.pop(), None)

    @rule(number=st.integers(0, WORKERS - 1))
    def renewal_is_lost(self, number: int) -> None:
        worker = self.workers[number]
        if worker.under_way:
            worker.under_way.pop()

    @rule(number=st.integers(0, WORKERS - 1))
    def listen(self, number: int) -> None:
        """Takes what the stream has, whichever incarnation it is of by now."""
        worker = self.workers[number]
        if worker.lease and worker.loaded:
            entries = self._reached(number).view(worker.lease.position).entries
            if worker.lease.continues(entries):
                for entry, applied in worker.lease.unapplied(entries):
                    worker.applied.add(int(applied.id))
                    worker.lease.position = entry

    @rule(number=st.integers(0, WORKERS - 1))
    def crash(self, number: int) -> None:
        self.workers[number].begin_life()

    @rule(number=st.integers(0, WORKERS - 1))
    def stop(self, number: int) -> None:
        worker = self.workers[number]
        names = [*worker.old, *([worker.lease.name] if worker.lease else [])]
        worker.begin_life()
        for name in names:
            self._reached(number).leases.pop(name, None)

    @rule(numbers=st.sets(st.integers(0, WORKERS - 1), min_size=1))
    def all_goes_well(self, numbers: set[int]) -> None:
        """Whole turns without a fault between: what these workers do nearly always."""
        for number in sorted(numbers):
            if self.workers[number].lease is None:
                self.register(number)
            self.begin_to_load(number)
            self.end_of_loading(number)
            for _ in range(2):
                self.send_renewal(number)
                self.renewal_arrives(number, 2)
                self.renewal_is_answered(number)

    @rule(number=st.integers(0, WORKERS - 1))
    def signs_out(self, number: int) -> None:
        self.revoke(number, True)
        self.poll(number)

    # What is revoked, and what is promised.

    @rule(number=st.integers(0, WORKERS - 1), appended=st.booleans())
    def revoke(self, number: int, appended: bool) -> None:
        """Commits; appends and hears the answer, or not."""
        worker = self.workers[number]
        revoked = len(self.sql)
        self.sql.append(revoked)
        worker.applied.add(revoked)
        if appended:
            self._append(number, revoked)

    @precondition(lambda self: self.sql)
    @rule(number=st.integers(0, WORKERS - 1), which=st.integers(0, 50))
    def announce_again(self, number: int, which: int) -> None:
        """As the relay does, or a caller who repeats a logout."""
        worker = self.workers[number]
        revoked = which % len(self.sql)
        worker.applied.add(revoked)
        self._append(number, revoked)

    def _append(self, number: int, revoked: int) -> None:
        """At once, and heard at once."""
        self._send(number, revoked)
        self.question_arrives(number, -1)
        self.question_is_answered(number, -1)

    @precondition(lambda self: self.sql)
    @rule(number=st.integers(0, WORKERS - 1), which=st.integers(0, 50))
    def send_append(self, number: int, which: int) -> None:
        """What arrives late may follow much that its sender does not know of."""
        revoked = which % len(self.sql)
        self.workers[number].applied.add(revoked)
        self._send(number, revoked)

    @rule(number=st.integers(0, WORKERS - 1))
    def send_look(self, number: int) -> None:
        self._send(number, None)

    def _send(self, number: int, revoked: int | None) -> None:
        worker = self.workers[number]
        worker.questions.append(Question(worker.clock(), revoked, list(worker.announcing)))

    @rule(number=st.integers(0, WORKERS - 1), which=st.integers(0, 3))
    def question_arrives(self, number: int, which: int) -> None:
        worker, server = self.workers[number], self._reached(number)
        waiting = [question for question in worker.questions if not question.arrived]
        if not waiting:
            return
        question = waiting[which if which < 0 else which % len(waiting)]
        if question.appended is not None:
            server.entries.append(change(question.appended))
        question.answer = server.view()
        question.arrived = True
        if number in self.stranded:
            worker.questions.remove(question)  # done, and not acknowledged

    @rule(number=st.integers(0, WORKERS - 1), which=st.integers(0, 3))
    def question_is_answered(self, number: int, which: int) -> None:
        """In any order; too late is not at all."""
        worker = self.workers[number]
        arrived = [question for question in worker.questions if question.arrived]
        if not arrived:
            return
        question = arrived[which if which < 0 else which % len(arrived)]
        worker.questions.remove(question)
        view = question.answer
        if view is None or worker.clock() - question.sent_at > ANSWERED_WITHIN_S:
            return
        self._see(number, view)
        if question.appended is None:
            self._judge(worker, view, question.judged)
            return
        own = [*worker.old, *([worker.lease.name] if worker.lease else [])]
        confirmation = PendingConfirmation(view, [change(question.appended)], own)
        worker.announcing.append((question.appended, confirmation))

    @rule(number=st.integers(0, WORKERS - 1))
    def poll(self, number: int) -> None:
        """A look that is answered at once."""
        self._send(number, None)
        self.question_arrives(number, -1)
        self.question_is_answered(number, -1)

    def _judge(
        self, worker: Worker, view: StreamView, announcements: list[tuple[int, PendingConfirmation]]
    ) -> None:
        for announcing in announcements:
            if announcing not in worker.announcing:
                continue
            revoked, confirmation = announcing
            if confirmation.lost(view):
                worker.announcing.remove(announcing)
            elif confirmation.complete(view) and self._outlasted(worker, view.incarnation):
                self.promised.append(revoked)
                worker.announcing.remove(announcing)

    def _see(self, number: int, view: StreamView) -> None:
        for name, heartbeat in self.workers[number].monitor.observe(view):
            self._reached(number).forget(name, heartbeat)

    def _outlasted(self, worker: Worker, incarnation: str) -> bool:
        if worker.monitor.outlasted(incarnation):
            self.sql_incarnation = incarnation
            return True
        self.sql_incarnation = self.sql_incarnation or incarnation
        return not worker.monitor.saw_change and self.sql_incarnation == incarnation

    # What happens to them.

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 4.0, 4.7]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def server_is_emptied(self) -> None:
        self.incarnations += 1
        self.server = Server(self.incarnations)

    @rule()
    def server_is_kept(self) -> None:
        """A backup is taken, or a replica is cut off."""
        self.kept_server = Server(0, list(self.server.entries), dict(self.server.leases))

    @rule()
    def server_is_rewound(self) -> None:
        """It comes back from what was kept, or a replica that lacks the end takes over."""
        self.incarnations += 1
        kept = self.kept_server
        self.server = Server(self.incarnations, list(kept.entries), dict(kept.leases))

    @rule(numbers=st.sets(st.integers(0, WORKERS - 1)))
    def the_replica_takes_over(self, numbers: set[int]) -> None:
        """It may lack the end.  Some workers still reach the old server: what they write there
        is not acknowledged, what they read there they believe."""
        self.old_server, self.stranded = self.server, set(numbers)
        self.server_is_rewound()

    @rule()
    def the_partition_heals(self) -> None:
        self.stranded.clear()

    @invariant()
    def no_promise_is_broken(self) -> None:
        for worker in self.workers:
            if worker.is_live():
                missing = set(self.promised) - worker.applied
                assert not missing, f"worker {worker.number} accepts {missing}"


LeaseModel.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLeaseModel = LeaseModel.TestCase


# Runs that need many steps in one order, which chance seldom finds.


def renews(model: LeaseModel, number: int) -> None:
    model.send_renewal(number)
    model.renewal_arrives(number, 2)
    model.renewal_is_answered(number)
    model.no_promise_is_broken()


def test_who_is_always_behind_is_live_no_longer_than_others_wait_for_it() -> None:
    model = LeaseModel()
    model.all_goes_well({0, 1})
    model.poll(0)
    for _ in range(5):
        model.time_passes(1.0)
        model.revoke(0, True)
        renews(model, 1)
        model.poll(0)
    assert "w2" not in model.server.leases
    model.revoke(0, True)
    model.poll(0)
    assert model.promised[-1] == model.sql[-1]
    model.no_promise_is_broken()


def test_the_numbers_of_another_history_stand_for_nothing() -> None:
    model = LeaseModel()
    model.all_goes_well({0, 1})
    model.server_is_kept()
    model.revoke(0, True)
    model.all_goes_well({0, 1})
    model.server_is_rewound()
    model.revoke(0, True)
    for _ in range(6):
        renews(model, 1)
        model.poll(0)
        model.no_promise_is_broken()
        model.time_passes(1.0)
    assert model.promised[-1] == model.sql[-1]


def test_a_silent_worker_is_waited_for_until_it_has_surely_stopped() -> None:
    model = LeaseModel()
    model.all_goes_well({0, 1})
    model.poll(0)
    model.time_passes(4.4)
    model.revoke(0, True)
    model.poll(0)
    assert model.workers[1].is_live()
    assert model.promised == []
    model.time_passes(0.5)
    model.poll(0)
    model.poll(0)
    assert model.promised == [0]
    model.no_promise_is_broken()


def test_who_still_speaks_to_the_old_server_is_fenced_before_the_new_one_promises() -> None:
    model = LeaseModel()
    model.all_goes_well({0, 1})
    model.server_is_kept()
    model.the_replica_takes_over({1})
    model.revoke(0, True)
    for _ in range(12):
        renews(model, 1)
        model.listen(1)
        model.poll(0)
        model.no_promise_is_broken()
        model.time_passes(0.5)
    assert model.promised == [0]
    assert not model.workers[1].is_live()
    model.the_partition_heals()
    model.all_goes_well({0, 1})
    model.all_goes_well({0, 1})
    assert model.workers[1].is_live()
    model.no_promise_is_broken()
