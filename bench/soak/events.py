"""How each event is done, and when it is over: both nodes can decide again, with all workers."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from bench.processes import Processes, family
from bench.soak.consequences import Happened, Kind
from bench.soak.crowd import Crowd
from bench.soak.oracle import Oracle
from bench.soak.people import Person
from bench.soak.schedule import BESIDE, ENDS_PROCESSES
from bench.soak.town import Node, Town
from tests.faults import Fault

HEALS_WITHIN_S = 60.0
RELOADS_WITHIN_S = 5.0
LIMITS_FULL_S = 90.0
"""From a fault of Redis until the limits that it counts are full again whatever was spent."""
ALL_WAYS = {"redis": (2, 3), "sql": (0, 1)}


@dataclass
class Stage:
    """Where events happen."""

    crowd: Crowd
    promoted: Person
    """Whose roles change."""
    random: random.Random
    happened: list[Happened] = field(default_factory=list)
    left_out: list[Kind] = field(default_factory=list)
    """What was planned and had no time."""
    now: set[str] = field(default_factory=set)
    """What is happening, for whoever watches."""

    @property
    def town(self) -> Town:
        return self.crowd.town

    @property
    def oracle(self) -> Oracle:
        return self.crowd.oracle

    async def do(self, kind: Kind, node: int) -> None:
        """Until it has healed; what it had to do and did not is told to the oracle."""
        target = self.town.nodes[node]
        named = f"{kind.value} ({target.name})" if kind in _OF_A_NODE else kind.value
        self.now.add(named)
        event = Happened(kind, named, time.monotonic(), float("inf"))
        event.ends_first_node = kind is Kind.ROLLING_RESTART or (
            kind in ENDS_PROCESSES and node == 0
        )
        self.happened.append(event)
        await _DONE[kind](self, target)
        if kind not in BESIDE:
            await self.healed(named)
        event.healed_at = time.monotonic()
        self.now.discard(named)

    async def healed(self, named: str) -> None:
        deadline = time.monotonic() + HEALS_WITHIN_S
        while not await asyncio.to_thread(self._is_well):
            if time.monotonic() > deadline:
                self.oracle.broken.append(f"{named}: not well after {HEALS_WITHIN_S:.0f} s")
                return
            await asyncio.sleep(0.1)

    def _is_well(self) -> bool:
        for node in self.town.nodes:
            status = node.status()
            workers = status.get("workers", ())
            if status.get("status") != 200 or len(workers) != self.town.workers:
                return False
            if any(one["dependencies"]["sql"] == "away" for one in workers):
                return False
        return True

    async def until(self, holds: Callable[[], bool], within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while not await asyncio.to_thread(holds):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.1)
        return True

    def configurations(self) -> list[tuple[str, bool]]:
        """Version and staleness of each worker of both nodes."""
        return [
            (one["configuration"]["version"], one["configuration"]["stale"])
            for node in self.town.nodes
            for one in node.status().get("workers", ())
        ]


async def _kill_worker(stage: Stage, node: Node) -> None:
    os.kill(stage.random.choice(node.workers()), signal.SIGKILL)


async def _kill_master(stage: Stage, node: Node) -> None:
    """What it started must follow by itself."""
    with Processes(family(node.pid)) as processes:
        os.kill(node.pid, signal.SIGKILL)
        left = await asyncio.to_thread(processes.left_after, 15)
    if left:
        stage.oracle.broken.append(f"{left} processes outlived the master of {node.name}")
    await asyncio.to_thread(node.start)


async def _lose_node(stage: Stage, node: Node) -> None:
    del stage
    with Processes(family(node.pid)) as processes:
        for pid in processes.pids:
            os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(processes.left_after, 10)
    await asyncio.to_thread(node.start)


async def _stop_worker(stage: Stage, node: Node) -> None:
    victim = stage.random.choice(node.workers())
    os.kill(victim, signal.SIGSTOP)
    try:
        await asyncio.sleep(2)
    finally:
        os.kill(victim, signal.SIGCONT)


async def _kill_backend(stage: Stage, node: Node) -> None:
    del node
    town = stage.town
    number = stage.random.randrange(2)
    os.kill(town.backends[number].pid, signal.SIGKILL)
    await asyncio.sleep(2)
    await asyncio.to_thread(town.backends[number].stop)
    town.backends[number] = await asyncio.to_thread(town.start_backend, number)


async def _edit_policy(stage: Stage, node: Node) -> None:
    """Readers lose the reports, and have them again."""
    del node
    for readers in (False, True):
        await _edit(stage, readers)
        await asyncio.sleep(1)


async def _edit(stage: Stage, readers: bool) -> None:
    town = stage.town
    before = {version for version, _ in stage.configurations()}
    town.readers_known = None
    town.readers = readers
    await asyncio.to_thread(town.write_policies)

    def taken() -> bool:
        found = stage.configurations()
        all_there = len(found) == 2 * town.workers
        return all_there and before.isdisjoint(version for version, _ in found)

    if not await stage.until(taken, RELOADS_WITHIN_S):
        stage.oracle.broken.append(f"an edit was not taken up in {RELOADS_WITHIN_S:.0f} s")
    town.readers_known = readers


async def _break_policy(stage: Stage, node: Node) -> None:
    del node
    town = stage.town
    for one in town.nodes:
        await asyncio.to_thread(one.write_policy, "user.email.startsWith(")

    def told() -> bool:
        found = stage.configurations()
        return len(found) == 2 * town.workers and all(stale for _, stale in found)

    if not await stage.until(told, RELOADS_WITHIN_S):
        stage.oracle.broken.append("a policy was broken and no worker said so")
    await asyncio.sleep(1)
    await asyncio.to_thread(town.write_policies)
    if not await stage.until(
        lambda: not any(stale for _, stale in stage.configurations()), RELOADS_WITHIN_S
    ):
        stage.oracle.broken.append("a policy was mended and not taken up")


async def _rotate_keys(stage: Stage, node: Node) -> None:
    await _command(stage, node, "keys", "rotate")


async def _change_roles(stage: Stage, node: Node) -> None:
    person = stage.promoted
    for verb, roles in (
        ("grant", person.roles | {"staff"}),
        ("revoke", person.roles - {"staff"}),
    ):
        person.changes += 1
        done = await _command(stage, node, "roles", verb, person.email, "staff")
        if done:
            person.roles = roles
        person.changes += 1
        await asyncio.sleep(0.5)


async def _command(stage: Stage, node: Node, *words: str) -> bool:
    """As an operator, who repeats it while it exits 3 (kept, and not yet confirmed)."""
    deadline = time.monotonic() + 30
    while True:
        done = await asyncio.to_thread(node.command, *words)
        if done.returncode == 0:
            return True
        if done.returncode != 3 or time.monotonic() > deadline:
            said = (done.stderr or done.stdout).strip()[-200:]
            stage.oracle.broken.append(f"gateway {' '.join(words)}: {done.returncode} {said}")
            return False


async def _step_clock(stage: Stage, node: Node) -> None:
    del node
    for offset in (3, -3, 0):
        await asyncio.to_thread(stage.town.clock.turn, offset)
        await asyncio.sleep(2.5)


async def _issuer_away(stage: Stage, node: Node) -> None:
    del node
    provider = stage.town.provider
    await asyncio.to_thread(provider.stop)
    await asyncio.sleep(6)
    await asyncio.to_thread(provider.start)


async def _rotate_issuer(stage: Stage, node: Node) -> None:
    del node
    await asyncio.to_thread(stage.town.provider.rotate)
    await asyncio.sleep(2)


async def _restart(stage: Stage, node: Node) -> None:
    """As an upgrade does it: told to end, waited for, started again."""
    assert node.process is not None
    os.kill(node.pid, signal.SIGTERM)
    process = node.process
    if not await stage.until(lambda: process.ended, 45):
        stage.oracle.broken.append(f"{node.name} had not ended 45 s after SIGTERM")
        await asyncio.to_thread(process.stop)
    await asyncio.to_thread(node.start)


async def _restart_all(stage: Stage, node: Node) -> None:
    del node
    for one in stage.town.nodes:
        await _restart(stage, one)
        await stage.healed("rolling restart")


def _forget_limits(town: Town, store: str) -> None:
    if store == "redis":
        town.limits_unsure_until = time.monotonic() + LIMITS_FULL_S


def _ways(store: str, how: str, for_s: float) -> Callable[[Stage, Node], Awaitable[None]]:
    async def do(stage: Stage, node: Node) -> None:
        del node
        town = stage.town
        _forget_limits(town, store)
        await town.break_ways(ALL_WAYS[store], how)
        if for_s:
            await asyncio.sleep(for_s)
            await town.break_ways(ALL_WAYS[store], Fault.NONE.value)

    return do


def _server(store: str, how: str) -> Callable[[Stage, Node], Awaitable[None]]:
    async def do(stage: Stage, node: Node) -> None:
        del node
        town = stage.town
        _forget_limits(town, store)
        server = town.valkey if store == "redis" else town.postgres
        if how == "freeze":
            server.freeze()
            try:
                await asyncio.sleep(3 if store == "redis" else 4)
            finally:
                server.thaw()
            return
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(0.5)
        again = town.valkey.start if store == "redis" else town.postgres.start_again
        await asyncio.to_thread(again)

    return do


_OF_A_NODE = frozenset(
    (
        Kind.WORKER_KILLED,
        Kind.MASTER_KILLED,
        Kind.NODE_LOST,
        Kind.WORKER_STOPPED,
        Kind.NODE_RESTARTED,
    )
)
_DONE: Mapping[Kind, Callable[[Stage, Node], Awaitable[None]]] = {
    Kind.WORKER_KILLED: _kill_worker,
    Kind.MASTER_KILLED: _kill_master,
    Kind.NODE_LOST: _lose_node,
    Kind.WORKER_STOPPED: _stop_worker,
    Kind.BACKEND_KILLED: _kill_backend,
    Kind.GOOD_RELOAD: _edit_policy,
    Kind.BAD_RELOAD: _break_policy,
    Kind.KEYS_ROTATED: _rotate_keys,
    Kind.ROLES_CHANGED: _change_roles,
    Kind.REDIS_CUT: _ways("redis", "reset-idle", 0),
    Kind.REDIS_FROZEN: _server("redis", "freeze"),
    Kind.REDIS_KILLED: _server("redis", "kill"),
    Kind.REDIS_AWAY: _ways("redis", Fault.REFUSE.value, 5.5),
    Kind.SQL_CUT: _ways("sql", "reset-idle", 0),
    Kind.SQL_FROZEN: _server("sql", "freeze"),
    Kind.SQL_KILLED: _server("sql", "kill"),
    Kind.SQL_AWAY: _ways("sql", Fault.REFUSE.value, 6),
    Kind.ISSUER_AWAY: _issuer_away,
    Kind.ISSUER_KEYS: _rotate_issuer,
    Kind.CLOCK_STEPS: _step_clock,
    Kind.NODE_RESTARTED: _restart,
    Kind.ROLLING_RESTART: _restart_all,
}


def done_kinds() -> set[Kind]:
    """Those that can be done."""
    return set(_DONE)
