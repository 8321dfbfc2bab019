"""Law 3 against every interleaving that hypothesis can think of.

The real judges (`Tenure`, `Confirmation`, `Watch`) run on a model of the rest: a server that
may be emptied, rewound and restarted, a network that delays and loses requests and answers,
processes that crash, clocks that drift.  After every step: no worker that believes itself live
accepts what was promised to be refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.model import Change, ChangeKind, Reason
from gateway.stores.protocols import Held, View
from gateway.worker.lease import Confirmation, Tenure, Watch, good_for_s

STALENESS_S = 5.0
WORKERS = 2
DRIFTS = (1.005, 0.995)


def change(number: int) -> Change:
    return Change(str(number), ChangeKind.SESSION, f"s{number}", 0, Reason.TOKEN_REVOKED, 0)


@dataclass
class Server:
    """What the scripts of `stores/scripts` do, in one process's memory."""

    incarnation: int = 1
    entries: list[Change] = field(default_factory=list)
    leases: dict[str, Held] = field(default_factory=dict)

    def view(self, after: int | None = None) -> View:
        entries = [] if after is None else list(enumerate(self.entries, 1))[after:]
        return View(str(self.incarnation), len(self.entries), dict(self.leases), entries)

    def register(self, name: str) -> View:
        self.leases[name] = Held(0, -1, -1)
        return self.view()

    def renew(self, name: str, beat: int, position: int) -> View | None:
        held = self.leases.get(name)
        if held is None:
            return None
        behind = 0 <= position < len(self.entries)
        self.leases[name] = Held(held.beat if behind else beat, position, position)
        return self.view(position if behind else None)

    def forget(self, name: str, beat: int) -> None:
        if name in self.leases and self.leases[name].beat == beat:
            del self.leases[name]


@dataclass
class Renewal:
    """One on its way: to the server, then back."""

    tenure: Tenure
    sent_at: float
    position: int
    beat: int
    answer: View | None = None
    arrived: bool = False


