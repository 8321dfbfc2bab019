"""The mutants of a room: made by mutmut, in a copy of the tree."""

from __future__ import annotations

import difflib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mutmut.mutation.data import LineSpan
from mutmut.mutation.file_mutation import mutate_file_contents

REPOSITORY = Path(__file__).parents[2]

# "xǁClassǁmethod__mutmut_3", "x_function__mutmut_3"
_NAME = re.compile(r"x(?:_|ǁ(?P<of>\w+)ǁ)(?P<function>\w+)__mutmut_\d+")


@dataclass(frozen=True, slots=True)
class Mutant:
    """`was` and `now` are the changed lines, each without the white space around it."""

    name: str
    """By which its module knows it: whoever sets MUTANT_UNDER_TEST to it runs it."""
    function: str
    was: str
    now: str

    @property
    def reached_by(self) -> str:
        """The name under which its function tells that it was called."""
        return self.name.rpartition("__mutmut_")[0]

    @property
    def change(self) -> tuple[str, str, str]:
        """What is the same in a later copy, in which the name may be another."""
        return self.function, self.was, self.now


def copy_tree(folder: Path) -> None:
    """All that is or could be committed."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)


def mutate(folder: Path, files: Sequence[str]) -> list[Mutant]:
    """Writes, in the copy, every function of `files` beside its mutants."""
    made: list[Mutant] = []
    for path in sorted(path for pattern in files for path in folder.glob(pattern)):
        module = ".".join(path.relative_to(folder).with_suffix("").parts)
        mutated = mutate_file_contents(str(path), path.read_text("utf-8"))
        path.write_text(mutated.code, "utf-8")
        lines = mutated.code.splitlines()
        for name in mutated.mutant_names:
            match = _NAME.fullmatch(name)
            assert match is not None, name
            original = name.rpartition("__mutmut_")[0] + "__mutmut_orig"
            spans = mutated.line_span_by_function_name
            was, now = _changed(_part(lines, spans[original]), _part(lines, spans[name]))
            function = ".".join(filter(None, (module, match["of"], match["function"])))
            made.append(Mutant(f"{module}.{name}", function, was, now))
    (folder / "mutants.json").write_text(json.dumps([asdict(one) for one in made]), "utf-8")
    return made


def read_mutants(folder: Path) -> list[Mutant]:
    return [Mutant(**one) for one in json.loads((folder / "mutants.json").read_text("utf-8"))]


def _part(lines: Sequence[str], span: LineSpan) -> list[str]:
    """The function in these lines, less the line that names it."""
    part = [line.rstrip() for line in lines[span.start - 1 : span.end]]
    return [re.sub(r"\bx[_ǁ]\w+__mutmut_\w+", "", line) for line in part]


def _changed(was: Sequence[str], now: Sequence[str]) -> tuple[str, str]:
    def picked(sign: str) -> Iterator[str]:
        for line in difflib.ndiff(was, now):
            if line.startswith(f"{sign} "):
                yield line[2:].strip()

    return "\n".join(picked("-")), "\n".join(picked("+"))
