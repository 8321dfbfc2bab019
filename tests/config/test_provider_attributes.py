"""`attributes:` of a provider: what it says of accounts."""

from __future__ import annotations

import pytest

from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.secrets import UnreadSecrets
from tests.config.provider_texts import MINIMAL, block, problems

ATTRIBUTES = """
attributes:
  department: {values: [sales, support], set_by: [provider, operator]}
  teams: {type: list, set_by: provider}
  clearance: {type: integer}
"""


def text(mapping: str) -> str:
    return block(f"{MINIMAL}\nattributes: {mapping}") + ATTRIBUTES


def test_claims_are_mapped() -> None:
    written = text("{department: claims.dept, teams: \"claims.groups.filter(g, g != 'x')\"}")
    found = compile_snapshot(Sources(("routes.yaml", written)), secrets=UnreadSecrets())
    assert isinstance(found, Snapshot), found
    read = found.providers["idp"].attributes
    assert [one.name for one, _ in read] == ["department", "teams"]
    claims = {"dept": "sales", "groups": ["a", "x"]}
    assert [claim.read(claims) for _, claim in read] == ["sales", ["a"]]


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ("{departmant: claims.d}", "has no `departmant`; did you mean `department`?"),
        ("{clearance: claims.c}", "`clearance` is not set by providers: add `provider`"),
        ("{teams: claim.groups}", "`claim` is not known here"),
        ("{teams: 1}", "is text"),
    ],
)
def test_what_cannot_be_mapped_is_told(mapping: str, problem: str) -> None:
    told = problems(text(mapping))
    assert len(told) == 1
    assert problem in told[0]
