"""Each scenario of `make bench` runs for a moment, and lets nobody in who does not do the work."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from bench import quota
from bench.credentials import Credentials
from bench.load import Round
from bench.peers import Peer, Shape
from bench.processes import Started
from bench.results import US
from bench.rig import BASE_PORT, Rig
from bench.scenarios import cold, page, scale
from bench.scenarios.catalogue import SCENARIOS
from bench.scenarios.figures import as_document, errors, verdicts
from bench.scenarios.model import Entry, Figures, Scenario
from bench.scenarios.run import run

pytestmark = pytest.mark.slow

SMALL = {
    "cold": partial(cold.entries, count=200),
    "revocations": partial(scale.revocations, counts=(0, 1_000)),
}
SECOND = {"public": "plain-haproxy", "decide": "plain-nginx", "sign-ins": "naive"}
"""The peer that is tried beside the gateway, where it is not HAProxy."""
EVERY = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
TOOLS = [tool for tool in ("wrk", "nginx", "haproxy", "valkey-server") if not shutil.which(tool)]
NEEDS = pytest.mark.skipif(bool(TOOLS), reason=f"{', '.join(TOOLS)} is not here")


@pytest.fixture
def folder() -> Iterator[Path]:
    # nginx's workers run as another user, who may not enter pytest's own folder.
    path = Path(f"/tmp/authgate-scenarios-{os.getpid()}")
    path.mkdir(mode=0o755)
    yield path
    shutil.rmtree(path)


def entries_of(scenario: Scenario, rig: Rig) -> list[Entry]:
    return SMALL.get(scenario.name, scenario.entries)(rig)


def a_few(scenario: Scenario) -> Scenario:
    """The gateway and one peer, in one variant."""
    peers = {US, SECOND.get(scenario.name, "haproxy")}

    def entries(rig: Rig) -> list[Entry]:
        every = entries_of(scenario, rig)
        return [one for one in every if one.variant == every[0].variant and one.peer.name in peers]

    return replace(scenario, entries=entries, users=50)


@NEEDS
@EVERY
def test_a_scenario_runs_for_a_moment(scenario: Scenario, folder: Path) -> None:
    console = Console(quiet=True)
    figures = run(a_few(scenario), folder, console, rounds=1, seconds=0.5, warm=False)
    assert figures.faults == {}
    assert figures.missing == {}
    assert {name for _, name in figures.rounds} == {US, SECOND.get(scenario.name, "haproxy")}
    for rounds in figures.rounds.values():
        assert rounds[0].requests_a_s > 0
        assert rounds[0].cpu_us > 0
        assert errors(rounds) == 0
    document = as_document(scenario, figures)
    assert json.loads(json.dumps(document)) == document


class Agreeable(asyncio.Protocol):
    """Lets everybody in, and says what an oracle that looks at good answers alone wants to hear."""

    _transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        kind, body = b"text/plain", b"user-000001"
        if b" /auth/" in data:
            kind = b"application/json"
            body = b'{"access_token": "a.b.c", "refresh_token": "d"}'
        assert self._transport is not None
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
            % (kind, len(body), body)
        )


@contextmanager
def agreeable(
    port: int, tls: ssl.SSLContext | None, kind: Callable[[], Agreeable] = Agreeable
) -> Iterator[None]:
    loop = asyncio.new_event_loop()
    accepted: list[Agreeable] = []

    def accept() -> Agreeable:
        accepted.append(kind())
        return accepted[-1]

    def end() -> None:
        # What is left open is collected in some other test, and fails there.
        server.close()
        for one in accepted:
            one.abort()
        loop.call_soon(loop.stop)

    server = loop.run_until_complete(loop.create_server(accept, "127.0.0.1", port, ssl=tls))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(end)
        thread.join()
        loop.close()


@EVERY
def test_who_lets_everybody_in_is_not_measured(scenario: Scenario, folder: Path) -> None:
    rig = Rig.build(folder, 2)
    seen = set()
    for entry in entries_of(scenario, rig):
        judge = (entry.oracle, entry.peer.shape)
        if not entry.peer.judges or judge in seen:
            continue
        seen.add(judge)
        tls = None
        if entry.peer.shape.tls:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(rig.certificate)
        with agreeable(entry.peer.port, tls):
            assert entry.oracle(rig, entry.peer), (scenario.name, entry.variant)
    assert seen


def test_a_peer_that_does_not_do_the_work_is_told_and_in_no_table(folder: Path) -> None:
    """HAProxy that judges nothing, in the place of the one that does."""
    (public,) = (one for one in SCENARIOS if one.name == "public")
    (post,) = (one for one in SCENARIOS if one.name == "post")

    def entries(rig: Rig) -> list[Entry]:
        (plain,) = (e.peer for e in public.entries(rig) if e.peer.name == "plain-haproxy")
        (row,) = (e for e in post.entries(rig) if e.peer.name == "haproxy")
        return [replace(row, peer=replace(plain, name="haproxy", judges=True))]

    figures = run(
        replace(post, entries=entries), folder, Console(quiet=True), rounds=1, seconds=0.5
    )
    assert figures.rounds == {}
    assert "no token got 200, not 401" in figures.faults["haproxy"]


def test_rows_of_one_peer_ask_its_oracle_once(folder: Path) -> None:
    """A second wrong password would be refused because of the first one."""
    asked: list[str] = []
    peer = Peer(US, "nothing", BASE_PORT + 1, lambda rig, peer: cast(Started, None))

    def oracle(rig: Rig, peer: Peer) -> list[str]:
        asked.append(peer.name)
        return []

    def load(rig: Rig, peer: Peer, process: Started, seconds: float) -> Round:
        return Round(1.0, 10.0, 1.0, 2.0, 0, 0)

    rows = [Entry(peer, load, oracle, variant) for variant in ("sign-in", "refresh")]
    scenario = Scenario("two", "Two rows", "", lambda _: rows, backend=lambda _: None, users=1)
    figures = run(scenario, folder, Console(quiet=True), rounds=1, seconds=0.1, warm=False)
    assert asked == [US]
    assert list(figures.rounds) == [("sign-in", US), ("refresh", US)]


class Counting(Agreeable):
    """Keeps the paths that are asked for."""

    def __init__(self, paths: set[bytes]) -> None:
        self._paths = paths

    def data_received(self, data: bytes) -> None:
        self._paths.update(re.findall(rb"GET ([^?]+)", data))
        super().data_received(data)


class Idle:
    """In the place of a started peer, where its CPU time says nothing."""

    def cpu_s(self) -> float:
        return 0.0

    kernel_s = cpu_s


@NEEDS
def test_as_many_paths_are_asked_for_however_many_routes_there_are(folder: Path) -> None:
    """Else memories of paths would be compared, and not routes."""
    rig = Rig.build(folder, 2)
    asked: dict[str, set[bytes]] = {}
    for entry in scale.routes(rig, counts=(2, 50)):
        if entry.peer.name == US:
            paths = asked.setdefault(entry.variant, set())
            with agreeable(entry.peer.port, None, partial(Counting, paths)):
                entry.load(rig, entry.peer, cast(Started, Idle()), 1)
    few, many = asked.values()
    assert len(few) == len(many) == 50
    assert len({path.split(b"/")[2] for path in few}) == 2
    assert len({path.split(b"/")[2] for path in many}) == 50


def test_a_round_past_the_quota_is_a_fault() -> None:
    peer = Peer("nginx", "", 1, lambda rig, peer: cast(Started, None), shape=Shape(quota=0.3))

    def round_of(cores: float) -> Round:
        return scale.within_quota(lambda *_: Round(10_000, cores * 100, 1.0, 2.0, 0, 0))(
            cast(Rig, None), peer, cast(Started, None), 1
        )

    assert round_of(0.31).cores == pytest.approx(0.31)
    with pytest.raises(RuntimeError, match=r"0.95 cores: the quota of 0.3 does not hold it"):
        round_of(0.95)


@pytest.mark.skipif(bool(quota.lacks()), reason=quota.lacks())
def test_a_process_has_its_quota_before_it_begins(folder: Path) -> None:
    """nginx forks its workers before anybody could look who there is."""
    (folder / "log").mkdir()
    rig = Rig(folder, cast(Credentials, None))
    listen = f"exec {sys.executable} -m http.server {BASE_PORT + 1} --bind 127.0.0.1"
    told = "while read -r group; do echo $group; done < /proc/self/cgroup"
    try:
        process = rig.start("first", ["sh", "-c", f"{told}; {listen}"], BASE_PORT + 1, quota=0.5)
        assert rig.quotas[0].members.parent.name in process.log.read_text()
    finally:
        rig.stop()
    assert not rig.quotas[0].members.exists()


def test_a_goal_is_held_to_the_median_of_the_ratios() -> None:
    (tls,) = (one for one in SCENARIOS if one.name == "tls")

    def rounds(*rates: float) -> list[Round]:
        return [Round(rate, 10.0, 1.0, 2.0, 0, 0) for rate in rates]

    figures = Figures({("", US): rounds(90, 300, 400), ("", "haproxy"): rounds(100, 100, 800)})
    (verdict,) = verdicts(tls, figures)
    assert verdict.reached == pytest.approx(0.9)
    assert verdict.missed
    assert "missed" in str(verdict)


def test_the_page_keeps_what_was_not_measured_again(tmp_path: Path) -> None:
    first, second = SCENARIOS[:2]
    place = tmp_path / "performance.md"
    place.write_text(f"before\n\n{page.BEGIN}{page.END}\nafter\n")

    def document(*scenarios: Scenario, rate: float) -> dict[str, object]:
        row = {"variant": "", "peer": US, "requests_a_s": rate, "cpu_us": 1.0, "p50_ms": 1.0}
        row |= {"p99_ms": 1.0, "p999_ms": 1.0, "gateway_times": None, "errors": 0}
        figures = {"rows": [row], "goals": [], "missing": {}, "took_s": 1, "seconds": 2.0}
        about = {"cpu": "a CPU", "python": "3", "rounds": 3, "build": "pure"}
        return {"about": about, "scenarios": {one.name: figures for one in scenarios}}

    page.write(place, SCENARIOS, document(first, second, rate=1111.0), "2026-01-01")
    page.write(place, SCENARIOS, document(second, rate=2222.0), "2026-01-02")
    text = place.read_text()
    assert text.index("1,111") < text.index("2,222")
    assert text.count("1,111") == 1
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert (tmp_path / page.FOLDER / f"{first.name}.svg").read_text().startswith("<svg")
