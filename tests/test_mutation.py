"""`make mutants`: what it says of a mutant, and the arguments for those that may live."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.mutation.arguments import FILE, arguments
from tests.mutation.mutants import REPOSITORY, Mutant, mutate

ROOMS = tomllib.loads(FILE.with_name("rooms.toml").read_text("utf-8"))

CODE = """
class Box:
    def full(self, count: int) -> bool:
        return count >= self.most


def half(count: int) -> int:
    return count // 2
"""


def mutant(was: str, now: str, function: str = "gateway.a.b.Box.full") -> Mutant:
    return Mutant("gateway.a.b.xǁBoxǁfull__mutmut_1", function, was, now)


def test_a_mutant_is_named_by_its_function_and_by_the_lines_that_differ(tmp_path: Path) -> None:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "box.py").write_text(CODE, "utf-8")
    made = mutate(tmp_path, ["gateway/*"])
    assert {one.change for one in made} == {
        ("gateway.box.Box.full", "return count >= self.most", "return count > self.most"),
        ("gateway.box.half", "return count // 2", "return count / 2"),
        ("gateway.box.half", "return count // 2", "return count // 3"),
    }
    assert {one.reached_by for one in made} == {"gateway.box.xǁBoxǁfull", "gateway.box.x_half"}


def test_an_argument_covers_the_changes_that_it_names() -> None:
    (one,) = arguments('[[argument]]\nwhy = "x"\nfunctions = "gateway.a.*"\nchanges = [["a", "b"]]')
    assert one.covers(mutant("a", "b"))
    assert not one.covers(mutant("a", "c"))
    assert not one.covers(mutant("a", "b", "gateway.b.f"))


def test_an_argument_covers_what_is_of_its_kind_as_a_whole() -> None:
    (one,) = arguments("[[argument]]\nwhy = 'x'\nfunctions = '*'\nlike = 'a+ -> b'")
    assert one.covers(mutant("aa", "b"))
    assert not one.covers(mutant("aa", "bb"))


@pytest.mark.parametrize(
    "entry",
    [
        "why = 'x'\nfunctions = '*'",
        "why = ' '\nfunctions = '*'\nlike = 'a'",
        "why = 'x'\nfunctions = '*'\nlike = 'a'\nchanges = [['a', 'b']]",
        "why = 'x'\nfunctions = '*'\nlike = 'a'\nbecause = 'y'",
    ],
)
def test_an_argument_that_says_too_little_or_too_much_is_an_error(entry: str) -> None:
    with pytest.raises(ValueError, match="form"):
        arguments(f"[[argument]]\n{entry}")


def test_the_arguments_can_be_read() -> None:
    assert arguments(FILE.read_text("utf-8"))


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_names_is_there(room: str) -> None:
    assert all(list(REPOSITORY.glob(pattern)) for pattern in ROOMS[room]["files"])
    assert all((REPOSITORY / path).exists() for path in ROOMS[room]["tests"])
