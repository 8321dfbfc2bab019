"""`gateway diff` of attributes and tenants."""

from __future__ import annotations

import pytest

from gateway.access.snapshot import Snapshot
from gateway.review.diff import compare
from tests.access.worlds import snapshot


def world(when: str, tenant: str = "") -> Snapshot:
    return snapshot(
        f"""
        version: 1
        attributes: {{department: {{}}, teams: {{type: list}}}}
        tenants: {{roles: [owner, member]}}
        upstreams: {{api: {{targets: ["http://127.0.0.1:9001"]}}}}
        routes:
          - id: a
            match: {{path: "/a/{{x}}/{{y}}"}}
            policy: p
            upstream: api
            {tenant}
        """,
        f"""
        policy: p
        rules:
          - {{id: r, allow: ["*"], when: "{when}"}}
        """,
    )


def changes(old: Snapshot, new: Snapshot) -> list[str]:
    return [str(one) for one in compare(old, new).changes]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("user.attributes.department == 'x'", "true", "user.attributes.department"),
        ("'red' in user.attributes.teams", "'blue' in user.attributes.teams", "teams"),
        ("'acme' in user.tenants", "true", "'acme' in user.tenants"),
        ("user.tenant == 'acme'", "user.tenant == 'globex'", "tenant"),
        ("user.tenant_role == 'owner'", "true", "tenant_role"),
    ],
)
def test_a_change_of_a_condition_is_told(old: str, new: str, told: str) -> None:
    assert changes(world(old), world(old)) == []
    lines = changes(world(old), world(new))
    assert lines
    assert any(told in line for line in lines), lines


@pytest.mark.parametrize("when", ["user.tenant == 'acme'", "user.tenant_role == 'owner'"])
def test_another_parameter_as_the_tenant_is_a_change(when: str) -> None:
    by_x, by_y, none = (world(when, t) for t in ("tenant: '{x}'", "tenant: '{y}'", ""))
    assert changes(by_x, by_x) == []
    assert changes(by_x, by_y)
    assert changes(by_x, none)
