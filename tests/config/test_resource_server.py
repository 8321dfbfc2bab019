"""`resource_server:` of routes.yaml."""

from __future__ import annotations

from textwrap import dedent

import pytest

from gateway.access.issuers import ResourceServer
from gateway.access.resource_servers import resource_at
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.model import ConfigProblem

HEAD = """\
version: 1
issuers:
  idp: {issuer: https://i.example, audience: a}
  other: {issuer: https://o.example, audience: a}
upstreams: {api: {targets: ["http://127.0.0.1:1"]}}
"""
IDP = ("https://i.example",)


def compiled(text: str) -> Snapshot | list[ConfigProblem]:
    return compile_snapshot(Sources(("routes.yaml", HEAD + dedent(text))))


def snapshot(text: str) -> Snapshot:
    found = compiled(text)
    assert isinstance(found, Snapshot), [str(one) for one in found]
    return found


def route(keys: str, match: str = "prefix: /mcp") -> str:
    return (
        f"routes: [{{id: a, match: {{{match}}}, policy: signed-in, upstream: api, "
        f"issuers: [idp], {keys}}}]\n"
    )


def resource(keys: str, match: str = "prefix: /mcp") -> ResourceServer:
    found = snapshot(route(f"resource_server: {keys}", match)).routes.get("a")
    assert found is not None
    assert found.resource_server is not None
    return found.resource_server


def refused(keys: str, match: str = "prefix: /mcp") -> str:
    found = compiled(route(keys, match))
    assert isinstance(found, list), "the configuration is valid"
    assert len(found) == 1, [str(one) for one in found]
    return str(found[0])


def test_a_route_is_no_resource_unless_it_says_so() -> None:
    found = snapshot(route("action: a"))
    (one,) = found.routes
    assert one.resource_server is None
    assert found.resources == {}


def test_every_key_is_read() -> None:
    keys = """{scopes: [tools:call, tools:list], authorization_servers: ["https://as.example"],
      documentation: "https://docs.example/a?b=c", name: The tools, path: /}"""
    assert resource(keys) == ResourceServer(
        "/", ("https://as.example",), ("tools:call", "tools:list"),
        "https://docs.example/a?b=c", "The tools",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("match", "path"),
    [
        ("prefix: /mcp", "/mcp"),
        ("prefix: '/a \"b'", "/a%20%22b"),
        ("prefix: '/a#b'", "/a%23b"),
        ("prefix: /", "/"),
        ("path: /a@b/c", "/a@b/c"),
        ("path: /a/", "/a/"),
        ("path: /käse", "/k%C3%A4se"),
        ("path: /a%20b", "/a%20b"),
    ],
)
def test_a_resource_is_where_its_route_is(match: str, path: str) -> None:
    match = match if match != "prefix: /" else "prefix: /, except_reserved: true"
    assert resource("{}", match) == ResourceServer(path, IDP)


def test_clients_are_told_of_issuers_in_the_order_of_their_block() -> None:
    text = HEAD.replace("version: 1\n", "").replace("  other:", "  an-other:")
    order = ("https://i.example", "https://o.example")
    for issuers in ("[idp, an-other]", "[an-other, idp]"):
        one = route("resource_server: {}").replace("[idp]", issuers)
        found = compile_snapshot(Sources(("routes.yaml", "version: 1\n" + text + one)))
        assert isinstance(found, Snapshot)
        (server,) = found.resources.values()
        assert server.authorization_servers == order


