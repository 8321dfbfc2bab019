"""Patches of a configuration: what `git apply` takes, and never dear."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.edge.console.patches import patch_of
from tests.cpu_cost import cost_ratio


def test_a_patch_is_what_git_applies() -> None:
    patch = patch_of({"routes.yaml": "a\nb"}, {"routes.yaml": "a\nc\n", "policies/n.yaml": "x\n"})
    assert patch == (
        "--- a/routes.yaml\n+++ b/routes.yaml\n@@ -1,2 +1,2 @@\n a\n-b\n"
        "\\ No newline at end of file\n+c\n"
        "--- /dev/null\n+++ b/policies/n.yaml\n@@ -0,0 +1 @@\n+x\n"
    )


def test_what_was_not_changed_is_no_patch() -> None:
    assert patch_of({"a": "x\n"}, {"a": "x\n"}) == ""


def test_changes_that_lie_apart_are_told_apart() -> None:
    old = [f"{number}\n" for number in range(100)]
    new = [*old[:10], "here\n", *old[10:50], *old[51:90], "there\n", *old[90:]]
    patch = patch_of({"a": "".join(old)}, {"a": "".join(new)})
    assert re.findall(r"@@ .* @@", patch) == [
        "@@ -8,6 +8,7 @@", "@@ -48,7 +49,6 @@", "@@ -88,6 +88,7 @@"
    ]  # fmt: skip
    assert re.findall(r"^[-+]\w.*", patch, re.M) == ["+here", "-50", "+there"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\nb\nc\n", "c\nb\na\n"),
        ("a\na\na\n", "a\nb\na\na\nb"),
        ("", "a"),
        ("a", "b"),
        ("a\x85b\x0cc\u2028d\n", "a\x85b\x0cc\u2028e\n"),
        ("".join(f"{n}\n" for n in range(30)), "".join(f"{n}\n" for n in range(29, -1, -1))),
    ],
)
def test_git_makes_the_new_file_of_it(tmp_path: Path, before: str, after: str) -> None:
    (tmp_path / "a").write_text(before, "utf-8")
    patch = patch_of({"a": before}, {"a": after})
    subprocess.run(
        ["git", "apply", "--unidiff-zero", "-"], cwd=tmp_path, input=patch.encode(), check=True
    )
    assert (tmp_path / "a").read_text("utf-8") == after


lines = st.lists(st.sampled_from("abcdef"), max_size=30)


@settings(deadline=None, max_examples=300)
@given(lines, lines, st.booleans(), st.booleans())
def test_the_new_text_comes_of_the_old_one_and_its_patch(
    before: list[str], after: list[str], ends: bool, ended: bool
) -> None:
    old = "\n".join(before) + ("\n" if ends and before else "")
    new = "\n".join(after) + ("\n" if ended and after else "")
    assert applied(old, patch_of({"a": old}, {"a": new})) == new


def applied(old: str, patch: str) -> str:
    """As `patch` does it, with what it asks of each hunk."""
    lines, made, at = re.findall(r"[^\n]*\n|[^\n]+", old), list[str](), 0
    for hunk in re.split(r"^(?=@@ )", patch, flags=re.M)[1:]:
        heading, *body = re.findall(r"[^\n]*\n", hunk)
        for number in [n for n, line in enumerate(body) if line[0] == "\\"]:
            body[number - 1] = body[number - 1][:-1]
        match = re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@\n", heading)
        assert match is not None
        begin, length = int(match[1]), int(match[2] or 1)
        begin = begin - 1 if length else begin
        made += lines[at:begin]
        taken = [line[1:] for line in body if line[:1] in " -"]
        assert taken == lines[begin : begin + length]
        put = [line[1:] for line in body if line[:1] in " +"]
        assert len(put) == int(match[4] or 1)
        made += put
        at = begin + length
    return "".join([*made, *lines[at:]])


def test_lines_that_come_again_and_again_cost_no_minutes() -> None:
    """An operator who may only look would stop a worker so, which then serves nobody."""
    old = [f"  - id: r{number}\n" for number in range(2_000)]
    new = old[::-1] * 50
    before, after = {"routes.yaml": "".join(old)}, {"routes.yaml": "".join(new)}
    assert cost_ratio(lambda: patch_of(before, after), rounds=3) < 1_500
