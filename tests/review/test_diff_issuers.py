"""`gateway diff` of whose tokens count, and of resources of OAuth."""

from __future__ import annotations

import pytest

from gateway.access.snapshot import Snapshot
from gateway.review.diff import compare
from tests.access.worlds import snapshot

COMPANY = "company: {issuer: https://id.example, audience: api}"
CI = "ci: {issuer: https://ci.example, audience: api}"


def world(keys: str = "", when: str = "true") -> Snapshot:
    return snapshot(
        f"""
        version: 1
        issuers:
          {COMPANY}
          {CI}
        upstreams: {{api: {{targets: ["http://127.0.0.1:9001"]}}}}
        routes:
          - id: a
            match: {{path: "/a/{{id}}"}}
            policy: p
            action: a:read
            upstream: api
            {keys}
        """,
        f"""
        policy: p
        rules:
          - id: r
            allow: ["*"]
            when: "{when}"
        """,
    )


def changes(old: Snapshot, new: Snapshot) -> list[str]:
    report = compare(old, new)
    assert report.inexact == []
    return [str(one).partition(" any method")[0] for one in report.changes]


RESOURCE = "resource_server: {path: /a, scopes: [a:read]}"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            world(),
            world("issuers: [own, company]"),
            ["everyone signed in with a token of company GAINS"],
        ),
        (
            world("issuers: [company, ci]"),
            world("issuers: [company]"),
            ["everyone signed in with a token of ci LOSES"],
        ),
        (
            world("issuers: [company]"),
            world("issuers: [own]"),
            [
                "everyone signed in with a token of company LOSES",
                "everyone signed in with bearer or cookie or api_key GAINS",
            ],
        ),
        (
            world("issuers: [company]"),
            world("issuers: [company]\n            resource_server: {path: /a}"),
            [
                "everyone signed in with a token of company LOSES",
                "everyone signed in with a token of company for /a GAINS",
            ],
        ),
        (
            world("issuers: [company]\n            resource_server: {path: /a}"),
            world(f"issuers: [company]\n            {RESOURCE}"),
            [
                "everyone signed in with a token of company for /a or a token of company for the"
                " gateway and /a LOSES"
            ],
        ),
        (
            world("issuers: [company, ci]", "user.issuer == 'company'"),
            world("issuers: [company, ci]"),
            ["everyone signed in with a token of ci GAINS"],
        ),
        (
            world("issuers: [company]", "'a:read' in user.scopes"),
            world("issuers: [company]", "'a:write' in user.scopes"),
            [
                "everyone signed in with a token of company with the scope a:read LOSES",
                "everyone signed in with a token of company with the scope a:write GAINS",
            ],
        ),
        (
            world("issuers: [own, company]", "user.id == 'company:ann'"),
            world("issuers: [own, company]", "user.id == 'ann'"),
            [
                "everyone signed in LOSES",
                # Nobody of company is `ann`, so that this says it of nobody more.
                "everyone signed in with bearer or cookie or api_key or a token of company GAINS",
            ],
        ),
    ],
)
def test_each_edit_is_told_of_the_tokens_it_is_about(
    old: Snapshot, new: Snapshot, told: list[str]
) -> None:
    assert changes(old, new) == told
