"""`make setup` compiles beside the first start: all of it is there under its name, or nothing.

The compiler is a script here; tests/compiled/ runs the real one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from gateway.compiled import FOLDER, LIST, SUFFIX, SWITCH, stamp

ROOT = Path(__file__).parents[1]

COMPILE = """
REFUSED = 4


def missing():
    return {missing!r}
"""
COMPILER = """#!/bin/sh
# compile.py SOURCES INTO
echo $$ >>"{log}"
{body}
mkdir -p "$3/gateway"
echo code >"$3/gateway/door{suffix}"
echo "gateway/door{suffix}"
"""
BOOTSTRAP = """#!/bin/sh
mkdir -p .tools/compiler/bin
cp compiler .tools/compiler/bin/python
"""


class Tree:
    """A checkout with a compiler that is told what to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        for name in ("gateway", "deploy/compiled", ".tools", ".venv"):
            (folder / name).mkdir(parents=True)
        shutil.copy(ROOT / "gateway/compiled.py", folder / "gateway")
        shutil.copy(ROOT / "deploy/compiled/checkout.py", folder / "deploy/compiled")
        for name in ("pyproject.toml", "uv.lock", "gateway/door.py"):
            (folder / name).write_text("")
        (folder / "bootstrap.sh").write_text(BOOTSTRAP)
        (folder / "bootstrap.sh").chmod(0o755)
        self.lacks(None)
        self.compiler("")

    def lacks(self, what: str | None) -> None:
        (self.folder / "deploy/compiled/compile.py").write_text(COMPILE.format(missing=what))

    def compiler(self, body: str) -> None:
        path = self.folder / "compiler"
        path.write_text(COMPILER.format(log=self.log, body=body, suffix=SUFFIX))
        path.chmod(0o755)

    def start(self, mode: str = "auto", *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "deploy/compiled/checkout.py", *words],
            cwd=self.folder,
            env=os.environ | {SWITCH: mode},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Whoever runs the suite in the background of a shell has it ignored, and hands that on.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, mode: str = "auto", *words: str) -> tuple[int, str]:
        process = self.start(mode, *words)
        _, told = process.communicate(timeout=60)
        return process.returncode, told

    @property
    def began(self) -> list[int]:
        return [int(line) for line in self.log.read_text().split()] if self.log.exists() else []

    @property
    def named(self) -> list[str]:
        """The folders that a start looks at."""
        folder = self.folder / FOLDER
        return (
            [one.name for one in folder.iterdir() if one.name[0] != "."] if folder.exists() else []
        )

    def is_whole(self) -> bool:
        made = self.folder / FOLDER / stamp(str(self.folder))
        return (made / LIST).exists() and (made / f"gateway/door{SUFFIX}").read_text() == "code\n"


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path / "tree")
    yield tree
    (tree.folder / ".tools").chmod(0o755)


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gate(tree: Tree) -> Path:
    """The compiler waits until this file is there."""
    path = tree.folder / "go"
    tree.compiler(f'while [ ! -e "{path}" ]; do sleep 0.02; done')
    return path


def test_a_first_start_does_not_wait_and_says_one_line(tree: Tree) -> None:
    go = gate(tree)
    code, told = tree.run()
    assert (code, told.count("\n")) == (0, 1)
    assert tree.named == []
    go.touch()
    until(lambda: tree.named)
    assert tree.is_whole()
    assert tree.run() == (0, "")
    assert len(tree.began) == 1


def test_what_is_edited_while_it_is_compiled_is_not_what_was_compiled(tree: Tree) -> None:
    go = gate(tree)
    before = stamp(str(tree.folder))
    tree.run()
    until(lambda: tree.began)
    (tree.folder / "gateway/door.py").write_text("OPEN = 1\n")
    go.touch()
    until(lambda: tree.named)
    assert tree.named == [before]
    assert stamp(str(tree.folder)) != before


def test_one_that_is_killed_leaves_nothing_that_a_start_looks_at(tree: Tree) -> None:
    gate(tree)
    process = tree.start("always")
    until(lambda: tree.began)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    assert tree.named == []
    assert list((tree.folder / FOLDER).glob(".making-*"))
    tree.compiler("")
    assert tree.run("always") == (0, "")
    assert tree.is_whole()
    assert list((tree.folder / FOLDER).glob(".making-*")) == []


def test_ctrl_c_ends_what_was_begun_beside(tree: Tree) -> None:
    gate(tree)
    process = tree.start()
    process.wait(30)
    until(lambda: tree.began)
    os.killpg(process.pid, signal.SIGINT)
    until(lambda: not list((tree.folder / FOLDER).glob(".making-*")))
    assert tree.named == []


def test_of_several_starts_at_once_one_compiles(tree: Tree) -> None:
    go = gate(tree)
    tree.run()
    until(lambda: tree.began)
    tree.run()
    waiting = tree.start("always")
    go.touch()
    assert waiting.wait(60) == 0
    assert tree.is_whole()
    assert len(tree.began) == 1


@pytest.mark.parametrize("lacks", ["there is no C compiler (cc)", "there are no headers"])
def test_where_it_cannot_be_compiled_auto_says_nothing_and_always_why(
    tree: Tree, lacks: str
) -> None:
    tree.lacks(lacks)
    assert tree.run() == (0, "")
    code, told = tree.run("always")
    assert code == 1
    assert lacks in told
    assert tree.named == []


def test_what_could_not_be_compiled_is_not_tried_at_each_start(tree: Tree) -> None:
    tree.compiler("echo 'no such type' >&2; exit 4")
    tree.run()
    until(lambda: list((tree.folder / FOLDER).glob(".failed-*")))
    assert tree.run() == (0, "")
    code, told = tree.run("always")
    assert (code, "no such type" in told) == (1, True)
    assert tree.named == []
    (tree.folder / "gateway/door.py").write_text("OPEN = 1\n")
    tree.compiler("")
    assert "meanwhile" in tree.run()[1]
    until(lambda: tree.named)


def test_a_compiler_that_ends_in_the_midst_is_no_reason_to_give_up(tree: Tree) -> None:
    tree.compiler("kill -9 $$")
    assert tree.run("always")[0] == 1
    assert tree.named == []
    tree.compiler("")
    assert tree.run("always") == (0, "")
    assert tree.is_whole()


def test_where_nothing_can_be_written_auto_goes_on_and_always_says_so(tree: Tree) -> None:
    # A file where the folder would be: so it is for root, too.
    (tree.folder / FOLDER).write_text("")
    assert tree.run()[0] == 0
    code, told = tree.run("always")
    assert code == 1
    assert "cannot be compiled" in told


def test_never_compiles_nothing(tree: Tree) -> None:
    assert tree.run("never") == (0, "")
    assert tree.began == []


def test_whoever_edits_gets_nothing_compiled_without_asking(tree: Tree) -> None:
    (tree.folder / ".venv/.built").write_text("1 2 3 dev")
    assert tree.run() == (0, "")
    assert tree.began == []
    assert tree.run("never", "compile") == (0, "")
    assert tree.is_whole()


def test_another_word_is_an_error(tree: Tree) -> None:
    code, told = tree.run("sometimes")
    assert (code, "auto, always, never" in told) == (1, True)


def test_older_ones_go_but_for_the_last_three(tree: Tree) -> None:
    for number in range(6):
        (tree.folder / "gateway/door.py").write_text(f"OPEN = {number}\n")
        assert tree.run("always") == (0, "")
    assert len(tree.named) == 4
    assert tree.is_whole()
