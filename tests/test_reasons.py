"""The pages of reasons tell of every answer that there is, and are those that `make docs` writes."""

from __future__ import annotations

import re

from docs import build
from gateway.edge.replies.problems import PROBLEMS
from gateway.model import Reason
from gateway.review.reason_guide import load_guide

INDEX = build.REASONS.read_text("utf-8")
REFUSALS = {str(reason) for reason in PROBLEMS}


def test_every_refusal_has_its_texts_and_no_other_word_has() -> None:
    assert set(load_guide()) == REFUSALS


def test_each_text_is_a_sentence() -> None:
    short = [
        (reason, text)
        for reason, told in load_guide().items()
        for text in (told.happened, told.why, told.caller, told.operator)
        if len(text) < 10 or not text.endswith((".", ")"))
    ]
    assert short == []


def test_the_pages_are_those_that_the_texts_make() -> None:
    assert build.reasons() == INDEX
    pages = {path.name: path.read_text("utf-8") for path in build.REASON_PAGES.iterdir()}
    assert pages == build.reason_pages()


def test_every_refusal_has_a_row_with_its_status_and_cause() -> None:
    rows = re.findall(r"^\| \[`([a-z_]+)`\]\(reasons/\1\.md\) \| (\d{3}) \|", INDEX, re.M)
    assert {name: int(status) for name, status in rows} == {
        str(reason): row.status for reason, row in PROBLEMS.items()
    }


def test_every_reason_is_on_the_page() -> None:
    assert [str(reason) for reason in Reason if f"`{reason}`" not in INDEX] == []
