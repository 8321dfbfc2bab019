"""`issuers` of a route: whom it takes, and what is noted as hardly meant."""

from __future__ import annotations

from textwrap import dedent

import pytest

from gateway.access.secret_text import SecretText
from gateway.access.snapshot import Snapshot
from gateway.config.secrets import SecretFiles
from gateway.model import CredentialKind
from tests.config.issuer_texts import compiled, problems


def routes(text: str) -> str:
    return (
        "issuers:\n"
        "  idp: {issuer: https://i.example, audience: a}\n"
        "  other: {issuer: https://o.example, audience: a}\n"
        'upstreams: {api: {targets: ["http://127.0.0.1:1"]}}\n' + dedent(text)
    )


def test_a_route_takes_our_own_tokens_unless_it_says_otherwise() -> None:
    found = compiled(
        routes(
            """
            defaults: {policy: signed-in, upstream: api, issuers: [own, idp]}
            routes:
              - {id: a, match: {path: /a}}
              - {id: b, match: {path: /b}, issuers: other}
              - {id: c, match: {path: /c}, issuers: own}
            """
        )
    )
    assert isinstance(found, Snapshot), found
    assert {one.id: one.issuers for one in found.routes} == {
        "a": {"own", "idp"}, "b": {"other"}, "c": {"own"},
    }  # fmt: skip


def test_without_own_tokens_alone_count() -> None:
    found = compiled(
        routes(
            """
            defaults: {policy: signed-in, upstream: api, accept: [bearer, basic]}
            routes:
              - {id: a, match: {path: /a}, issuers: [idp]}
              - {id: b, match: {path: /b}, issuers: [own, idp]}
            """
        )
    )
    assert isinstance(found, Snapshot), found
    assert {one.id: one.accept for one in found.routes} == {
        "a": {CredentialKind.BEARER}, "b": {CredentialKind.BEARER, CredentialKind.BASIC},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("issuers: [idpp]", "unknown issuer `idpp`; did you mean `idp`?"),
        ("issuers: []", "`issuers` is empty"),
        ("issuers: [idp], accept: [bearer, cookie]", "`cookie` is a credential of our own"),
        ("issuers: [idp], accept: basic", "come as `bearer`, which `accept` does not hold"),
        ("issuers: [idp], challenge: basic", "`challenge: basic` has clients send"),
    ],
)
def test_a_mistake_of_a_route_is_told(keys: str, said: str) -> None:
    route = f"routes: [{{id: a, match: {{path: /a}}, policy: signed-in, upstream: api, {keys}}}]\n"
    found = problems(routes(route))
    assert any(said in one for one in found), found


def test_a_public_route_asks_nobody_whose_token_it_is() -> None:
    route = "routes: [{id: a, match: {path: /a}, auth: public, upstream: api, issuers: [idp]}]\n"
    assert problems(routes(route)) == [
        "routes.yaml:6:66: `auth: public` judges nobody: leave `issuers` out, or say "
        "`auth: optional`"
    ]


# What is hardly meant


def notices(text: str) -> list[str]:
    found = compiled(text)
    assert isinstance(found, Snapshot), found
    return [str(one) for one in found.notices]


def test_an_issuer_that_no_route_takes_is_noted() -> None:
    text = """
        defaults: {issuers: [own, other]}
        routes:
          - {id: a, match: {path: /a}, policy: signed-in, upstream: api, issuers: [own]}
          - {id: b, match: {path: /b}, auth: public, upstream: api}
          - {id: c, match: {path: /c}, policy: signed-in, upstream: api, issuers: [idp]}
        """
    assert notices(routes(text)) == [
        "routes.yaml:4:3: no route takes the tokens of issuer `other`: add "
        "`issuers: [own, other]` to a route or to `defaults`"
    ]


ASKED = """
issuers:
  a: {{issuer: "https://a.example", audience: api, introspection: {asked}}}
  b: {{issuer: "https://b.example", audience: api, introspection: {asked}}}
  c: {{issuer: "https://c.example", audience: api}}
upstreams: {{api: {{targets: ["http://127.0.0.1:1"]}}}}
defaults: {{policy: signed-in, upstream: api}}
routes:
  - {{id: x, match: {{path: /x}}, issuers: {issuers}}}
  - {{id: y, match: {{path: /y}}, issuers: [own, a, b, c]}}
"""


def test_a_route_on_which_no_opaque_token_can_be_told_is_noted() -> None:
    asked = "{client_id: gate, client_secret: {secret: s}}"
    secrets = SecretFiles(variables={"GATEWAY_SECRET_S": SecretText("s")})

    def told(issuers: str) -> list[str]:
        found = compiled(ASKED.format(asked=asked, issuers=issuers), secrets=secrets)
        assert isinstance(found, Snapshot), found
        return [str(one) for one in found.notices]

    assert told("[b, a]") == [
        "routes.yaml:10:5: route `x` (and 1 more) takes several issuers that are asked about tokens "
        "(`a`, `b`): an opaque token could be of any of them, so none is shown it, and it is refused"
    ]
    assert len(told("[a, c]")) == 1  # that of y


@pytest.mark.parametrize("switch", ["backchannel_logout", "events"])
@pytest.mark.parametrize(("subject", "noted"), [("sub", 0), ("claims.sub", 0), ("oid", 1)])
def test_ends_that_are_told_by_another_name_than_tokens_have_are_noted(
    switch: str, subject: str, noted: int
) -> None:
    text = f"""\
issuers:
  a: {{issuer: "https://a.example", audience: api, subject: {subject}, {switch}: true}}
upstreams: {{api: {{targets: ["http://127.0.0.1:1"]}}}}
routes: [{{id: x, match: {{path: /x}}, issuers: [a], policy: signed-in, upstream: api}}]
"""
    told = notices(text)
    assert len(told) == noted
    assert all("`a` knows its users by `claims.oid`" in one for one in told)


RESOURCES = """
    defaults: {{policy: signed-in, upstream: api, issuers: {issuers}, accept: {accept}}}
    routes:
      - {{id: a, match: {{path: /a}}, resource_server: {{{keys}}}}}
      - {{id: b, match: {{path: /b}}, resource_server: {{}}}}
    """


def test_a_resource_that_takes_our_own_tokens_is_noted_once() -> None:
    text = RESOURCES.format(issuers="[own, idp, other]", accept="[bearer, cookie]", keys="")
    assert notices(routes(text)) == [
        "routes.yaml:9:5: route `a` (and 1 more) is a resource and takes `own`: our tokens name "
        "GATEWAY_AUDIENCE and not the resource, so they are refused there, and only cookies and "
        "keys of ours count"
    ]


def test_an_authorization_server_whose_tokens_are_refused_is_noted() -> None:
    keys = 'authorization_servers: ["https://as.example", "https://i.example"]'
    text = RESOURCES.format(issuers="[idp, other]", accept="[bearer]", keys=keys)
    assert notices(routes(text)) == [
        "routes.yaml:9:5: route `a` sends clients to `https://as.example`, which is the `issuer` of "
        "none that it takes: the tokens they get there are refused"
    ]
