"""How commands read a configuration, and what they say of it."""

from __future__ import annotations

from pathlib import Path

from gateway.access.snapshot import Problem, Snapshot, compile_snapshot
from gateway.cli.output import Stop, remark
from gateway.edge.responses import refusal_of
from gateway.model import Reason
from gateway.worker.reload import read_sources


def read(config: Path, policies: Path) -> Snapshot | list[Problem]:
    """The configuration, or every problem with it."""
    sources = read_sources(config, policies)
    return sources if isinstance(sources, list) else compile_snapshot(sources)


def compiled(config: Path, policies: Path) -> Snapshot:
    """The configuration; every problem on standard error and exit 1 where there are any."""
    found = read(config, policies)
    if isinstance(found, Snapshot):
        return found
    for problem in found:
        remark(str(problem))
    raise Stop("the configuration is not valid")


def status_for(reason: str, refusal: Reason | None) -> int:
    """The status that the table of answers has for a refusal."""
    return refusal_of(reason, refusal).status
