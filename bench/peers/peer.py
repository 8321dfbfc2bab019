"""What a peer is, and what a scenario may ask of it beyond the common work."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import Started
from bench.rig import Rig, found


@dataclass(frozen=True)
class Shape:
    """What is asked of a peer; without any of it the work of `make bench`."""

    algorithm: str = "RS256"
    """Of the key with which tokens are signed."""
    tls: bool = False
    workers: int = 1
    quota: float = 0.0
    """The share of a core that each worker may use; 0 is all of it."""
    ownership: bool = False
    """`/api/orders/OWNER/ID` is for its owner, who signed in lately and reads English."""
    websocket: bool = False
    routes: int = 0
    """So many routes `/api/rN/…` instead of one for all of `/api/`."""
    revoked: int = 0
    """So many tokens are revoked besides the thousand of the rig."""
    issuers: int = 0
    """Tokens of so many other issuers are taken, too."""
    decisions: bool = False
    """Others carry the calls, and ask."""
    connections: int = 9_900
    settings: tuple[tuple[str, str], ...] = field(default=())
    """For the gateway's environment."""


@dataclass(frozen=True)
class Peer:
    name: str
    does: str
    port: int
    start: Callable[[Rig, Peer], Started]
    lacks: Callable[[Rig], str] = lambda _: ""
    """What to install before it can run; empty when nothing is missing."""
    judges: bool = True
    revokes: bool = True
    """Whether it refuses the tokens on the rig's list (Envoy has no such thing)."""
    version: Callable[[Rig], str] = lambda _: ""
    shape: Shape = Shape()

    @property
    def file_name(self) -> str:
        """For its files: a scenario may start a peer more than once."""
        return f"{self.name.replace(' ', '-')}-{self.port}"


def needs(program: str, package: str) -> Callable[[Rig], str]:
    return lambda _: "" if found(program) else f"apt-get install {package}"


def start_peer(
    rig: Rig, peer: Peer, command: Sequence[str], env: Mapping[str, str] | None = None
) -> Started:
    """On as many CPUs as it has workers, each of which has its share of one."""
    workers, quota = peer.shape.workers, peer.shape.quota
    return rig.start(
        peer.file_name, command, peer.port, cpus=workers, quota=quota * workers, env=env
    )


def first_line(*command: str) -> str:
    """The first line of what `command` prints, or nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return ""
    return (done.stdout + done.stderr).strip().partition("\n")[0]


def revoked_list(rig: Rig, peer: Peer) -> Path:
    """The list of revoked tokens of a peer: the rig's, and as many more as its shape says."""
    path = rig.folder / "keys" / f"revoked-{peer.shape.revoked}.lst"
    if not path.exists():
        more = (f"bench-revoked-{number:08d}\n" for number in range(peer.shape.revoked))
        path.write_text(rig.credentials.revoked.read_text() + "".join(more))
    return path
