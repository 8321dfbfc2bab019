"""The example worlds do what their tests say, and their tests would notice if they did not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli import main

ROOT = Path(__file__).parent.parent
WORLDS = [
    ROOT,
    *sorted(path.parent.parent for path in (ROOT / "examples").glob("*/policies/tests")),
]


@pytest.mark.parametrize("folder", WORLDS, ids=lambda path: path.name)
def test_every_rule_and_route_is_tested_and_no_mutant_survives(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    code = main(["test", "--coverage", "--mutate", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == 0, found
    assert (found["coverage"]["rules_percent"], found["coverage"]["routes_percent"]) == (100, 100)
    assert found["mutants"]["tried"] > 5
    assert found["mutants"]["survived"] == []


@pytest.mark.parametrize("folder", WORLDS, ids=lambda path: path.name)
def test_nothing_is_noted_about_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(["validate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notices"] == []
