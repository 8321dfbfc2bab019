"""Machine clients, API keys and the audit log of a started gateway."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from authlib.integrations.requests_client import OAuth2Session

from tests.contract.answers import Answer
from tests.contract.running import Running
from tests.servers import wait_until

FORM = ("Content-Type", "application/x-www-form-urlencoded")


def cli(gateway: Running, *words: str) -> Any:
    done = gateway.cli(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def machine(gateway: Running) -> dict[str, str]:
    made: dict[str, str] = cli(gateway, "clients", "create", "billing", "--role", "viewer")
    return made


def as_client(gateway: Running, machine: dict[str, str], path: str, **form: str) -> Answer:
    known = f"{machine['client_id']}:{machine['client_secret']}".encode()
    basic = ("Authorization", "Basic " + base64.b64encode(known).decode())
    return gateway.call("POST", path, FORM, basic, body=urlencode(form).encode())


def token_of(gateway: Running, machine: dict[str, str]) -> str:
    answer = as_client(gateway, machine, "/auth/token", grant_type="client_credentials")
    assert answer.status == 200, answer
    return str(answer.json["access_token"])


def fields_of(answer: Answer) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.json["fields"]}


def test_a_client_reaches_the_backend_as_itself(gateway: Running, machine: dict[str, str]) -> None:
    token = token_of(gateway, machine)
    answer = gateway.call("GET", "/v1/users/u1/orders/o1", token=token)
    assert answer.status == 200
    seen = fields_of(answer)
    assert seen["x-auth-user-id"] == machine["client_id"]
    assert seen["x-auth-roles"] == "viewer"
    assert "x-auth-email" not in seen
    assert "x-auth-session-id" not in seen
    denied = gateway.call("DELETE", "/v1/users/u1/orders/o1", token="x")
    assert denied.status == 401


def test_an_api_key_reaches_the_backend_within_its_scopes_and_ends_at_once(
    gateway: Running, machine: dict[str, str]
) -> None:
    key = cli(gateway, "clients", "key", "billing", "--scope", "orders:read")
    answer = gateway.call("GET", "/v1/users/u1/orders/o1", token=key["api_key"])
    assert answer.status == 200
    assert fields_of(answer)["x-auth-user-id"] == machine["client_id"]
    assert "authorization" not in fields_of(answer)
    narrow = cli(gateway, "clients", "key", "billing", "--scope", "other:read")
    refused = gateway.call("GET", "/v1/users/u1/orders/o1", token=narrow["api_key"])
    assert refused.status == 403
    assert gateway.cli("clients", "end-key", key["key_id"]).returncode == 0
    ended = gateway.call("GET", "/v1/users/u1/orders/o1", token=key["api_key"])
    assert (ended.status, ended.reason) == (401, "token_revoked")


def test_a_stock_oauth_client_does_the_whole_round(
    gateway: Running, machine: dict[str, str]
) -> None:
    base = f"http://127.0.0.1:{gateway.port}"
    document = gateway.call("GET", "/.well-known/oauth-authorization-server").json
    assert document["grant_types_supported"] == ["client_credentials"]
    stock = OAuth2Session(
        machine["client_id"],
        machine["client_secret"],
        token_endpoint_auth_method=document["token_endpoint_auth_methods_supported"][0],
    )
    token = stock.fetch_token(document["token_endpoint"], grant_type="client_credentials")
    assert stock.get(f"{base}/me").status_code == 200
    text = token["access_token"]
    assert stock.introspect_token(document["introspection_endpoint"], token=text).json()["active"]
    assert stock.revoke_token(document["revocation_endpoint"], token=text).status_code == 200
    assert stock.get(f"{base}/me").status_code == 401


def test_a_deleted_clients_token_is_refused_at_once(gateway: Running) -> None:
    made = cli(gateway, "clients", "create", "short-lived")
    token = token_of(gateway, made)
    assert gateway.call("GET", "/me", token=token).status == 200
    assert gateway.cli("clients", "delete", "short-lived", "--yes").returncode == 0
    assert gateway.call("GET", "/me", token=token).reason == "token_revoked"
    again = as_client(gateway, made, "/auth/token", grant_type="client_credentials")
    assert (again.status, again.json["error"]) == (401, "invalid_client")


def test_the_audit_log_of_a_running_gateway_verifies(
    gateway: Running, machine: dict[str, str]
) -> None:
    token_of(gateway, machine)
    found = cli(gateway, "audit", "verify")
    assert found["problems"] == []
    assert found["events"] > 0
    told = ""

    def told_of_the_configuration() -> bool:
        """A worker writes its first events up to a second after it serves."""
        nonlocal told
        told = gateway.cli("audit", "tail", "--all", "--json").stdout
        return "configuration" in {json.loads(line)["event"] for line in told.splitlines()}

    wait_until(told_of_the_configuration, 30, "the worker's own events")
    events = [json.loads(line) for line in told.splitlines()]
    assert ("client_changed", machine["client_id"]) in {
        (e["event"], e.get("subject")) for e in events
    }
    assert machine["client_secret"] not in told


@pytest.mark.parametrize("path", ["/me", "/auth/me"])
def test_where_no_route_is_a_resource_a_401_names_no_metadata(gateway: Running, path: str) -> None:
    """RFC 9728 section 3.3: a client refuses a document whose `resource` is not what it asked."""
    assert gateway.call("GET", path).get("www-authenticate") == 'Bearer realm="authgate"'
    for below in ("", path):
        answer = gateway.call("GET", f"/.well-known/oauth-protected-resource{below}")
        assert (answer.status, answer.reason) == (404, "route_unknown")
