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
