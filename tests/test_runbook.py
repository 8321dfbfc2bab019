"""The page that an alert leads to is there, says what to do, and names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.prometheus import rules
from tests.log_events import logged

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "operations" / "runbook.md"
AT = "https://github.com/authgate/authgate/blob/main/docs/operations/runbook.md#"
PARTS = ("What it means.", "What callers see.", "Find the cause.", "What to do.")
SECTIONS = dict(
    re.findall(r"(?ms)^## (\w+)\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"))
)  # fmt: skip
ALERTS = [rule["alert"] for rule in rules()]


@pytest.mark.parametrize("rule", rules(), ids=ALERTS)
def test_an_alert_says_what_it_is_and_leads_to_its_section(rule: dict[str, object]) -> None:
    told = rule["annotations"]
    assert isinstance(told, dict)
    assert set(told) == {"summary", "action", "runbook_url"}
    assert told["runbook_url"] == AT + str(rule["alert"]).lower()
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})


def test_the_page_has_a_section_for_each_alert_and_no_other() -> None:
    assert list(SECTIONS) == ALERTS


@pytest.mark.parametrize("alert", ALERTS)
def test_a_section_has_all_its_parts_and_lines_to_copy(alert: str) -> None:
    text = SECTIONS.get(alert, "")
    at = [text.find(f"**{part}**") for part in PARTS]
    assert at == sorted(at)
    assert at[0] >= 0
    cause, do = text[at[2] : at[3]], text[at[3] :]
    assert "```sh\n" in cause
    assert "```sh\n" in do


def test_each_command_of_the_page_is_one_of_ours() -> None:
    commands = set(re.findall(r"(?m)^## gateway (.+)$", (DOCS / "commands.md").read_text("utf-8")))
    named = re.findall(r"(?m)^gateway ([a-z ]+?)(?: -.*)?$", PAGE.read_text("utf-8"))
    assert len(named) > 20
    assert sorted({name for name in named if name not in commands | {"doctor"}}) == []


def test_each_event_of_the_log_that_the_page_looks_for_is_one() -> None:
    looked_for = re.findall(r"-o cat \| grep (?:-E )?'?([^'\n]+)'?$", PAGE.read_text("utf-8"), re.M)
    assert looked_for
    names = list(logged())
    for pattern in looked_for:
        for part in re.split(r"\|(?![^(]*\))", pattern):
            for one in spelled_out(part.strip('"')):
                assert any(re.search(one, name) for name in names), one


def spelled_out(pattern: str) -> list[str]:
    """`worker-(died|hung)` as `worker-died` and `worker-hung`: neither may be looked for in vain."""
    found = re.search(r"\(([^()]*)\)", pattern)
    if found is None:
        return [pattern]
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [one for word in found[1].split("|") for one in spelled_out(before + word + after)]
