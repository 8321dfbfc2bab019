"""What CI runs: every test, the quick ones on both builds, and no part with a test that was skipped."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LONGEST, SLOW

ROOT = Path(__file__).parents[1]
REPORT = '<testsuites><testsuite tests="{tests}" failures="0" errors="0" skipped="{skipped}" time="{time}">{cases}</testsuite></testsuites>'
SKIPPED = '<testcase classname="a" name="b"><skipped message="no nginx"/></testcase>'


def reports(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / ".ci/reports", *words]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """The first is good; in the second a test was skipped."""
    paths = [tmp_path / "quick.xml", tmp_path / "slow.xml"]
    paths[0].write_text(REPORT.format(tests=9, skipped=0, time="1.25", cases=""))
    paths[1].write_text(REPORT.format(tests=4, skipped=1, time="2.5", cases=SKIPPED))
    return paths


def test_what_the_one_target_leaves_out_the_other_runs_and_ci_runs_both() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    chosen = dict(
        re.findall(r'^(test[a-z-]*):.*\n\t@\$\(PYTEST\) -m "?([a-z ]+?)"? \$', makefile, re.M)
    )
    assert chosen == {"test": "not slow", "test-slow": "slow"}
    ci = (ROOT / ".ci/run").read_text("utf-8")
    made = re.findall(r"^.*\bmake (test(?:-slow)?(?: COMPILED=1)?) ", ci, re.M)
    assert made == ["test", "test COMPILED=1", "test-slow COMPILED=1"]


def test_the_quick_target_leaves_unread_the_files_that_are_slow_and_no_other() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text("utf-8")
        made = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
        marks = [ast.unparse(n.value) for n in made if ast.unparse(n.targets[0]) == "pytestmark"]
        slow = any("pytest.mark.slow" in mark for mark in marks)
        assert (SLOW.search(text) is not None) == slow, path
        if "pytestmark" in text and "mark.slow" in text and path != Path(__file__):
            assert slow, f"{path} says it where pytest does not read it"


def test_the_longest_files_are_there_and_slow() -> None:
    for name in LONGEST:
        assert SLOW.search((ROOT / name).read_text("utf-8")), name


def test_a_test_that_was_skipped_is_named_and_fails(two: list[Path]) -> None:
    assert reports("skipped", two[0]).returncode == 0
    done = reports("skipped", two[1])
    assert done.returncode == 1
    assert "skipped: a::b: no nginx" in done.stdout


def test_the_last_line_sums_up_both_parts(two: list[Path]) -> None:
    assert reports("sum", *two).stdout == "===== 12 passed, 0 failed, 1 skipped in 3.75s =====\n"
