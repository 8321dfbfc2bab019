"""Roles, what they inherit, and the actions that their permissions admit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.model import NOWHERE, SourceLocation

_REMEMBERED = 10_000
_ACTION = re.compile(r"[A-Za-z0-9_.-]+(?::[A-Za-z0-9_.-]+)*\Z")
_PATTERN = re.compile(r"(?:\*|[A-Za-z0-9_.-]+)(?::(?:\*|[A-Za-z0-9_.-]+))*\Z")


def is_action(text: str) -> bool:
    """One action: words joined by colons, `orders:read`."""
    return _ACTION.match(text) is not None


def is_action_pattern(text: str) -> bool:
    """An action in which whole words may be `*`: `orders:*`, `*:read`, `*`."""
    return _PATTERN.match(text) is not None


def matches(pattern: str, action: str) -> bool:
    """Whether `pattern` covers `action`.

    `*` stands for exactly one word; as the last word it stands for one or more, so
    `orders:*` covers `orders:items:read` but not `orders`, and `*` covers everything.
    """
    if pattern in ("*", action):
        return True
    if "*" not in pattern:
        return False
    wanted, given = pattern.split(":"), action.split(":")
    if wanted[-1] == "*":
        if len(given) < len(wanted):
            return False
    elif len(given) != len(wanted):
        return False
    # A last `*` takes whatever is left, hence the shorter of the two.
    return all(want in ("*", got) for want, got in zip(wanted, given, strict=False))


@dataclass(frozen=True, slots=True)
class Role:
    name: str
    inherits: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    location: SourceLocation = NOWHERE


class RoleBook:
    """The roles that one policy knows: its own and the shared ones.

    What it works out is kept for the life of the snapshot, for a bounded number of callers'
    role lists.
    """

    def __init__(self, roles: Iterable[Role] = ()) -> None:
        self.roles: Mapping[str, Role] = {role.name: role for role in roles}
        self._expanded: dict[tuple[str, ...], frozenset[str]] = {}
        self._permitted: dict[tuple[tuple[str, ...], str], bool] = {}

    def expand(self, names: tuple[str, ...]) -> frozenset[str]:
        """`names` and every role that they inherit; a role nobody defined is itself alone."""
        expanded = self._expanded.get(names)
        if expanded is None:
            if len(self._expanded) >= _REMEMBERED:
                self._expanded.clear()
            expanded = self._expanded[names] = frozenset(self._closure(names))
        return expanded

    def permits(self, names: tuple[str, ...], action: str) -> bool:
        """Whether a caller with the roles `names` holds a permission for `action`."""
        key = (names, action)
        answer = self._permitted.get(key)
        if answer is None:
            if len(self._permitted) >= _REMEMBERED:
                self._permitted.clear()
            answer = self._permitted[key] = self.granting(names, action) is not None
        return answer

    def granting(self, names: tuple[str, ...], action: str) -> tuple[str, str] | None:
        """The role and the permission that admit `action`; None when nothing does."""
        for name in sorted(self.expand(names)):
            role = self.roles.get(name)
            for pattern in role.permissions if role else ():
                if matches(pattern, action):
                    return name, pattern
        return None

    def cycle(self) -> tuple[str, ...] | None:
        """Roles that inherit each other in a ring, the first one repeated at the end."""
        done: set[str] = set()
        for start in self.roles:
            # An explicit stack: a chain of roles may be longer than Python recurses.
            path: list[str] = []
            stack: list[tuple[str, int]] = [(start, 0)]
            while stack:
                name, at = stack.pop()
                if at == 0:
                    if name in done:
                        continue
                    if name in path:
                        return (*path[path.index(name) :], name)
                    path.append(name)
                role = self.roles.get(name)
                inherits = role.inherits if role else ()
                if at < len(inherits):
                    stack.append((name, at + 1))
                    stack.append((inherits[at], 0))
                else:
                    path.pop()
                    done.add(name)
        return None

    def _closure(self, names: Iterable[str]) -> set[str]:
        closure: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in closure:
                continue
            closure.add(name)
            role = self.roles.get(name)
            if role is not None:
                waiting += role.inherits
        return closure
