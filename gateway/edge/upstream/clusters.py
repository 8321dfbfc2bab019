"""The connections to the upstreams, kept by target, and whose turn it is.

Law: a pool changes its state first and does its I/O afterwards, so nothing that I/O calls back
finds it half changed.  Time is looked at by one sweep for all, never by a timer of each
request.  A call holds one place at its target from before it is sent until it has ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from random import Random

from gateway.access.definitions import Balance, Health, Upstream, UpstreamTarget
from gateway.config.upstream_tls import TlsContexts
from gateway.edge.http1.turns import Turns
from gateway.edge.upstream.connection import SWEEP_S
from gateway.edge.upstream.resolver import (
    RESOLVE_EVERY_S,
    Endpoints,
    Resolver,
    SystemResolver,
    has_name,
)
from gateway.edge.upstream.retry_budget import RetryBudget
from gateway.edge.upstream.target_health import probe
from gateway.edge.upstream.target_pool import TargetPool, Waiting, authority
from gateway.telemetry.metrics import Metrics

__all__ = ["TargetPool", "UpstreamPool", "Upstreams", "Waiting", "authority"]


class UpstreamPool:
    """The targets of one upstream, and whose turn it is."""

    def __init__(
        self,
        spec: Upstream,
        targets: list[TargetPool],
        waiting: Waiting,
        loop: asyncio.AbstractEventLoop,
        random: Random,
        budget: RetryBudget | None = None,
    ) -> None:
        self.spec = spec
        self.targets = targets
        self.waiting = waiting
        self.budget = budget
        """None where nothing is tried again."""
        self._loop = loop
        self._random = random.random
        self._turn = 0
        self._judged = spec.health is not None or spec.breaker is not None
        plain = not self._judged and budget is None
        self._only = targets[0] if len(targets) == 1 and plain else None

    def choose(self, tried: Collection[TargetPool] = ()) -> TargetPool | None:
        """The next target, one that was not tried yet where there is one.

        None while the breakers of all are open.  Where probes call every target bad they are
        all tried: better a call that fails than a probe that is wrong.
        """
        if self._only is not None:
            return self._only
        if self.budget is not None and not tried:
            self.budget.calls += 1
        targets = self.targets
        if self._judged:
            targets = self._usable(self._loop.time())
            if not targets:
                return None
        if len(targets) > 1 and tried:
            targets = [target for target in targets if target not in tried] or targets
        if len(targets) > 1 and self.spec.max_connections:
            targets = [target for target in targets if target.has_room] or targets
        count = len(targets)
        if count == 1:
            return targets[0]
        if self.spec.balance is Balance.LEAST_REQUESTS:
            # The better of two drawn ones: nearly as even as the best of all, and a target that
            # has just come back is not sent everything at once (Mitzenmacher, 2001).
            first = int(self._random() * count)
            second = int(self._random() * (count - 1))
            a, b = targets[first], targets[second + (second >= first)]
            return a if a.in_flight + a.promised <= b.in_flight + b.promised else b
        self._turn += 1
        return targets[self._turn % count]

    def _usable(self, now: float) -> list[TargetPool]:
        standings = [(target, target.standing) for target in self.targets]
        usable = [t for t, standing in standings if standing is None or standing.usable(now)]
        if usable:
            return usable
        return [t for t, standing in standings if standing is None or not standing.is_open(now)]

    def another_is_alive(self, tried: Collection[TargetPool]) -> bool:
        """Whether a target that was not tried yet is not known to be unreachable."""
        return any(target.reachable and target not in tried for target in self.targets)

    def tries_again(self) -> bool:
        """Whether one more try of a call may be sent; it is counted."""
        return self.budget is not None and self.budget.take()

    async def location(self) -> TargetPool | None:
        """Wait for a place at a target.  None when too many wait, or it takes too long."""
        if len(self.waiting) >= self.spec.queue:
            return None
        turn: asyncio.Future[TargetPool] = self._loop.create_future()
        self.waiting.append(turn)
        try:
            async with asyncio.timeout(self.spec.timeout_connect_s):
                try:
                    return await turn
                except asyncio.CancelledError:
                    if turn.done() and not turn.cancelled():
                        turn.result().leave(None)
                    raise
        except TimeoutError:
            return None
        finally:
            if turn in self.waiting:
                self.waiting.remove(turn)


class Upstreams:
    """Every upstream of the running configuration, with the connections that outlive a reload.

    `on_sweep` is told the loop's time each SWEEP_S: one timer serves all that is looked at.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        on_sweep: Callable[[float], None] = lambda now: None,
        random: Random | None = None,
        metrics: Metrics | None = None,
        resolver: Resolver | None = None,
        resolve_every_s: float = RESOLVE_EVERY_S,
        tls: TlsContexts | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._tls = tls or TlsContexts()
        self._endpoints = Endpoints(resolver or SystemResolver())
        self._resolve_every_s = resolve_every_s
        self._turns = Turns()
        self._lookups: dict[TargetPool, asyncio.Task[None]] = {}
        self._loop = loop or asyncio.get_running_loop()
        self._on_sweep = on_sweep
        self._random = random or Random()  # noqa: S311 (it spreads load)
        self._adopted: dict[str, Upstream] | None = None
        """Those of the running configuration; None before there is one."""
        self._pools: dict[str, UpstreamPool] = {}
        self._retired: list[TargetPool] = []
        """Targets that a reload removed, until their last exchange has ended."""
        self._probes: dict[TargetPool, asyncio.Task[None]] = {}
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)

    def adopt(self, specs: Iterable[Upstream]) -> None:
        """The upstreams of a new configuration: probes begin, and what is gone is let go."""
        named = self._adopted = {spec.name: spec for spec in specs}
        for name in [name for name in self._pools if name not in named]:
            self._retire(self._pools.pop(name).targets)
        for spec in named.values():
            self.pool(spec)
        self._endpoints.keep(
            (pool.target.host, pool.target.port)
            for pool in self._targets()
            if has_name(pool.target)
        )

    def pool(self, spec: Upstream) -> UpstreamPool:
        known = self._pools.get(spec.name)
        if known is not None and known.spec is spec:
            return known
        if self._adopted is not None and self._adopted.get(spec.name) is not spec:
            return self._former(spec, known)
        return self._renew(spec, known)

    def _former(self, spec: Upstream, known: UpstreamPool | None) -> UpstreamPool:
        """For a call that an earlier configuration admitted: its targets, those that are gone
        too, and nothing of the running configuration is changed for it."""
        there = {pool.target: pool for pool in self._retired}
        waiting: Waiting = deque()
        budget: RetryBudget | None = None
        if known is not None:
            there |= {pool.target: pool for pool in known.targets}
            waiting, budget = known.waiting, known.budget
        for target in spec.targets:
            if target not in there:
                there[target] = self._fresh(target, spec)
                self._retire([there[target]])
        targets = [there[target] for target in spec.targets]
        return UpstreamPool(spec, targets, waiting, self._loop, self._random, budget)

    def _renew(self, spec: Upstream, known: UpstreamPool | None) -> UpstreamPool:
        """A reload made a new specification: connections to the same targets are kept."""
        kept = {pool.target: pool for pool in known.targets} if known is not None else {}
        waiting: Waiting = known.waiting if known is not None else deque()
        targets = []
        for target in spec.targets:
            pool = kept.pop(target, None) or self._fresh(target, spec)
            pool.adopt(spec, waiting)
            targets.append(pool)
        self._retire(kept.values())
        if known is not None and known.spec.retry == spec.retry:
            budget = known.budget
        else:
            budget = self._budget(spec)
        fresh = UpstreamPool(spec, targets, waiting, self._loop, self._random, budget)
        self._pools[spec.name] = fresh
        return fresh

    def _fresh(self, target: UpstreamTarget, spec: Upstream) -> TargetPool:
        return TargetPool(target, spec, self._loop, self._endpoints, self._turns, tls=self._tls)

    def _budget(self, spec: Upstream) -> RetryBudget | None:
        if spec.retry.attempts < 2:
            return None
        about = "Second and later tries of calls: sent, or refused by the budget."
        tally = partial(self._metrics.tally, "upstream_retries", about, upstream=spec.name)
        return RetryBudget(spec.retry.budget, tally(outcome="sent"), tally(outcome="refused"))

    def _retire(self, targets: Iterable[TargetPool]) -> None:
        for target in targets:
            target.close()
            self._retired.append(target)

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)
        now = self._loop.time()
        self._retired = [t for t in self._retired if t.connections or t.in_flight]
        for target in self._targets():
            target.sweep(now)
        self._on_sweep(now)
        for pool in self._pools.values():
            if pool.budget is not None:
                pool.budget.turn(now)
            if pool.spec.health is not None:
                for target in pool.targets:
                    if now >= target.probe_at and target not in self._probes:
                        target.probe_at = now + pool.spec.health.every_s
                        self._probes[target] = self._loop.create_task(self._probe(target))

            for target in pool.targets:
                if target.named and target.connections and now >= target.resolve_at:
                    target.resolve_at = now + self._resolve_every_s
                    if target not in self._lookups:
                        self._lookups[target] = self._loop.create_task(self._resolve(target))

    async def _resolve(self, target: TargetPool) -> None:
        """What cannot be resolved now stays where it is."""
        try:
            async with asyncio.timeout(RESOLVE_EVERY_S):
                where = target.target
                target.moved(await self._endpoints.looked_up(where.host, where.port))
        except (OSError, TimeoutError):
            pass  # told by `Endpoints`
        finally:
            self._lookups.pop(target, None)

    async def _probe(self, target: TargetPool) -> None:
        health, host = target.spec.health, target.spec.host
        try:
            if health is not None:
                named = authority(target.target) if host is None else host.encode("ascii")
                good = await self._ask(target, health, named)
                if target.standing is not None:
                    target.standing.probed(good)
        finally:
            self._probes.pop(target, None)

    async def _ask(self, target: TargetPool, health: Health, host: bytes) -> bool:
        try:
            context = target.context()
        except OSError:
            return False
        return await probe(target.target, health, host, context, self._endpoints)

    def _targets(self) -> list[TargetPool]:
        current = [target for pool in self._pools.values() for target in pool.targets]
        return current + self._retired

    def close(self) -> None:
        self._timer.cancel()
        for task in (*self._probes.values(), *self._lookups.values()):
            task.cancel()
        self._endpoints.close()
        for target in self._targets():
            target.close()
            for connection in list(target.connections):
                connection.abort()
