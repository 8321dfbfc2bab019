"""One configuration, compiled whole: YAML texts in, a Snapshot or every problem out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.access.policies import Policy
from gateway.access.routes import RouteTable
from gateway.access.upstreams import Cors, Limit, Upstream


@dataclass(frozen=True, slots=True)
class Sources:
    """The texts of a configuration, each with the name that problems and places show.

    `routes` is `("routes.yaml", text)`.  `policies` holds every `*.yaml` below the policy
    folder, folders included, `tests/` excluded, names as they are shown
    (`policies/orders.yaml`, `policies/shop/orders.yaml`, `policies/data/teams.yaml`), sorted.
    `policies_root` is the folder's shown name (`policies`).
    """

    routes: tuple[str, str]
    policies: tuple[tuple[str, str], ...] = ()
    policies_root: str = "policies"

    @property
    def version(self) -> str:
        """12 hex digits that name exactly these texts."""
        digest = hashlib.sha256()
        for name, text in (self.routes, *sorted(self.policies)):
            for part in (name, text):
                data = part.encode()
                digest.update(len(data).to_bytes(8, "big") + data)
        return digest.hexdigest()[:12]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something that is wrong in a file, and what would be right; counts from 1."""

    file: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.text}"


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Immutable; a request keeps the one it began with."""

    version: str
    routes: RouteTable
    policies: Mapping[str, Policy] = field(default_factory=dict)
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)
    cors: Mapping[str, Cors] = field(default_factory=dict)
    auth_cors: Cors | None = None
    """Who may call `/auth/…` from another origin."""
    trusted_peers: tuple[str, ...] = ()
    """CIDR blocks from which `/decide/…` is answered."""


def compile_snapshot(sources: Sources) -> Snapshot | list[Problem]:
    """The whole configuration, or every problem in it, ordered by place."""
    raise NotImplementedError
