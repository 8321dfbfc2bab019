"""What an installation keeps of people for its rules: their attributes and their tenants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.identity.accounts.account_facts import AccountFacts
from gateway.identity.accounts.accounts import Accounts
from gateway.stores.protocols import Database
from tests.cli.installed import GOOD, NO, USAGE, Gateway
from tests.cli.test_people import inside

EMAIL = "alice@example.com"
ROUTES = """
version: 1
attributes:
  department: {values: [sales, support]}
  clearance: {type: integer}
  active: {type: boolean}
  teams: {type: list}
  nickname: {set_by: person}
tenants: {roles: [owner, member]}
routes: []
"""


def test_attributes_are_set_shown_and_taken_away(folder: Path, gateway: Gateway) -> None:
    (folder / "routes.yaml").write_text(ROUTES)
    assert gateway("users", "create", EMAIL)[0] == GOOD
    changes = ("department=sales", "clearance=3", "active=true", "teams=red,blue")
    assert gateway("users", "attributes", EMAIL, *changes)[1].startswith(f"changed: {EMAIL} (")
    assert gateway("users", "attributes", EMAIL, *changes)[1].startswith("as it was: ")
    _, out = gateway("users", "attributes", EMAIL, "--json")
    assert {row["attribute"]: row["value"] for row in json.loads(out)} == {
        "department": "sales", "clearance": 3, "active": True, "teams": ["red", "blue"],
    }  # fmt: skip
    assert gateway("users", "attributes", EMAIL, "teams=")[0] == GOOD
    _, out = gateway("users", "show", EMAIL, "--json")
    assert json.loads(out)["attributes"] == {"active": True, "clearance": 3, "department": "sales"}
    assert "clearance=3" in gateway("users", "show", EMAIL)[1]


@pytest.mark.parametrize(
    "change", ["department=marketing", "clearance=high", "depart=sales", "department", "active=1"]
)
def test_a_wrong_attribute_is_refused(folder: Path, gateway: Gateway, change: str) -> None:
    (folder / "routes.yaml").write_text(ROUTES)
    assert gateway("users", "create", EMAIL)[0] == GOOD
    assert gateway("users", "attributes", EMAIL, "clearance=3", change)[0] == USAGE
    assert json.loads(gateway("users", "attributes", EMAIL, "--json")[1]) == []


def test_tenants_are_given_shown_and_taken_away(folder: Path, gateway: Gateway) -> None:
    (folder / "routes.yaml").write_text(ROUTES)
    assert gateway("users", "create", EMAIL)[0] == GOOD
    assert gateway("users", "tenants", EMAIL, "acme=owner", "globex=member")[0] == GOOD
    _, out = gateway("users", "tenants", EMAIL, "--json")
    assert json.loads(out) == [
        {"tenant": "acme", "role": "owner"}, {"tenant": "globex", "role": "member"},
    ]  # fmt: skip
    assert json.loads(gateway("tenants", "list", "--json")[1]) == [
        {"tenant": "acme", "accounts": 1}, {"tenant": "globex", "accounts": 1},
    ]  # fmt: skip
    (member,) = json.loads(gateway("tenants", "list", "acme", "--json")[1])
    assert (member["email"], member["role"]) == (EMAIL, "owner")
    assert gateway("users", "tenants", EMAIL, "acme=")[0] == GOOD
    for wrong in ("acme=janitor", "a b=owner", "acme"):
        assert gateway("users", "tenants", EMAIL, wrong)[0] == USAGE
    (folder / "routes.yaml").write_text("version: 1\nroutes: []\n")
    assert gateway("users", "tenants", EMAIL, "acme=owner")[0] == NO


def test_explain_judges_an_account_with_both(folder: Path, gateway: Gateway) -> None:
    routes = ROUTES.replace(
        "routes: []",
        """upstreams: {api: {targets: ["http://127.0.0.1:1"]}}
routes:
  - id: a
    match: {path: /a}
    policy: p
    upstream: api
""",
    )
    (folder / "routes.yaml").write_text(routes)
    (folder / "policies").mkdir()
    when = "user.tenant_role == 'owner' && user.attributes.department == 'sales'"
    (folder / "policies" / "p.yaml").write_text(
        f'version: 1\npolicy: p\nrules: [{{id: r, allow: ["*"], when: "{when}"}}]\n'
    )
    assert gateway("users", "create", EMAIL)[0] == GOOD
    assert gateway("explain", "GET", "/a", "--as", EMAIL)[0] == NO
    assert gateway("users", "attributes", EMAIL, "department=sales")[0] == GOOD
    assert gateway("users", "tenants", EMAIL, "acme=owner", "globex=member")[0] == GOOD
    assert gateway("explain", "GET", "/a", "--as", EMAIL)[0] == NO
    assert gateway("explain", "GET", "/a", "--as", EMAIL, "--claim", "tenant=acme")[0] == GOOD
    (folder / "policies" / "tests").mkdir()
    (folder / "policies" / "tests" / "p.yaml").write_text("""
- as: {tenants: {acme: owner}, tenant: acme, attributes: {department: sales}}
  request: GET /a
  expect: allow
- as: {tenants: {acme: member}, tenant: acme, attributes: {department: sales}}
  request: GET /a
  expect: deny
""")
    assert gateway("test")[0] == GOOD


def test_what_an_operator_sets_is_the_operators_though_it_was_there(
    folder: Path, gateway: Gateway
) -> None:
    (folder / "routes.yaml").write_text(ROUTES)
    assert gateway("users", "create", EMAIL)[0] == GOOD

    async def by_person(database: Database) -> None:
        account = await Accounts(database).by_email(EMAIL)
        assert account is not None
        await AccountFacts(database).put_attributes(account.id, {"department": "sales"}, "person")

    inside(folder, by_person)
    for said in ("changed: ", "as it was: "):
        assert gateway("users", "attributes", EMAIL, "department=sales")[1].startswith(said)
        [row] = json.loads(gateway("users", "attributes", EMAIL, "--json")[1])
        assert (row["value"], row["set_by"]) == ("sales", "operator")