class Worker:
    def __init__(self, number: int, model: LeaseModel) -> None:
        self.number = number
        self.model = model
        self.begin_life()

    def begin_life(self) -> None:
        self.applied: set[int] = set()
        self.live_until = float("-inf")
        self.tenure: Tenure | None = None
        self.loaded = False
        self.under_way: list[Renewal] = []
        self.announcing: list[tuple[int, Confirmation]] = []
        self.old: list[str] = []
        self.watch = Watch(self.clock, STALENESS_S)

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
        view = self.server.register(f"w{self.names}")
        if worker.tenure:
            worker.old.append(worker.tenure.name)
        worker.tenure, worker.loaded = Tenure(f"w{self.names}", view), False

    @rule(number=st.integers(0, WORKERS - 1))
    def load(self, number: int) -> None:
        worker = self.workers[number]
        if worker.tenure and not worker.loaded:
            worker.applied |= set(self.sql)
            worker.loaded = True
            self.sql_incarnation = self.sql_incarnation or worker.tenure.incarnation

    @rule(number=st.integers(0, WORKERS - 1))
    def send_renewal(self, number: int) -> None:
        worker = self.workers[number]
        tenure = worker.tenure
        # One at a time; one that was given up on may still arrive.
        if tenure and worker.loaded and len(worker.under_way) < 3:
            renewal = Renewal(tenure, worker.clock(), tenure.position, tenure.next_beat())
            worker.under_way.append(renewal)

    @rule(number=st.integers(0, WORKERS - 1), which=st.integers(0, 2))
    def renewal_arrives(self, number: int, which: int) -> None:
        waiting = [r for r in self.workers[number].under_way if not r.arrived]
        if waiting:
            renewal = waiting[which % len(waiting)]
            renewal.arrived = True
            renewal.answer = self.server.renew(renewal.tenure.name, renewal.beat, renewal.position)

    @rule(number=st.integers(0, WORKERS - 1))
    def renewal_is_answered(self, number: int) -> None:
        worker = self.workers[number]
        if not worker.under_way:
            return
        # Only the last one sent is still listened to.
        renewal = worker.under_way.pop()
        if not renewal.arrived or renewal.tenure is not worker.tenure or not worker.loaded:
            return
        view, tenure = renewal.answer, renewal.tenure
        if view is None or not tenure.follows(view):
            worker.old.append(tenure.name)
            worker.tenure = None
            return
        for entry, applied in tenure.news(view.entries):
            worker.applied.add(int(applied.id))
            tenure.position = entry
        if tenure.counts(renewal.position, view):
            worker.live_until = renewal.sent_at + good_for_s(STALENESS_S)
            self._see(worker, view)
            while worker.old:
                self.server.leases.pop(worker.old.pop(), None)

    @rule(number=st.integers(0, WORKERS - 1))
    def renewal_is_lost(self, number: int) -> None:
        worker = self.workers[number]
        if worker.under_way:
            worker.under_way.pop()

    @rule(number=st.integers(0, WORKERS - 1))
    def listen(self, number: int) -> None:
        """Takes what the stream has, whichever incarnation it is of by now."""
        worker = self.workers[number]
        if worker.tenure and worker.loaded:
            entries = self.server.view(worker.tenure.position).entries
            if worker.tenure.continues(entries):
                for entry, applied in worker.tenure.news(entries):
                    worker.applied.add(int(applied.id))
                    worker.tenure.position = entry

    @rule(number=st.integers(0, WORKERS - 1))
    def crash(self, number: int) -> None:
        self.workers[number].begin_life()

    @rule(number=st.integers(0, WORKERS - 1))
    def stop(self, number: int) -> None:
        worker = self.workers[number]
        names = [*worker.old, *([worker.tenure.name] if worker.tenure else [])]
        worker.begin_life()
        for name in names:
            self.server.leases.pop(name, None)

    @rule(numbers=st.sets(st.integers(0, WORKERS - 1), min_size=1))
    def all_goes_well(self, numbers: set[int]) -> None:
        """Whole turns without a fault between: what these workers do nearly always."""
        for number in sorted(numbers):
            if self.workers[number].tenure is None:
                self.register(number)
            self.load(number)
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
            self._append(worker, revoked)

    @precondition(lambda self: self.sql)
    @rule(number=st.integers(0, WORKERS - 1), which=st.integers(0, 50))
    def announce_again(self, number: int, which: int) -> None:
        """As the relay does, or a caller who repeats a logout."""
        worker = self.workers[number]
        revoked = which % len(self.sql)
        worker.applied.add(revoked)
        self._append(worker, revoked)

    def _append(self, worker: Worker, revoked: int) -> None:
        self.server.entries.append(change(revoked))
        own = [*worker.old, *([worker.tenure.name] if worker.tenure else [])]
        view = self.server.view()
        self._see(worker, view)
        worker.announcing.append((revoked, Confirmation(view, [change(revoked)], own)))

    @rule(number=st.integers(0, WORKERS - 1))
    def poll(self, number: int) -> None:
        worker = self.workers[number]
        view = self.server.view()
        self._see(worker, view)
        for announcing in list(worker.announcing):
            revoked, confirmation = announcing
            if confirmation.given_up(view):
                worker.announcing.remove(announcing)
            elif confirmation.holds(view) and self._outlasted(worker, view.incarnation):
                self.promised.append(revoked)
                worker.announcing.remove(announcing)

    def _see(self, worker: Worker, view: View) -> None:
        for name, beat in worker.watch.see(view):
            self.server.forget(name, beat)

    def _outlasted(self, worker: Worker, incarnation: str) -> bool:
        if worker.watch.outlasted(incarnation):
            self.sql_incarnation = incarnation
            return True
        self.sql_incarnation = self.sql_incarnation or incarnation
        return not worker.watch.saw_one_end and self.sql_incarnation == incarnation

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
