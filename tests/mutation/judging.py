"""A plugin of pytest that runs the tests once for each mutant that they reach.

mutmut itself starts pytest anew for each mutant, which takes ten times as long as the test that
notices it.  Here everything is imported and collected once; a child is forked for each mutant,
runs the quickest tests first and ends with the first that fails.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import pytest
from hypothesis import HealthCheck, Phase, settings
from mutmut.mutation import trampoline

from tests import cpu_cost
from tests.mutation.mutants import Mutant, read_mutants

SLOWER = 3
"""Unbroken, the tests compute for so much longer here: each function is called through another,
and the children share the processor with whatever else runs.  The bounds on costs that tests have
are wider by that, or a mutant would be noticed that changes nothing."""
SURVIVED, KILLED, BROKEN = 0, 1, 3
FATES = {SURVIVED: "survived", KILLED: "killed"}

# The same few examples for each mutant, and none of them shrunk.
settings.register_profile(
    "mutants",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=50,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True, slots=True)
class Child:
    """It runs the tests; without a mutant, unbroken."""

    mutant: Mutant | None
    pid: int
    ends_at: float
    """Of `time.monotonic`: then it is killed."""


class Judging:
    """One run: `verdicts.jsonl` gets a line for each mutant that `asked.json` names."""

    def __init__(self, folder: Path, children: int) -> None:
        self._folder = folder
        self._children = children
        self._failed = False
        self._took_s: dict[str, float] = defaultdict(float)
        self._computed_s: dict[str, float] = {}
        self._reached: dict[str, list[pytest.Item]] = defaultdict(list)
        self._running: dict[int, Child] = {}
        """By the descriptor that can be read once the child has ended."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed |= report.failed
        if report.failed and not os.environ["MUTANT_UNDER_TEST"]:
            os.write(2, f"{report.nodeid}\n{report.longreprtext}\n".encode())
        self._took_s[report.nodeid] += report.duration

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        asked = set(json.loads((self._folder / "asked.json").read_text("utf-8")))
        self._map(session)
        gc.collect()
        gc.freeze()  # so that a child's first collection copies nothing of the parent's
        self._check(session)
        mutants = [one for one in read_mutants(self._folder) if one.name in asked]
        for mutant in mutants:
            if not self._reached[mutant.reached_by]:
                self._note(mutant, "no tests")
                continue
            while len(self._running) >= self._children:
                self._collect()
            self._start(mutant, self._reached[mutant.reached_by])
        while self._running:
            self._collect()
        # What was lost meanwhile would have killed every mutant.
        self._check(session)
        return True

    def _check(self, session: pytest.Session) -> None:
        """Unbroken, a child must find nothing."""
        self._start(None, session.items)
        while self._running:
            self._collect()

    def _map(self, session: pytest.Session) -> None:
        """Runs all tests once, unbroken, and keeps which functions each of them reaches."""
        hit: set[str] = set()

        def record(name: str, caller: str | None = None) -> None:
            del caller
            hit.add(name)

        trampoline.__dict__["record_trampoline_hit"] = record
        trampoline.set_mutant_under_test("stats")
        for item in session.items:
            hit.clear()
            began_s = process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            self._computed_s[item.nodeid] = process_time() - began_s
            if self._failed:
                pytest.exit(f"{item.nodeid} fails unbroken", BROKEN)
            for function in hit:
                self._reached[function].append(item)
        trampoline.set_mutant_under_test("")
        for items in self._reached.values():
            items.sort(key=lambda item: self._took_s[item.nodeid])

    def _start(self, mutant: Mutant | None, items: Sequence[pytest.Item]) -> None:
        """Runs the tests in a child, unbroken where there is no mutant."""
        pid = os.fork()
        if not pid:
            code = BROKEN
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                trampoline.set_mutant_under_test(mutant.name if mutant else "")
                code = KILLED if self._notices(items) else SURVIVED
            finally:
                os._exit(code)
        limit_s = 60 + 10 * sum(self._took_s[item.nodeid] for item in items)
        self._running[os.pidfd_open(pid)] = Child(mutant, pid, time.monotonic() + limit_s)

    def _notices(self, items: Sequence[pytest.Item]) -> bool:
        for item in items:
            # Whoever computes for so much longer never ends: SIGPROF ends it.
            signal.setitimer(signal.ITIMER_PROF, 0.5 + 5 * self._computed_s[item.nodeid])
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if self._failed:
                return True
        return False

    def _collect(self) -> None:
        """Waits for a child that ends, or is late and killed, and notes what it says."""
        first_due = min(self._running, key=lambda one: self._running[one].ends_at)
        left_s = max(0.0, self._running[first_due].ends_at - time.monotonic())
        ended, _, _ = select.select(list(self._running), [], [], left_s)
        if not ended:
            signal.pidfd_send_signal(first_due, signal.SIGKILL)
        descriptor = ended[0] if ended else first_due
        child = self._running.pop(descriptor)
        _, status = os.waitpid(child.pid, 0)
        os.close(descriptor)
        # A mutant that broke more than a test did not go unnoticed.
        fate = FATES.get(os.waitstatus_to_exitcode(status), "killed")
        if child.mutant is not None:
            self._note(child.mutant, fate)
        elif fate == "killed":
            pytest.exit("the tests fail in a child, unbroken", BROKEN)

    def _note(self, mutant: Mutant, fate: str) -> None:
        with (self._folder / "verdicts.jsonl").open("a", encoding="utf-8") as verdicts:
            verdicts.write(json.dumps([mutant.name, fate]) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("mutants")
    cpu_cost.work_slowed_by = SLOWER
    # Each broken function is called through another, which makes the stack twice as deep.
    sys.setrecursionlimit(3 * sys.getrecursionlimit())
    children = int(os.environ["MUTANTS_AT_ONCE"])
    config.pluginmanager.register(Judging(config.rootpath, children))
