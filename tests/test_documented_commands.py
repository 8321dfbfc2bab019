"""Commands that pages show: each is one of ours, with options that it has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer

from gateway.cli import build

REPOSITORY = Path(__file__).parents[1]
PAGES = [
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "examples").glob("*/README.md")),
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
]
_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
_SHELL = re.compile(r'(sh|console)?( title="[^"]*")?')
_BEFORE = re.compile(r"^(?:\$ |sudo |exec |\w+=\S* )+")


@cache
def command_tree() -> Any:
    return typer.main.get_command(build())


def shown(text: str) -> Iterator[str]:
    """The lines of a page that call `gateway`, from that word on."""
    for language, block in _BLOCK.findall(text):
        if not _SHELL.fullmatch(language):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s(?:\||&&|;)\s|\$\(", f" {line.strip()}"):
                part = _BEFORE.sub("", part.strip())
                if re.match(r"gateway [a-z]", part):
                    yield part


def problem(line: str) -> str | None:
    """What is wrong with it; None where the command and each of its options are there."""
    words = shlex.split(re.split(r"\s[#<>]|[)`]", line)[0], comments=True)[1:]
    command = command_tree()
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        name = words.pop(0)
        if name not in command.commands:
            return f"there is no command {name}"
        command = command.commands[name]
    known = {"--help"} | {
        option for one in command.params for option in (*one.opts, *one.secondary_opts)
    }
    options = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    unknown = [option for option in options if option not in known]
    return f"{command.name} has no {unknown[0]}" if unknown else None


def test_each_command_that_a_page_shows_is_there_with_its_options() -> None:
    lines = [(page, line) for page in PAGES for line in shown(page.read_text("utf-8"))]
    assert len(lines) > 150
    wrong = [
        f"{page.relative_to(REPOSITORY)}: {line}: {told}"
        for page, line in lines
        if (told := problem(line))
    ]
    assert wrong == []


def test_a_command_that_is_not_there_is_found() -> None:
    assert problem("gateway frobnicate x") == "there is no command frobnicate"
    assert problem("gateway users create a@b.c --frob") == "create has no --frob"
    assert problem("gateway users list --json") is None


def test_each_target_of_make_that_a_page_shows_is_there() -> None:
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    shown_targets = {
        (page.name, target)
        for page in PAGES
        for target in re.findall(r"(?:^\$ |`)make (?:-s )?([a-z-]+)", page.read_text("utf-8"), re.M)
    }
    assert len(shown_targets) > 10
    assert {one for one in shown_targets if one[1] not in targets} == set()
