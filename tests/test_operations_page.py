"""The page of operations tells of each metric and of each check of `gateway doctor`, and of no other."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "operations" / "index.md").read_text("utf-8")
ENDS = {
    "tally": "_total",
    "by_issuer": "_total",
    "by_provider": "_total",
    "node": "_total",
    "info": "_info",
    "gauge": "",
    "labelled_gauge": "",
    "histogram": "",
}
"""How the name of a metric ends, by what of `gateway/telemetry/metrics.py` makes it."""
OF_ROUTES = {
    "requests_total",
    "decision_duration_seconds",
    "upstream_response_header_seconds",
    "upstream_retries_total",
}
"""Made otherwise (`RouteMetrics`, and `partial` of a tally)."""


@cache
def calls() -> list[tuple[str, str]]:
    """What is called with a constant first, and that; but for lines of a log."""
    found = []
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            called, first = node.func, node.args[0]
            if not isinstance(first, ast.Constant):
                continue
            if isinstance(called, ast.Name):
                found.append((called.id, str(first.value)))
            elif isinstance(called, ast.Attribute) and ast.unparse(called.value) != "log":
                found.append((called.attr, str(first.value)))
    return found


def metrics() -> set[str]:
    """Without `authgate_`."""
    made = {f"{name}{ENDS[called]}" for called, name in calls() if called in ENDS}
    return made | OF_ROUTES


def test_the_page_tells_of_each_metric_and_of_no_other() -> None:
    assert set(re.findall(r"`authgate_([a-z_]+)", PAGE)) == metrics()


def test_the_page_tells_of_each_check_of_doctor_and_of_no_other() -> None:
    table = PAGE.partition("## What doctor looks at")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ((?:`[a-z-]+` ?)+)\|", table, re.M)
    told = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    assert told == {name for called, name in calls() if called == "Finding"}


def test_each_metric_that_the_runbook_looks_for_is_one() -> None:
    runbook = (ROOT / "docs" / "operations" / "runbook.md").read_text("utf-8")
    looked_for = re.findall(r"/metrics \| grep (?:-E )?'?(authgate_[\w()?|]+)", runbook)
    assert len(looked_for) > 4
    names = {f"authgate_{name}" for name in metrics()}
    for pattern in looked_for:
        for one in (re.sub(r"\(\w+\)\?", "", pattern), re.sub(r"\((\w+)\)\?", r"\1", pattern)):
            assert any(name.startswith(one) for name in names), one