def test_defaults_say_it_for_many_routes_and_off_takes_it_away() -> None:
    found = snapshot(
        """
        defaults:
          policy: signed-in
          upstream: api
          issuers: [own, idp, other]
          resource_server: {scopes: [read], path: /}
        routes:
          - {id: a, match: {path: "/a/{name}"}}
          - {id: b, match: {path: /b}, resource_server: {scopes: write, path: /}}
          - {id: c, match: {path: /c}, resource_server: off}
          - {id: d, match: {path: /d}, auth: public}
          - {id: e, match: {path: /e}, auth: public, resource_server: off}
        """
    )
    servers = ("https://i.example", "https://o.example")
    assert {one.id: one.resource_server for one in found.routes} == {
        "a": ResourceServer("/", servers, ("read",)),
        "b": ResourceServer("/", servers, ("write",)),
        "c": None,
        "d": None,
        "e": None,
    }
    assert found.resources == {("", "/"): ResourceServer("/", servers, ("read", "write"))}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("resource_server: {scope: a}", "unknown key `scope` in `resource_server`; did you mean"),
        ("resource_server: {scopes: ['a b']}", "`a b` is no scope"),
        ("resource_server: {authorization_servers: [a]}", "is no URL"),
        ('resource_server: {authorization_servers: ["http://as.example"]}', "anybody on the way"),
        ("resource_server: {documentation: readme}", "is no URL"),
        ('resource_server: {name: "a\\nb"}', "`name` is 1 to 128 printable characters"),
        ('resource_server: {path: "/mcp/{a}"}', "it has no parameters"),
        ("resource_server: {path: mcp}", "`mcp` is no path of a URL"),
        ('resource_server: {path: "/mcp?a"}', "is no path of a URL"),
        ("resource_server: {path: /käse}", "is no path of a URL"),
        ("resource_server: {path: '/mcp\"'}", "is no path of a URL"),
        ("resource_server: {path: '/mcp#a'}", "is no path of a URL"),
        ("resource_server: {path: /other}", "is not below `/other`"),
        ("resource_server: {path: /mcp/a}", "is not below `/mcp/a`"),
        ("resource_server: on", "`resource_server` is a block"),
    ],
)
def test_a_mistake_is_told_with_what_would_be_right(keys: str, said: str) -> None:
    found = compiled(route(keys))
    assert isinstance(found, list)
    assert any(said in str(one) for one in found), [str(one) for one in found]


def test_the_url_of_a_resource_holds_no_parameter() -> None:
    said = refused("resource_server: {}", 'path: "/t/{name}"')
    assert "`/t/{name}` holds a parameter, and the URL of a resource none" in said
    assert resource("{path: /t}", 'path: "/t/{name}"') == ResourceServer("/t", IDP)


def test_somebody_gives_tokens_for_a_resource() -> None:
    text = (
        "routes: [{id: a, match: {path: /a}, policy: signed-in, upstream: api, "
        "resource_server: {}}]\n"
    )
    found = compiled(text)
    assert isinstance(found, list)
    assert "a resource says who gives tokens for it" in str(found[0])


def test_a_public_route_is_no_resource() -> None:
    text = (
        "routes: [{id: a, match: {path: /a}, auth: public, upstream: api, resource_server: {}}]\n"
    )
    found = compiled(text)
    assert isinstance(found, list)
    assert "`auth: public` judges nobody: leave `resource_server` out" in str(found[0])


TWO = """
defaults: {{policy: signed-in, upstream: api, issuers: [idp]}}
routes:
  - {{id: a, match: {{{0}path: /mcp, methods: [GET]}}, resource_server: {{{1}}}}}
  - {{id: b, match: {{{2}path: /mcp, methods: [POST]}}, resource_server: {{{3}}}}}
"""


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ('authorization_servers: ["https://o.example"]', "scopes: a", "authorization servers"),
        ("name: A", "name: B", "names"),
        ('documentation: "https://a.example"', 'documentation: "https://b.example"',
         "documentation"),
    ],
)  # fmt: skip
def test_routes_of_one_resource_agree_on_it(one: str, other: str, said: str) -> None:
    found = compiled(TWO.format("", one, "", other))
    assert isinstance(found, list)
    assert [str(problem) for problem in found] == [
        f"routes.yaml:10:5: route `b` and route `a` (routes.yaml:9) are one resource, `/mcp`, "
        f"and name other {said}: say the same, or give one another `path`"
    ]


def test_one_path_of_two_hosts_is_two_resources() -> None:
    found = snapshot(
        TWO.format(
            "host: a.example.com, ",
            'name: A, authorization_servers: ["https://o.example"]',
            'host: "*.example.org", ',
            "name: B",
        )
    )
    assert set(found.resources) == {("a.example.com", "/mcp"), ("*.example.org", "/mcp")}
    origins = OwnOrigins("https://gw.example.com")

    def at(host: str, path: str = "/mcp") -> tuple[str, str | None] | None:
        answer = resource_at(found.resources, host, path, origins, public=False)
        return None if answer is None else (answer[0], answer[1].name)

    assert at("a.example.com") == ("https://a.example.com/mcp", "A")
    assert at("x.example.org") == ("https://x.example.org/mcp", "B")
    assert at("gw.example.com") is None
    assert at("a.example.com", "/") is None


def test_a_resource_of_no_host_is_at_the_public_url() -> None:
    found = snapshot(route("resource_server: {}"))
    origins = OwnOrigins("https://gw.example.com")
    answer = resource_at(found.resources, "whatever.example", "/mcp", origins, public=True)
    assert answer == ("https://gw.example.com/mcp", ResourceServer("/mcp", IDP))
