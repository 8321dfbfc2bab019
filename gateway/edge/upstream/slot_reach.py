"""Where those who want a slot may be sent.

Law: to a target of their configuration that keeps no call of theirs away, and to one that probes
call bad only where no better one is left to them.  Thousands may ask at once for dozens of targets:
what is the same for all of them is asked once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from gateway.edge.upstream.target_health import TargetHealth


class WithHealth(Protocol):
    health: TargetHealth | None


R = TypeVar("R", bound=WithHealth)


def callable_targets(client_ip: str, targets: Collection[R], now: float) -> list[R]:
    """Those that a call of this client may be sent to.

    Where probes call every target bad they are all tried: better a call that fails than a probe
    that is wrong.
    """
    admitting = [t for t in targets if (h := t.health) is None or h.admits(client_ip, now)]
    return [t for t in admitting if (h := t.health) is None or h.healthy] or admitting


@dataclass(slots=True)
class _KnownTargets(Generic[R]):
    """What is known of a set of targets."""

    targets: Collection[R]
    """Held here: as long as it is, no other has its id."""
    alike: frozenset[R] | None
    """Where every client may be sent; None where that depends on who it is."""
    by_client: dict[str, frozenset[R]]


class SlotReach(Generic[R]):
    """What is so at one moment, until somebody is sent anywhere."""

    __slots__ = ("_known", "_now")

    def __init__(self, now: float) -> None:
        self._now = now
        self._known: dict[int, _KnownTargets[R]] = {}

    def of(self, client_ip: str, targets: Collection[R]) -> frozenset[R]:
        """Where a call of this client that has these targets may be sent."""
        known = self._known.get(id(targets))
        if known is None:
            known = self._known[id(targets)] = _KnownTargets(targets, None, {})
            if all((health := one.health) is None or health.admits_all for one in targets):
                known.alike = frozenset(callable_targets(client_ip, targets, self._now))
        if known.alike is not None:
            return known.alike
        found = known.by_client.get(client_ip)
        if found is None:
            found = frozenset(callable_targets(client_ip, targets, self._now))
            known.by_client[client_ip] = found
        return found

    def has(self, target: R, client_ip: str, targets: Collection[R]) -> bool:
        """Whether it is one of these."""
        health = target.health
        if health is not None and not health.admits_all and not health.admits(client_ip, self._now):
            return False  # whatever the others are, which are not asked
        return target in self.of(client_ip, targets)

    def forget(self) -> None:
        """A call was sent somewhere: it may be the one that tries a target."""
        self._known.clear()
