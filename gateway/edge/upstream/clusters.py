"""The upstreams of a worker as clusters of targets, and whose turn it is.

Law: a pool changes its state first and does its I/O afterwards, so nothing that I/O calls back
finds it half changed.  Time is looked at by one sweep for all, never by a timer of each
request.  A call holds one slot at its target from before it is sent until it has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from random import Random

from gateway.access.definitions import Balance, Health, Upstream, UpstreamTarget
from gateway.config.upstream_tls import TlsContexts
from gateway.edge.http1.response_head import ResponseHeadReader
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
from gateway.edge.upstream.slot_queue import Waiters
from gateway.edge.upstream.slot_reach import callable_targets
from gateway.edge.upstream.target_health import probe
from gateway.edge.upstream.target_pool import TargetPool, authority
from gateway.telemetry.metrics import Metrics

__all__ = ["Cluster", "Clusters", "TargetPool", "authority"]


class Cluster:
    """The targets of one upstream, and whose turn it is."""

    def __init__(
        self,
        spec: Upstream,
        targets: list[TargetPool],
        *,
        waiters: Waiters[TargetPool],
        budget: RetryBudget | None,
        loop: asyncio.AbstractEventLoop,
        random: Random,
    ) -> None:
        self.spec = spec
        self.targets = targets
        self.waiters = waiters
        self.budget = budget
        """None where nothing is tried again."""
        self._loop = loop
        self._random = random.random
        self._turn = 0
        self._has_health = spec.health is not None or spec.breaker is not None
        plain = not self._has_health and budget is None
        self._only = targets[0] if len(targets) == 1 and plain else None

    def choose(self, client_ip: str, tried: Collection[TargetPool] = ()) -> TargetPool | None:
        """The next target for this client, one that was not tried yet where there is one.

        None where none is `available`.
        """
        if self._only is not None:
            return self._only
        if self.budget is not None and not tried:
            self.budget.calls += 1
        targets = self.targets
        if self._has_health:
            targets = available(targets, client_ip, self._loop.time())
            if not targets:
                return None
        if len(targets) > 1 and tried:
            targets = [target for target in targets if target not in tried] or targets
        if len(targets) > 1 and self.spec.max_connections:
            targets = [t for t in targets if t.has_capacity_for(client_ip)] or targets
        count = len(targets)
        if count == 1:
            return targets[0]
        if self.spec.balance is Balance.LEAST_REQUESTS:
            # The better of two drawn ones: nearly as even as the best of all, and a target that
            # has just come back is not sent everything at once (Mitzenmacher, 2001).
            index = int(self._random() * count)
            other = int(self._random() * (count - 1))
            a, b = targets[index], targets[other + (other >= index)]
            return a if a.in_flight + a.reserved <= b.in_flight + b.reserved else b
        self._turn += 1
        return targets[self._turn % count]

    def has_untried_target(self, tried: Collection[TargetPool]) -> bool:
        """Whether a target that was not tried yet is not known to be unreachable."""
        return any(target.reachable and target not in tried for target in self.targets)

    def acquire_retry(self) -> bool:
        """Whether one more attempt of a call may be sent; it is counted."""
        return self.budget is not None and self.budget.take()

    async def acquire_slot(self, client_ip: str) -> TargetPool | None:
        """Wait for a slot at a target.  None when too many wait, or it takes too long."""
        waiter = self.waiters.add(self.targets, client_ip, self.spec.queue)
        if waiter is None:
            return None
        slot = waiter.slot
        try:
            async with asyncio.timeout(self.spec.timeout_connect_s):
                try:
                    return await slot
                except asyncio.CancelledError:
                    given = slot.result() if slot.done() and not slot.cancelled() else None
                    if given is not None:
                        given.record_end(None, client_ip)
                        given.release(client_ip)
                    raise
        except TimeoutError:
            self.waiters.give_up(waiter)
            return None
        finally:
            self.waiters.discard(waiter)


@dataclass(frozen=True, slots=True)
class DescribedTarget:
    """What an operator is told of a target."""

    upstream: str
    target: str
    is_healthy: bool
    is_open: bool
    """The breaker keeps calls away."""
    is_reachable: bool
    """Whether the last attempt to connect succeeded."""
    in_flight: int
    connections: int
    has_health: bool
    has_breaker: bool


class Clusters:
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
        scarce: Callable[[], bool] = lambda: False,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._tls = tls or TlsContexts()
        self._endpoints = Endpoints(resolver or SystemResolver())
        self._resolve_every_s = resolve_every_s
        self._turns = Turns()
        self._scarce = scarce
        self._heads = ResponseHeadReader()
        """Reads the responses of all of them."""
        self._lookups: dict[TargetPool, asyncio.Task[None]] = {}
        self._loop = loop or asyncio.get_running_loop()
        self._on_sweep = on_sweep
        self._random = random or Random()  # noqa: S311 (it spreads load)
        self._applied: dict[str, Upstream] | None = None
        """Those of the running configuration; None before there is one."""
        self._clusters: dict[str, Cluster] = {}
        self._retired: list[TargetPool] = []
        """Targets that a reload removed, until their last exchange has ended."""
        self._probes: dict[TargetPool, asyncio.Task[None]] = {}
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)

    def apply(self, specs: Iterable[Upstream]) -> None:
        """The upstreams of a new configuration: probes begin, and what is gone is let go."""
        applied = self._applied = {spec.name: spec for spec in specs}
        for name in [name for name in self._clusters if name not in applied]:
            self._retire(self._clusters.pop(name).targets)
        for spec in applied.values():
            self.cluster_of(spec)
        self._endpoints.keep(
            (pool.target.host, pool.target.port)
            for pool in self._targets()
            if has_name(pool.target)
        )

    def cluster_of(self, spec: Upstream) -> Cluster:
        current = self._clusters.get(spec.name)
        if current is not None and current.spec is spec:
            return current
        if self._applied is not None and self._applied.get(spec.name) is not spec:
            return self._former(spec, current)
        return self._renew(spec, current)

    def _former(self, spec: Upstream, current: Cluster | None) -> Cluster:
        """For a call that an earlier configuration admitted: its targets, those that are gone
        too, and nothing of the running configuration is changed for it.

        A target alone tells no pool: over another upstream's connections, or those of other
        files, who we are to it and who is believed there would be another's.
        """
        known = [pool for pool in self._retired if pool.spec.name == spec.name]
        waiters: Waiters[TargetPool] = Waiters(self._loop)
        budget: RetryBudget | None = None
        if current is not None:
            known += current.targets
            waiters, budget = current.waiters, current.budget
        pools = {pool.target: pool for pool in known if pool.is_known_by(spec.tls)}
        for target in spec.targets:
            if target not in pools:
                pools[target] = self._pool(target, spec)
                self._retire([pools[target]])
        return self._cluster(spec, [pools[target] for target in spec.targets], waiters, budget)

    def _renew(self, spec: Upstream, current: Cluster | None) -> Cluster:
        """A reload made a new specification: connections to the same targets are kept, where who
        is believed there, and who we are to them, stayed the same."""
        before = {} if current is None else {pool.target: pool for pool in current.targets}
        kept = {t: pool for t, pool in before.items() if pool.is_known_by(spec.tls)}
        waiters = current.waiters if current is not None else Waiters(self._loop)
        pools = []
        for target in spec.targets:
            pool = kept.get(target) or self._pool(target, spec)
            pool.apply(spec, waiters)
            pools.append(pool)
        self._retire(pool for pool in before.values() if pool not in pools)
        if current is not None and current.spec.retry == spec.retry:
            budget = current.budget
        else:
            budget = self._budget(spec)
        cluster = self._clusters[spec.name] = self._cluster(spec, pools, waiters, budget)
        return cluster

    def _cluster(
        self,
        spec: Upstream,
        targets: list[TargetPool],
        waiters: Waiters[TargetPool],
        budget: RetryBudget | None,
    ) -> Cluster:
        return Cluster(
            spec,
            targets,
            waiters=waiters,
            budget=budget,
            loop=self._loop,
            random=self._random,
        )

    def _pool(self, target: UpstreamTarget, spec: Upstream) -> TargetPool:
        return TargetPool(
            target,
            spec,
            self._loop,
            self._endpoints,
            self._turns,
            heads=self._heads,
            tls=self._tls,
            scarce=self._scarce,
        )

    def _budget(self, spec: Upstream) -> RetryBudget | None:
        if spec.retry.attempts < 2:
            return None
        description = "Second and later tries of calls: sent, or refused by the budget."
        tally = partial(self._metrics.tally, "upstream_retries", description, upstream=spec.name)
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
        for cluster in self._clusters.values():
            if cluster.budget is not None:
                cluster.budget.turn(now)
            for target in cluster.targets:
                self._probe_if_due(target, now)
                self._resolve_if_due(target, now)

    def _probe_if_due(self, target: TargetPool, now: float) -> None:
        health = target.spec.health
        if health is not None and now >= target.probe_at and target not in self._probes:
            target.probe_at = now + health.every_s
            self._probes[target] = self._loop.create_task(self._probe(target, health))

    def _resolve_if_due(self, target: TargetPool, now: float) -> None:
        if target.is_named and target.connections and now >= target.resolve_at:
            target.resolve_at = now + self._resolve_every_s
            if target not in self._lookups:
                self._lookups[target] = self._loop.create_task(self._resolve(target))

    async def _resolve(self, pool: TargetPool) -> None:
        """What cannot be resolved now stays where it is."""
        try:
            async with asyncio.timeout(RESOLVE_EVERY_S):
                target = pool.target
                pool.addresses_changed(await self._endpoints.looked_up(target.host, target.port))
        except (OSError, TimeoutError):
            pass  # told by `Endpoints`
        finally:
            self._lookups.pop(pool, None)

    async def _probe(self, pool: TargetPool, health: Health) -> None:
        try:
            succeeded = await self._send_probe(pool, health)
            if pool.health is not None:
                pool.health.record_probe(succeeded)
        finally:
            self._probes.pop(pool, None)

    async def _send_probe(self, pool: TargetPool, health: Health) -> bool:
        host = pool.spec.host
        host_field = authority(pool.target) if host is None else host.encode("ascii")
        try:
            context = pool.context()
        except OSError:
            return False
        return await probe(pool.target, health, host_field, context, self._endpoints)

    def described(self) -> list[DescribedTarget]:
        """Every target of the running configuration, as this worker finds it."""
        now = self._loop.time()
        return [
            DescribedTarget(
                upstream=name,
                target=pool.target.url,
                is_healthy=pool.health is None or pool.health.healthy,
                is_open=pool.health is not None and pool.health.is_open(now),
                is_reachable=pool.reachable,
                in_flight=pool.in_flight,
                connections=len(pool.connections),
                has_health=pool.spec.health is not None,
                has_breaker=pool.spec.breaker is not None,
            )
            for name, cluster in self._clusters.items()
            for pool in cluster.targets
        ]

    def _targets(self) -> list[TargetPool]:
        current = [pool for cluster in self._clusters.values() for pool in cluster.targets]
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


def available(targets: Collection[TargetPool], client_ip: str, now: float) -> list[TargetPool]:
    """Those that a call of this client may be sent to; none while the breakers of all keep it away.

    Where probes call every target bad they are all tried (`callable_targets`).
    """
    healths = [(target, target.health) for target in targets]
    good = [t for t, h in healths if h is None or h.available(client_ip, now)]
    return good or callable_targets(client_ip, targets, now)
