"""`console:` in `routes.yaml`, and what its policy gives to whom."""

from __future__ import annotations

import pytest

from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot

POLICY = """\
version: 1
policy: ops
roles:
  support: [admin:read]
rules:
  - {id: by-role, allow: role-permissions}
"""
SHADOW = POLICY.replace("policy: ops", "policy: trial\nmode: shadow")


def compiled(block: str) -> Snapshot | list[str]:
    policies = (("policies/ops.yaml", POLICY), ("policies/trial.yaml", SHADOW))
    found = compile_snapshot(
        Sources(("routes.yaml", f"version: 1\n{block}\nroutes: []\n"), policies)
    )
    return found if isinstance(found, Snapshot) else [str(problem) for problem in found]


def test_a_named_policy_judges_the_console() -> None:
    snapshot = compiled("console: {policy: ops}")
    assert isinstance(snapshot, Snapshot), snapshot
    assert snapshot.console_policy is snapshot.policies["ops"]


def test_without_the_block_there_is_none() -> None:
    snapshot = compiled("")
    assert isinstance(snapshot, Snapshot), snapshot
    assert snapshot.console_policy is None


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("console: {}", "routes.yaml:2:10: `console` needs `policy:`"),
        ("console: {policy: opps}", "unknown policy `opps`; did you mean `ops`?"),
        ("console: {policy: signed-in}", "would let everybody with an account in"),
        ("console: {policy: trial}", "is in shadow, which lets every signed-in caller in"),
        ("console: {polcy: ops}", "unknown key `polcy`"),
    ],
)
def test_what_would_guard_nothing_is_refused(block: str, problem: str) -> None:
    found = compiled(block)
    assert isinstance(found, list), found
    assert any(problem in one for one in found), found
