"""A gateway whose endpoints lie elsewhere, with an application that has `/auth` for itself and the
well-known documents on its own host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.contract.running import Running, started

ROUTES = """\
version: 1
upstreams:
  app: {{targets: ["http://127.0.0.1:{port}"]}}
decision_api: {{trusted_peers: ["127.0.0.1/32"]}}
routes:
  - id: app
    match: {{path: "/{{rest:path}}", except_reserved: true}}
    auth: public
    upstream: app
"""
PASSWORD = "correct horse 7 battery"
KEYS = "/.well-known/jwks.json"


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("moved") / "g"
    with started(folder, routes=ROUTES, GATEWAY_AUTH_PREFIX="/own/_auth") as running:
        yield running


def test_people_sign_in_below_the_prefix(moved: Running) -> None:
    who = {"email": "ann@example.com", "password": PASSWORD}
    assert moved.call("POST", "/own/_auth/register", json_body=who).status == 201
    login = moved.call("POST", "/own/_auth/login", json_body=who | {"transport": "cookie"})
    assert login.status == 200
    cookie = next(c for c in login.all("set-cookie") if c.startswith("__Host-session="))
    sent = ("Cookie", cookie.partition(";")[0])
    assert "Path=/;" in cookie + ";"
    me = moved.call("GET", "/own/_auth/me", sent, ("Sec-Fetch-Site", "same-origin"))
    assert me.json["email"] == "ann@example.com"
    csrf = moved.call("GET", "/own/_auth/csrf", sent)
    assert csrf.json["csrf_token"] == login.json["csrf_token"]


@pytest.mark.parametrize("path", ["/auth", "/auth/login", "/own", "/own/_authx"])
def test_an_application_has_the_paths_that_are_free(moved: Running, path: str) -> None:
    answer = moved.call("POST", path, json_body={})
    assert (answer.status, answer.json["target"]) == (200, path)


@pytest.mark.parametrize("path", ["/own/_auth", "/own/_auth/", "/own/_auth/nothing"])
def test_what_is_no_endpoint_never_reaches_the_application(moved: Running, path: str) -> None:
    answer = moved.call("GET", path)
    assert (answer.status, answer.reason) == (404, "route_unknown")


def test_documents_say_where_endpoints_are_and_stand_on_hosts_of_the_gateway(
    moved: Running,
) -> None:
    base = f"http://127.0.0.1:{moved.port}"
    document = moved.call("GET", "/.well-known/oauth-authorization-server").json
    assert document["token_endpoint"] == f"{base}/own/_auth/token"
    assert document["revocation_endpoint"] == f"{base}/own/_auth/revoke"
    for host in (None, f"localhost:{moved.port}", "[::1]", "LOCALHOST."):
        assert moved.call("GET", KEYS, host=host).json["keys"]
    for host in ("app.example.com", "localhost.example.com", "127.0.0.1.example.com"):
        assert moved.call("GET", KEYS, host=host).json["target"] == KEYS


def test_the_decision_api_knows_the_prefix(moved: Running) -> None:
    def asked(path: str) -> int:
        told = {"Method": "GET", "Uri": path, "Host": "app.example.com", "Proto": "http"}
        fields = [(f"X-Forwarded-{name}", value) for name, value in told.items()]
        return moved.admin("/decide/caddy", *fields, ("X-Forwarded-For", "203.0.113.7")).status

    assert (asked("/auth/login"), asked("/own/_auth/login")) == (200, 404)


def test_what_is_exported_and_counted_names_the_prefix(moved: Running) -> None:
    assert moved.cli("export", "openapi").returncode == 0
    paths = yaml.safe_load((moved.folder / "openapi.yaml").read_text())["paths"]
    assert "/own/_auth/login" in paths
    assert not [path for path in paths if path.startswith("/auth")]
    served = yaml.safe_load(moved.admin("/openapi.yaml").body)["paths"]
    assert served == paths
    moved.call("GET", "/own/_auth/captcha")
    assert 'endpoint="/own/_auth/captcha"' in moved.admin("/metrics").body.decode()


def test_commands_that_read_the_configuration_know_the_prefix(moved: Running) -> None:
    asked = moved.cli("explain", "GET", "/own/_auth/login", "--json")
    assert asked.returncode == 1
    assert json.loads(asked.stdout)["reason"] == "route_unknown"
    assert moved.cli("explain", "GET", "/auth/login").returncode == 0
    (moved.folder / "next").mkdir()
    dead = moved.folder / "next" / "routes.yaml"
    dead.write_text(
        (moved.folder / "routes.yaml").read_text().replace("/{rest:path}", "/own/_auth")
    )
    told = moved.cli("validate", "--config", str(dead))
    assert told.returncode == 1
    assert "would match `/own/_auth`, which the gateway answers itself" in told.stdout


def test_a_wrong_prefix_is_told_by_each_command(tmp_path: Path, moved: Running) -> None:
    wrong = Running(**{**vars(moved), "environment": dict(moved.environment)})
    wrong.environment["GATEWAY_AUTH_PREFIX"] = "/auth/"
    for words in (["validate"], ["serve"], ["export", "openapi"]):
        told = wrong.cli(*words)
        assert told.returncode == 2
        assert "GATEWAY_AUTH_PREFIX: must be a path such as /auth or /_auth" in told.stderr
