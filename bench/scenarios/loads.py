"""The loads of the scenarios: wrk with a script of ours, and the programs of `clients/`."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.load import CONNECTIONS, PATH, Round, load, loaded_by
from bench.peers import Peer
from bench.processes import Started
from bench.rig import Rig
from bench.scenarios.model import Load


def by_wrk(
    *words: str, path: str = PATH, connections: int = CONNECTIONS, tokens: Path | None = None
) -> Load:
    """`words` are those of load.lua; `tokens` come in place of the rig's."""

    def send(rig: Rig, peer: Peer, process: Started, seconds: float) -> Round:
        return load(
            rig,
            peer,
            process,
            seconds,
            path=path,
            connections=connections,
            words=words,
            tokens=tokens,
        )

    return send


def by_client(
    rig: Rig, peer: Peer, process: Started, seconds: float, program: str, *words: str
) -> Round:
    """A program of `clients/`: its port, the file of tokens, then `words`."""
    tokens = str(rig.signed(peer.shape.algorithm).tokens)
    module = f"bench.scenarios.clients.{program}"
    command = [sys.executable, "-m", module, str(peer.port), tokens, *words]
    return loaded_by(command, peer, process, seconds)
