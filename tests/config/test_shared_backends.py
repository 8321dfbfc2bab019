"""`gateway validate` warns of rewrites that lead around a policy."""

from __future__ import annotations

import pytest

from tests.access.worlds import snapshot

POLICY = 'policy: p\nrules: [{id: r, allow: ["*"], when: "user != null"}]'


def notices(first: str, second: str) -> list[str]:
    read = snapshot(
        f"""
        - {{id: admin, match: {{{first}}}, policy: p, upstream: api}}
        - {{id: open, match: {{{second}}}, auth: public, upstream: api}}
        """,
        POLICY,
    )
    return [str(one) for one in read.notices if "asks no policy" in str(one)]


def test_a_public_rewrite_that_reaches_a_protected_one_is_told() -> None:
    (notice,) = notices(
        'path: "/v1/admin/{x}"}, rewrite: {strip_prefix: /v1',
        'path: "/public/{rest:path}"}, rewrite: {strip_prefix: /public',
    )
    assert notice.startswith("routes.yaml:13:")
    assert "`open`" in notice
    assert "`admin` (routes.yaml:12)" in notice


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # Their own corners of the backend.
        (
            'path: "/v1/admin/{x}"}, rewrite: {strip_prefix: /v1',
            'path: "/public/{rest:path}"}, rewrite: {strip_prefix: /public, add_prefix: /files',
        ),
        # Another length, another literal, a type that no name is of.
        (
            'path: "/v1/admin/{x}"}, rewrite: {strip_prefix: /v1',
            'path: "/public/{y}"}, rewrite: {strip_prefix: /public',
        ),
        (
            'path: "/v1/{x:int}"}, rewrite: {strip_prefix: /v1',
            'path: "/public/{y:uuid}"}, rewrite: {strip_prefix: /public',
        ),
        # Other methods.
        (
            'path: "/v1/{x}", methods: [POST]}, rewrite: {strip_prefix: /v1',
            'path: "/public/{y}", methods: [GET]}, rewrite: {strip_prefix: /public',
        ),
        # What is not rewritten is refused when it is called.
        ('path: "/admin/{x}"', 'path: "/public/{rest:path}"}, rewrite: {strip_prefix: /public'),
    ],
)
def test_what_never_meets_is_not_told(first: str, second: str) -> None:
    assert notices(first, second) == []


def test_a_template_is_what_is_sent() -> None:
    assert notices(
        'path: "/v1/{x}"}, rewrite: {path: "/admin/{x}"',
        'path: "/p/{y}"}, rewrite: {path: "/admin/{y}"',
    )


POLICIES = (
    'policy: p\nrules: [{id: r, allow: ["*"], when: "has_role(\'staff\')"}]',
    'policy: all\nrules: [{id: r, allow: ["*"]}]',
    'policy: most\nrules: [{id: r, allow: ["*"], when: "size(user.roles) >= 0"},'
    ' {id: d, deny: ["*"], when: "has_role(\'banned\')"}]',
)
TARGETS = """
version: 1
upstreams:
  api: {targets: ["http://127.0.0.1:9001"]}
  again: {targets: ["http://localhost:9001"]}
  other: {targets: ["http://127.0.0.1:9002"]}
  site: {targets: ["http://127.0.0.1:9001"], host: site.internal}
  elsewhere: {targets: ["http://127.0.0.1:9001"], host: elsewhere.internal}
routes:
"""
MANAGED = "match: {path: '/v1/admin/{x}'}, rewrite: {strip_prefix: /v1}"
PUBLIC = "match: {path: '/public/{rest:path}'}, rewrite: {strip_prefix: /public}"


def told(first: str, second: str) -> list[str]:
    routes = f"  - {{id: admin, {first}}}\n  - {{id: open, {second}}}\n"
    found = snapshot(TARGETS + routes, *POLICIES).notices
    return [str(one) for one in found if "tell them apart" in str(one)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # A policy that asks nothing is told as none is, as are other names of this machine.
        ("policy: p, upstream: api", "policy: all, upstream: api"),
        ("policy: p, upstream: api", "policy: all, auth: optional, upstream: api"),
        ("policy: p, upstream: api", "policy: most, upstream: api"),
        ("policy: most, upstream: api", "policy: all, upstream: api"),
        ("policy: p, upstream: api", "policy: signed-in, upstream: api"),
        ("policy: p, upstream: api", "auth: public, upstream: again"),
        ("policy: signed-in, upstream: api", "policy: all, auth: optional, upstream: api"),
        ("policy: p, upstream: site", "auth: public, upstream: api"),
    ],
)
def test_what_asks_too_little_is_told_of_one_backend(first: str, second: str) -> None:
    (notice,) = told(f"{first}, {MANAGED}", f"{second}, {PUBLIC}")
    assert "route `open` asks" in notice


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("policy: p, upstream: api", "policy: p, upstream: api"),
        ("policy: most, upstream: api", "policy: most, upstream: api"),
        ("policy: all, upstream: api", "policy: signed-in, upstream: api"),
        ("policy: all, auth: optional, upstream: api", "auth: public, upstream: api"),
        ("policy: p, upstream: api", "auth: public, upstream: other"),
        ("policy: p, upstream: site", "auth: public, upstream: elsewhere"),
    ],
)
def test_what_asks_as_much_or_is_another_site_is_not_told(first: str, second: str) -> None:
    assert told(f"{first}, {MANAGED}", f"{second}, {PUBLIC}") == []
