"""The JSON Schemas for editors say what the readers say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from gateway.config import (
    attributes,
    direct_responses,
    headers,
    identity_headers,
    policies,
    routes,
    upstreams,
)
from gateway.config import compile as compile_
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.yaml_reader import Reader
from gateway.model import ConfigProblem
from gateway.review import cases
from tests.config.test_compile import CONTRACT, CONTRACT_POLICY
from tests.config.test_wrong_files import ISSUERS

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "gateway" / "schemas"


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def loaded(text: str) -> Any:
    """By YAML 1.2, as the gateway and editors read it: `on` is a text."""
    problems: list[ConfigProblem] = []
    reader = Reader("a.yaml", problems)
    node = reader.document(text)
    assert node is not None, problems
    return reader.plain(node)


ROUTES, POLICY, TESTS = schema("routes"), schema("policy"), schema("tests")


def keys(block: dict[str, Any]) -> set[str]:
    assert block["additionalProperties"] is False
    return set(block["properties"])


@pytest.mark.parametrize(
    ("block", "read"),
    [
        (ROUTES, compile_.TOP_KEYS),
        (ROUTES["properties"]["defaults"], routes.DEFAULT_KEYS),
        (ROUTES["properties"]["routes"]["items"], routes.ROUTE_KEYS),
        (
            ROUTES["properties"]["routes"]["items"]["properties"]["match"],
            routes.MATCH_KEYS,
        ),
        (ROUTES["properties"]["upstreams"]["additionalProperties"], upstreams.UPSTREAM_KEYS),
        (
            ROUTES["properties"]["upstreams"]["additionalProperties"]["properties"]["retry"],
            upstreams.RETRY_KEYS,
        ),
        (ROUTES["properties"]["limits"]["additionalProperties"], upstreams.LIMIT_KEYS),
        (ROUTES["properties"]["cors"]["additionalProperties"], upstreams.CORS_KEYS),
        (
            ROUTES["properties"]["attributes"]["additionalProperties"],
            attributes.ATTRIBUTE_KEYS,
        ),
        (ROUTES["properties"]["tenants"], attributes.TENANT_KEYS),
        (
            ROUTES["properties"]["routes"]["items"]["properties"]["direct_response"],
            direct_responses.DIRECT_RESPONSE_KEYS,
        ),
        (
            ROUTES["properties"]["routes"]["items"]["properties"]["redirect"],
            direct_responses.REDIRECT_KEYS,
        ),
        (
            ROUTES["properties"]["routes"]["items"]["properties"]["request"],
            headers.CHANGE_KEYS,
        ),
        (
            ROUTES["properties"]["routes"]["items"]["properties"]["request"]["properties"][
                "set_headers"
            ]["additionalProperties"]["anyOf"][1],
            headers.SECRET_KEYS,
        ),
        (
            ROUTES["properties"]["defaults"]["properties"]["identity_headers"]["anyOf"][1]["items"][
                "anyOf"
            ][1],
            identity_headers.IDENTITY_KEYS,
        ),
        (POLICY, policies.POLICY_KEYS),
        (POLICY["properties"]["rules"]["items"], policies.RULE_KEYS),
        (TESTS, cases.FILE_KEYS),
        (TESTS["properties"]["cases"]["items"], cases.CASE_KEYS),
        (
            TESTS["properties"]["cases"]["items"]["properties"]["expect"]["anyOf"][2],
            cases.EXPECT_KEYS,
        ),
        (TESTS["properties"]["people"]["additionalProperties"], cases.PERSON_KEYS),
    ],
)
def test_a_schema_has_the_keys_that_are_read(block: dict[str, Any], read: tuple[str, ...]) -> None:
    assert keys(block) == set(read)


@pytest.mark.parametrize("name", ["routes", "policy", "roles", "data", "tests"])
def test_every_key_is_described(name: str) -> None:
    def undescribed(block: Any, where: str) -> list[str]:
        found = []
        if isinstance(block, dict):
            for key, value in block.get("properties", {}).items():
                if "description" not in value:
                    found.append(f"{where}.{key}")
            for key, value in block.items():
                found += undescribed(value, f"{where}.{key}")
        if isinstance(block, list):
            for value in block:
                found += undescribed(value, where)
        return found

    assert undescribed(schema(name), name) == []


def _kind(path: Path) -> str:
    if path.name in ("routes.yaml", "roles.yaml"):
        return path.stem
    return path.parent.name if path.parent.name in ("tests", "data") else "policy"


SHIPPED = [
    (path, _kind(path))
    for folder in (ROOT, *(ROOT / "examples").iterdir(), *(ROOT / "examples" / "issuers").iterdir())
    for path in (folder / "routes.yaml", *(folder / "policies").rglob("*.yaml"))
    if path.is_file()
]


@pytest.mark.parametrize(("path", "name"), SHIPPED, ids=lambda value: getattr(value, "name", value))
def test_the_shipped_files_meet_their_schema(path: Path, name: str) -> None:
    jsonschema_rs.validate(schema(name), loaded(path.read_text()))
    first = path.read_text().partition("\n")[0]
    target = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / target).resolve() == FOLDER / f"{name}.json"


def test_the_example_of_the_contract_meets_the_schemas() -> None:
    jsonschema_rs.validate(ROUTES, loaded(CONTRACT))
    jsonschema_rs.validate(POLICY, loaded(CONTRACT_POLICY))


def test_issuers_with_every_key_meet_the_schema() -> None:
    jsonschema_rs.validate(ROUTES, loaded(ISSUERS))


ISSUER = "issuer: https://i.example, audience: a"


@pytest.mark.parametrize(
    "block",
    [
        "issuers: {idp: {issuer: https://i.example}}",
        "issuers: {idp: {audience: a}}",
        f"issuers: {{own: {{{ISSUER}}}}}",
        f"issuers: {{Idp: {{{ISSUER}}}}}",
        "issuers: {idp: {issuer: http://i.example, audience: a}}",
        f"issuers: {{idp: {{{ISSUER}, algorithms: [HS256]}}}}",
        f"issuers: {{idp: {{{ISSUER}, algorithms: []}}}}",
        f"issuers: {{idp: {{{ISSUER}, require: {{a: {{b: c}}}}}}}}",
        f"issuers: {{idp: {{{ISSUER}, introspection: {{client_id: a}}}}}}",
        f"issuers: {{idp: {{{ISSUER}, ca: idp.pem}}}}",
        "defaults: {issuers: []}",
        "defaults: {resource_server: on}",
        'defaults: {resource_server: {path: "/a/{b}"}}',
        "defaults: {resource_server: {scopes: ['a b']}}",
    ],
)
def test_an_issuer_that_is_refused_here_is_red_in_an_editor(block: str) -> None:
    text = f"{{version: 1, routes: [], {block}}}"
    assert not jsonschema_rs.is_valid(ROUTES, loaded(text))
    assert isinstance(compile_snapshot(Sources(("routes.yaml", text))), list)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("routes", "{version: 1, routs: []}"),
        ("routes", "{version: 1, routes: [{id: a, match: {path: a}}]}"),
        ("routes", "{version: 1, limits: {a: {key: user, rate: 600/m}}}"),
        ("routes", "{version: 1, routes: [{id: a, match: {path: /a}, redirect: {to: //b}}]}"),
        (
            "routes",
            "{version: 1, routes: [{id: a, match: {path: /a}, direct_response: {}, upstream: b}]}",
        ),
        ("routes", "{version: 1, routes: [{id: a, match: {path: /a}, max_body: 10MB}]}"),
        ("routes", "{version: 1, routes: [{id: a, match: {prefix: /a/}}]}"),
        ("routes", "{version: 1, routes: [{id: a, match: {prefix: /a, path: /a}}]}"),
        ("routes", "{version: 1, routes: [{id: a, match: {methods: [GET]}}]}"),
        ("routes", "{version: 1, routes: [{id: a, match: {path: /a}, redirect_slash: true}]}"),
        ("routes", "{version: 1, defaults: {max_body: none}, routes: []}"),
        ("policy", "{version: 1, policy: p, rules: [{id: a}]}"),
        ("policy", "{version: 1, policy: p, rules: [{id: a, allow: [x], deny: [y]}]}"),
        ("policy", "{version: 1, policy: p, rules: [{id: a, allow: ['ord*']}]}"),
        ("tests", "{version: 1, cases: [{request: GET /}]}"),
    ],
)
def test_what_is_refused_here_is_red_in_an_editor(name: str, text: str) -> None:
    assert not jsonschema_rs.is_valid(schema(name), loaded(text))
