"""`session: {domain: …}`: which hosts share a sign-in."""

from __future__ import annotations

import pytest
from publicsuffixlist import PublicSuffixList

from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.hosts import public_suffixes

ROUTES = """\
version: 1
session: {session}
upstreams: {{a: {{targets: ["http://h:1"]}}}}
routes:
  - {{id: one, match: {{host: one.apps.example, path: /a}}, auth: public, upstream: a}}
  - {{id: top, match: {{host: apps.example, path: /a}}, auth: public, upstream: a}}
  - {{id: near, match: {{host: badapps.example, path: /a}}, auth: public, upstream: a}}
  - {{id: any, match: {{path: /a}}, auth: public, upstream: a}}
"""


def compiled(session: str) -> object:
    return compile_snapshot(Sources(("routes.yaml", ROUTES.format(session=session))))


def test_the_hosts_of_the_domain_that_routes_name_share_a_sign_in() -> None:
    snapshot = compiled("{domain: Apps.example.}")
    assert isinstance(snapshot, Snapshot)
    assert snapshot.shared_hosts == {"one.apps.example", "apps.example"}


@pytest.mark.parametrize(
    ("session", "said"),
    [
        ("{}", "2:10: `session` needs `domain`: the domain whose hosts share a sign-in"),
        ("{domain: ''}", "2:19:"),
        ("{domain: 'a b'}", "2:19: `a b` is no host: a host name without port"),
        ("{domain: example}", "2:19: names below `example` belong to strangers: write the domain"),
        ("{domain: co.uk}", "names below `co.uk` belong to strangers"),
        ("{domain: github.io}", "names below `github.io` belong to strangers"),
        ("{domain: '[::1]'}", "names below `[::1]` belong to strangers"),
        ("{domain: other.example}", "no route names a host of `other.example` in `match.host`"),
        ("{domain: apps.example, cookie: x}", "`cookie`"),
    ],
)
def test_what_shares_nothing_is_told_where_it_stands(session: str, said: str) -> None:
    problems = compiled(session)
    assert isinstance(problems, list)
    assert said in "\n".join(str(problem) for problem in problems)


def test_the_list_of_suffixes_is_parsed_once_for_all_configurations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    public_suffixes.cache_clear()
    parsed: list[PublicSuffixList] = []

    def parse() -> PublicSuffixList:
        parsed.append(PublicSuffixList())
        return parsed[-1]

    monkeypatch.setattr("gateway.config.hosts.PublicSuffixList", parse)
    routes = ROUTES.format(session="{domain: apps.example}")
    routes += (
        '  - {id: more, match: {host: "*.apps.example", path: /b}, auth: public, upstream: a}\n'
    )
    for _ in range(2):
        assert isinstance(compile_snapshot(Sources(("routes.yaml", routes))), Snapshot)
    assert len(parsed) == 1
