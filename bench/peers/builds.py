"""Which code of the gateway is measured: compiled, as a release has it, or its sources."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from enum import StrEnum

from bench.peers.authgate import program, start_gateway
from bench.peers.peer import Peer
from bench.rig import HERE

SWITCH = "AUTHGATE_COMPILE"
PURE = "gateway (pure)"
PURE_PORT = 50
"""So far behind the port of the compiled one."""
_COMPILE = HERE.parent / "deploy" / "compiled" / "checkout.py"


class Build(StrEnum):
    COMPILED = "compiled"
    PURE = "pure"
    BOTH = "both"


def prepare(build: Build | None) -> tuple[str, str]:
    """What `gateway` is from now on, `compiled` or `pure`; and what keeps it from being compiled.

    None is compiled where that can be.
    """
    why = ""
    os.environ[SWITCH] = "never"
    if build is not Build.PURE:
        command = [sys.executable, str(_COMPILE), "compile"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            os.environ[SWITCH] = "always"
        else:
            why = (done.stdout + done.stderr).strip()
    return said_by_gateway(), why


def said_by_gateway() -> str:
    done = subprocess.run(
        [program(), "version", "--json"], capture_output=True, text=True, check=True
    )
    return str(json.loads(done.stdout)["build"])


def pure_beside(peer: Peer) -> Peer | None:
    """The same by its sources; None where `peer` is not the gateway alone."""
    if peer.start is not start_gateway:
        return None
    settings = (*peer.shape.settings, (SWITCH, "never"))
    return replace(
        peer,
        name=PURE,
        does="its sources, not compiled",
        port=peer.port + PURE_PORT,
        shape=replace(peer.shape, settings=settings),
    )
