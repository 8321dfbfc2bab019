"""Decisions that nobody here wrote: published examples of other engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.access.roles import Role, RoleBook
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from tests.access.worlds import decide, who

FOLDER = Path(__file__).parent / "others"
EXAMPLES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}
METHODS = {"read": "GET", "write": "PUT", "create": "POST", "delete": "DELETE"}

ROUTES = """
version: 1
upstreams: {api: {targets: [http://127.0.0.1:9001]}}
defaults: {policy: p, upstream: api}
routes:
""" + "".join(
    f"""
  - id: {verb}
    match: {{path: "/data/{{id}}", methods: [{method}]}}
    action: data:{verb}
    resource: {{id: "{{id}}", domain: none}}
  - id: domain.{verb}
    match: {{path: "/data/{{domain}}/{{id}}", methods: [{method}]}}
    action: data:{verb}
    resource: {{id: "{{id}}", domain: "{{domain}}"}}
"""
    for verb, method in METHODS.items()
)


def world(example: dict[str, Any]) -> Snapshot:
    files = [("policies/p.yaml", example["policy"])]
    if "data" in example:
        files.append(("policies/data/tables.yaml", example["data"]))
    found = compile_snapshot(Sources(("routes.yaml", ROUTES), tuple(sorted(files))))
    assert isinstance(found, Snapshot), [str(problem) for problem in found]
    return found


CASES = [
    (name, decision)
    for name, example in EXAMPLES.items()
    for decision in example.get("decisions", ())
]
PERMITTED = [
    (name, decision)
    for name, example in EXAMPLES.items()
    for decision in example.get("permitted", ())
]
WORLDS = {name: world(example) for name, example in EXAMPLES.items() if "policy" in example}


@pytest.mark.parametrize(("name", "decision"), CASES, ids=[f"{n}: {d}" for n, d in CASES])
def test_the_answer_is_that_of_the_other_engine(name: str, decision: str) -> None:
    subject, verb, thing, answer = decision.split()
    roles = EXAMPLES[name]["roles"].get(subject, [])
    decided = decide(WORLDS[name], f"{METHODS[verb]} /data/{thing}", who(subject, *roles))
    assert decided.allowed is (answer == "yes"), decided


@pytest.mark.parametrize(("name", "decision"), PERMITTED, ids=[f"{n}: {d}" for n, d in PERMITTED])
def test_a_permission_covers_what_it_covers_there(name: str, decision: str) -> None:
    roles, action, answer = decision.split()
    permissions = EXAMPLES[name]["permissions"]
    book = RoleBook(Role(role, (), tuple(given)) for role, given in permissions.items())
    assert book.permits(tuple(roles.split("+")), action) is (answer == "yes")


def test_every_example_names_its_source() -> None:
    assert all(example["source"] for example in EXAMPLES.values())
    assert len(CASES) + len(PERMITTED) > 90
