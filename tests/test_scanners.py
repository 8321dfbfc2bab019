"""The scanners' driver: what counts as a failure of `make audit`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scanners.outcome import VERDICTS, Finding, Outcome, failed, judged, table
from scanners.tools import FULL, SCANNERS, DidNotRun, Target

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "docs" / "security" / "penetration-test.md").read_text("utf-8")


def test_a_scanner_that_did_not_run_is_a_failure() -> None:
    absent = Outcome("nikto", absent="apt-get install nikto")
    assert failed([Outcome("ffuf"), absent])
    assert "NO" in table([absent])
    assert "apt-get install nikto" in table([absent])


def test_a_finding_that_nobody_judged_is_a_failure() -> None:
    assert failed([judged(Outcome("wapiti", [Finding("level 3", "SQL Injection: GET /a")]))])


def test_a_finding_with_a_verdict_is_none() -> None:
    outcome = judged(Outcome("nikto", [Finding("item", "Server: authgate")]))
    assert not failed([outcome])
    assert "judged: [item] Server: authgate" in table([outcome])


def test_a_verdict_speaks_of_one_scanner_alone() -> None:
    assert failed([judged(Outcome("wapiti", [Finding("item", "Server: authgate")]))])


def test_a_program_that_is_not_there_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    target = Target("http://127.0.0.1:1", tmp_path / "api.yaml", "", ("", ""), tmp_path)
    for name in ("nikto", "sqlmap", "slowhttptest", "ffuf"):
        with pytest.raises(DidNotRun, match=f"apt-get install {name}"):
            SCANNERS[name](target, FULL)


def test_the_page_has_a_section_for_every_scanner() -> None:
    for name in SCANNERS:
        assert re.search(rf"^\| {name} \|", PAGE, re.M), name


def test_every_verdict_is_of_a_scanner_that_there_is() -> None:
    assert {verdict.scanner for verdict in VERDICTS} <= set(SCANNERS)
