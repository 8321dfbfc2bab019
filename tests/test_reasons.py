"""The page of reasons tells of every answer that there is, with its status."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.edge.replies.problems import PROBLEMS
from gateway.model import Reason

PAGE = (Path(__file__).parents[1] / "docs" / "reasons.md").read_text("utf-8")


def rows() -> dict[str, tuple[int, str]]:
    """Reason -> its status and its cause."""
    found = re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \| ([^|]+) \|", PAGE, re.M)
    assert len({name for name, _, _ in found}) == len(found)
    return {name: (int(status), cause) for name, status, cause in found}


def test_every_refusal_has_a_row_with_its_status_and_cause() -> None:
    told = {name: status for name, (status, _) in rows().items()}
    refused = {str(reason): row.status for reason, row in PROBLEMS.items()}
    assert told == refused
    assert all(len(cause) > 10 for _, cause in rows().values())


def test_every_reason_is_on_the_page() -> None:
    assert [str(reason) for reason in Reason if f"`{reason}`" not in PAGE] == []


def test_a_reason_that_is_told_of_is_one() -> None:
    assert set(rows()) <= {str(reason) for reason in Reason}
