"""Breaks rooms of the gateway in every small way, and asks whether their tests notice.

    python -m tests.mutation [--children N] [--alive] [--only TEXT] [ROOM…]

What no test noticed must be argued in tests/mutation/survivors.toml.  Exit code 1: a mutant is
alive and unargued; it stands in .tools/mutants/ROOM.txt with what it changes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import servers
from tests.mutation.arguments import FILE, Argument, arguments
from tests.mutation.mutants import REPOSITORY, Mutant, copy_tree, mutate, read_mutants

FOLDER = REPOSITORY / ".tools" / "mutants"
ROOMS = tomllib.loads(Path(__file__).with_name("rooms.toml").read_text("utf-8"))


@dataclass(frozen=True)
class Share:
    """What became of a room's mutants."""

    room: str
    count: int
    argued: int
    unargued: Sequence[Mutant]

    @property
    def row(self) -> str:
        killed = self.count - self.argued - len(self.unargued)
        share = f"{100 * killed / self.count:.1f} %" if self.count else "-"
        return f"{self.room:<12}{self.count:>8}{killed:>8}{share:>9}{self.argued:>8}{len(self.unargued):>10}"


HEAD = f"{'room':<12}{'mutants':>8}{'killed':>8}{'share':>9}{'argued':>8}{'unargued':>10}"


def fates(folder: Path) -> dict[str, str]:
    """What became of each mutant, by its name, as far as it was judged."""
    known: dict[str, str] = {}
    if (folder / "carried.json").exists():
        known |= json.loads((folder / "carried.json").read_text("utf-8"))
    if (folder / "verdicts.jsonl").exists():
        lines = (folder / "verdicts.jsonl").read_text("utf-8").splitlines()
        known |= dict(json.loads(line) for line in lines)
    return known


def killed_before(folder: Path) -> set[tuple[str, str, str]]:
    """What the mutants change that were killed the last time, each of their kind."""
    if not (folder / "mutants.json").exists():
        return set()
    made, known = read_mutants(folder), fates(folder)
    return {m.change for m in made} - {m.change for m in made if known.get(m.name) != "killed"}


def judge(
    room: str, only: str, environment: Mapping[str, str], argued: Sequence[Argument] | None
) -> None:
    """Has pytest judge the room's mutants; with `argued`, those alone that nothing is known of:
    neither were they killed the last time nor are they argued."""
    folder = FOLDER / room
    killed = set() if argued is None else killed_before(folder)
    copy_tree(folder)
    made = mutate(folder, ROOMS[room]["files"])
    carried = {m.name: "killed" for m in made if m.change in killed}
    carried |= {m.name: "argued" for m in made if any(a.covers(m) for a in argued or ())}
    asked = [m.name for m in made if m.name not in carried and only in m.function]
    (folder / "carried.json").write_text(json.dumps(carried), "utf-8")
    (folder / "asked.json").write_text(json.dumps(asked), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.mutation.judging"]
    command += ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov", "--timeout=60"]
    command += ["--rootdir=.", "--tb=native", f"--basetemp={folder}-tmp"]
    command += ["-o", "tmp_path_retention_policy=none"]
    command += ["-W", "ignore:This process .* is multi-threaded:DeprecationWarning"]
    # The store of SQL and the algorithm are means here: the quick ones stand for the others.
    quick = "not postgresql and not Postgres and not RS256"
    command += ["-k", quick, "-m", "not slow", *ROOMS[room]["tests"]]
    with (FOLDER / f"{room}.log").open("w", encoding="utf-8") as said:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=said, stderr=said)
    if done.returncode:
        sys.exit(f"the mutants of {room} could not be judged: see {FOLDER}/{room}.log")


def counted(room: str, argued: Sequence[Argument]) -> Share:
    """The share, and in ROOM.txt those that live unargued."""
    folder = FOLDER / room
    known = fates(folder)
    living = [m for m in read_mutants(folder) if known.get(m.name, "killed") != "killed"]
    unargued = [m for m in living if not any(argument.covers(m) for argument in argued)]
    (FOLDER / f"{room}.txt").write_text(
        "".join(f"{m.function} ({known[m.name]})\n  - {m.was}\n  + {m.now}\n" for m in unargued),
        "utf-8",
    )
    return Share(room, len(known), len(living) - len(unargued), unargued)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--children", type=int, default=2, help="mutants judged at once")
    parser.add_argument(
        "--alive",
        action="store_true",
        help="but for those that were killed the last time or are argued",
    )
    parser.add_argument("--only", default="", help="those alone whose function's name holds this")
    parser.add_argument("--count", action="store_true", help="count what was judged before")
    parser.add_argument("room", nargs="*", choices=[*ROOMS, []], help="all, unless named")
    asked = parser.parse_args()
    argued = arguments(FILE.read_text("utf-8"))
    FOLDER.mkdir(parents=True, exist_ok=True)
    shares = []
    rooms = asked.room or list(ROOMS)
    if not asked.count:
        urls = servers.shared()
        given = {"GATEWAY_TEST_DATABASE_URL": urls.postgres, "GATEWAY_TEST_REDIS_URL": urls.redis}
        given["MUTANTS_AT_ONCE"] = str(asked.children)
    for room in rooms:
        began = time.monotonic()
        if not asked.count:
            judge(room, asked.only, os.environ | given, argued if asked.alive else None)
        shares.append(counted(room, argued))
        print(f"{room}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    if not asked.count:
        servers.end_shared()
    print("\n".join((HEAD, *(share.row for share in shares))))
    for share in shares:
        if share.unargued:
            print(f"{len(share.unargued)} are alive and not argued: {FOLDER / share.room}.txt")
    return 1 if any(share.unargued for share in shares) else 0


if __name__ == "__main__":
    sys.exit(main())
