"""Lists of what is told of expressions and of requests: each says under a line what is found in it.

    python -m tests.access.told

writes them anew; what has changed is then read in the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

FOLDER = Path(__file__).parent


def listed(name: str) -> list[str]:
    return (FOLDER / f"{name}.txt").read_text("utf-8").splitlines()


def told_anew(name: str, mark: str, tell: Callable[[str], Iterable[str]]) -> Iterator[str]:
    """The list, with what `tell` says now: lines that begin with `mark`, blanks before it aside
    where there is a mark, and with a blank where there is none."""
    for line in listed(name):
        if line.lstrip(" ").startswith(mark) if mark else line.startswith(" "):
            continue
        yield line
        if not line.startswith("#"):
            yield from tell(line)
