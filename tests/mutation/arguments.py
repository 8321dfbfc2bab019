"""Why a mutant may live: read from survivors.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.mutation.mutants import Mutant

FILE = Path(__file__).with_name("survivors.toml")


@dataclass(frozen=True)
class Argument:
    """`functions` is a pattern of the shell.  Either each of `changes` is one mutant, its lines
    before and after; or `like` is a regular expression for both, with " -> " between."""

    why: str
    functions: str
    changes: frozenset[tuple[str, str]]
    like: re.Pattern[str] | None

    def covers(self, mutant: Mutant) -> bool:
        if not fnmatchcase(mutant.function, self.functions):
            return False
        if self.like is not None:
            return self.like.fullmatch(f"{mutant.was} -> {mutant.now}") is not None
        return (mutant.was, mutant.now) in self.changes


def arguments(text: str) -> Sequence[Argument]:
    """Raises ValueError for an entry that says too little or too much."""
    found = []
    for entry in tomllib.loads(text)["argument"]:
        why, functions = str(entry.pop("why")).strip(), str(entry.pop("functions"))
        changes = frozenset((str(was), str(now)) for was, now in entry.pop("changes", ()))
        like = entry.pop("like", None)
        if entry or not why or bool(changes) == (like is not None):
            raise ValueError(f"survivors.toml: the argument about {functions} is not of the form")
        pattern = None if like is None else re.compile(like, re.DOTALL)
        found.append(Argument(why, functions, changes, pattern))
    return found
