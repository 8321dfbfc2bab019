"""What judges who may see the operator's console, where the configuration names no policy."""

from __future__ import annotations

import pytest

from gateway.access.console import ConsolePermission, admin_policy
from gateway.access.evaluation import action_verdict
from gateway.access.policies import Verdict
from gateway.model import Reason
from tests.access.decision_world import call_of
from tests.access.worlds import NOW, snapshot, who


@pytest.mark.parametrize(
    ("roles", "action", "allowed"),
    [
        (["admin"], "admin:read", True),
        (["admin"], "admin:write", True),
        (["user", "admin"], "admin:write", True),
        (["admin"], "orders:read", False),
        (["Admin"], "admin:read", False),
        (["user"], "admin:read", False),
        ([], "admin:read", False),
    ],
)
def test_the_role_admin_may_see_it_and_act_there(
    roles: list[str], action: str, allowed: bool
) -> None:
    ann = who("ann", *roles)
    policy = admin_policy()
    verdict = action_verdict(policy, action, call_of("GET /admin", ann), ann, lambda: NOW)
    assert isinstance(verdict, Verdict)
    assert (policy.name, verdict.allowed) == ("console", allowed)
    assert (verdict.rule.id if verdict.rule else None) == ("role-admin" if allowed else None)


def test_what_an_admin_may_do_is_told_by_two_permissions() -> None:
    assert [str(one) for one in ConsolePermission] == ["admin:read", "admin:write"]


READING = snapshot(
    "[]",
    """
    policy: reading
    roles: {support: [admin:read]}
    rules:
      - {id: asked, allow: ["admin:read"], when: request.query.why == 'ticket'}
      - {id: from, allow: ["admin:read"], when: "request.headers['x-desk'] == 'one'"}
      - {id: late, allow: ["admin:late"], when: now > timestamp('2027-01-15T08:00:00Z')}
      - {id: page, allow: ["admin:page"], when: request.path == '/admin/logs'}
      - {id: desk, allow: ["admin:desk"], when: user.id in data.teams.desk}
      - {id: role, allow: role-permissions}
    """,
    data__teams="version: 1\nteams: {desk: [ann]}\n",
).policies["reading"]


@pytest.mark.parametrize(
    ("target", "headers", "rule"),
    [
        ("/admin?why=ticket", [], "asked"),
        ("/admin", [("X-Desk", "one")], "from"),
        ("/admin", [("X-Desk", "two")], None),
        ("/admin?why=none", [], None),
    ],
)
def test_a_policy_reads_the_query_and_the_headers_of_a_call_that_no_route_takes(
    target: str, headers: list[tuple[str, str]], rule: str | None
) -> None:
    ann = who("ann")
    call = call_of(f"GET {target}", ann, headers=headers)
    verdict = action_verdict(READING, "admin:read", call, ann, lambda: NOW)
    assert isinstance(verdict, Verdict)
    assert (verdict.rule.id if verdict.allowed and verdict.rule else None) == rule


def test_what_could_be_read_in_two_ways_is_not_judged() -> None:
    ann = who("ann")
    twice = call_of("GET /admin?why=ticket&why=none", ann)
    assert action_verdict(READING, "admin:read", twice, ann, lambda: NOW) == Reason.AMBIGUOUS_QUERY
    alike = call_of("GET /admin", ann, headers=[("X_Desk", "one")])
    assert action_verdict(READING, "admin:read", alike, ann, lambda: NOW) == Reason.AMBIGUOUS_HEADER


def test_a_policy_is_told_who_calls_and_what_their_roles_give() -> None:
    for caller, action, allowed in (
        (who("bob", "support"), "admin:read", True),
        (who("bob", "user"), "admin:read", False),
    ):
        call = call_of("GET /admin", caller)
        verdict = action_verdict(READING, action, call, caller, lambda: NOW)
        assert isinstance(verdict, Verdict)
        assert verdict.allowed is allowed


@pytest.mark.parametrize(("later_s", "allowed"), [(0, False), (1, True)])
def test_a_policy_is_told_the_time(later_s: float, allowed: bool) -> None:
    ann = who("ann")
    call = call_of("GET /admin", ann)
    verdict = action_verdict(READING, "admin:late", call, ann, lambda: NOW + later_s)
    assert isinstance(verdict, Verdict)
    assert verdict.allowed is allowed


@pytest.mark.parametrize(
    ("subject", "path", "action", "allowed"),
    [
        ("ann", "/admin/logs", "admin:page", True),
        ("ann", "/admin", "admin:page", False),
        ("ann", "/admin", "admin:desk", True),
        ("bob", "/admin", "admin:desk", False),
    ],
)
def test_a_policy_is_told_of_the_call_and_of_its_tables(
    subject: str, path: str, action: str, allowed: bool
) -> None:
    caller = who(subject)
    call = call_of(f"GET {path}", caller)
    verdict = action_verdict(READING, action, call, caller, lambda: NOW)
    assert isinstance(verdict, Verdict)
    assert verdict.allowed is allowed
