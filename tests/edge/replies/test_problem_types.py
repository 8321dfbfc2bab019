"""The `type` of a problem leads to the page of its reason, where there is one."""

from __future__ import annotations

import json

import pytest

from gateway.edge.replies.problem_types import ProblemTypes
from gateway.edge.replies.problems import PROBLEMS, problem_parts


@pytest.mark.parametrize(
    ("url", "linked"),
    [
        (None, "urn:authgate:reason:no_rule"),
        ("https://docs.example.com/reasons", "https://docs.example.com/reasons/no_rule"),
        ("https://docs.example.com/reasons/", "https://docs.example.com/reasons/no_rule"),
        ("https://docs.example.com/{reason}.html", "https://docs.example.com/no_rule.html"),
        ("https://docs.example.com/#{reason}", "https://docs.example.com/#no_rule"),
    ],
)
def test_the_word_stands_where_it_is_wanted(url: str | None, linked: str) -> None:
    assert ProblemTypes(url).of("no_rule") == linked


def test_only_the_type_of_a_problem_changes() -> None:
    types = ProblemTypes("https://docs.example.com/{reason}")
    for reason in PROBLEMS:
        _, _, document = problem_parts(reason, None, "r1", errors=[{"field": "a", "problem": "b"}])
        before, after = json.loads(document), json.loads(types.linked(document))
        assert after.pop("type") == f"https://docs.example.com/{reason}"
        assert before.pop("type") == f"urn:authgate:reason:{reason}"
        assert after == before
    assert types.linked(b"<html>") == b"<html>"
