"""Memory and descriptors of every worker, again and again."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.soak.town import Town

EVERY_S = 5.0
SETTLES_S = 30.0
"""What is compared are medians of so long."""


@dataclass(slots=True)
class Sample:
    at: float
    """Seconds from the beginning of the run."""
    node: str
    worker: int
    rss: int
    pss: int
    """What is its own, and its share of what its master and the other workers have too.  Without
    pages of libraries: how many others have those open is no matter of this worker's."""
    descriptors: int


@dataclass(frozen=True, slots=True)
class Growth:
    node: str
    worker: int
    rss: float
    pss: float
    """Shares: 0.02 is 2 %."""
    descriptors: int
    rss_bytes: int
    pss_bytes: int
    """At the end."""


@dataclass
class Samples:
    town: Town
    began_at: float
    found: list[Sample] = field(default_factory=list)

    async def run(self, over: asyncio.Event) -> None:
        while not over.is_set():
            await asyncio.to_thread(self.take)
            try:
                async with asyncio.timeout(EVERY_S):
                    await over.wait()
            except TimeoutError:
                continue

    def take(self) -> None:
        for node in self.town.nodes:
            for worker in node.workers():
                sample = _sampled(node.name, worker, time.monotonic() - self.began_at)
                if sample is not None:
                    self.found.append(sample)

    def growth(self, from_s: float, to_s: float) -> list[Growth]:
        """Of each worker that lived throughout."""
        grown = []
        for worker in dict.fromkeys(one.worker for one in self.found):
            mine = [one for one in self.found if one.worker == worker]
            settles_s = min(SETTLES_S, (to_s - from_s) / 4)
            first = [one for one in mine if from_s <= one.at <= from_s + settles_s]
            last = [one for one in mine if to_s - settles_s <= one.at <= to_s]
            if mine[0].at > from_s + settles_s / 2 or not first or not last:
                continue
            shares = [
                median(getattr(one, name) for one in last)
                / median(getattr(one, name) for one in first)
                - 1
                for name in ("rss", "pss")
            ]
            more = median(one.descriptors for one in last) - median(
                one.descriptors for one in first
            )
            end = last[-1]
            grown.append(
                Growth(end.node, worker, shares[0], shares[1], int(more), end.rss, end.pss)
            )
        return grown


def _sampled(node: str, worker: int, at: float) -> Sample | None:
    """None where the process has ended meanwhile."""
    try:
        text = Path(f"/proc/{worker}/smaps_rollup").read_text()
        descriptors = len(os.listdir(f"/proc/{worker}/fd"))
    except OSError:
        return None
    sizes = {
        line.partition(":")[0]: int(line.split()[1]) * 1024
        for line in text.splitlines()
        if line.startswith(("Rss:", "Pss_Anon:"))
    }
    return Sample(at, node, worker, sizes.get("Rss", 0), sizes.get("Pss_Anon", 0), descriptors)
