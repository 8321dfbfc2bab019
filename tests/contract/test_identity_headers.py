"""Identity headers of an operator's choice, through a started gateway."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.answers import Answer, read_answer
from tests.contract.running import Running, started

ROUTES = """\
version: 1
defaults: {{identity_headers: authelia}}
upstreams:
  echo: {{targets: ["http://127.0.0.1:{port}"]}}
  grafana: {{targets: ["http://127.0.0.1:{port}"], identity_headers: grafana}}
routes:
  - {{id: me, match: {{path: /me}}, policy: signed-in, upstream: echo}}
  - {{id: boards, match: {{path: /boards}}, policy: signed-in, upstream: grafana}}
  - id: own
    match: {{path: /own}}
    policy: signed-in
    upstream: grafana
    identity_headers:
      - {{name: X-Forwarded-User, value: "{{user.id}}"}}
      - {{name: X-Mail, value: "{{user.email}}", encoding: utf8}}
      - {{name: X-Groups, value: "{{user.roles}}", separator: json}}
      - {{name: X-Level, value: "'staff' in user.roles ? 'high' : 'low'"}}
  - {{id: plain, match: {{path: /plain}}, policy: signed-in, upstream: echo, identity_headers: authgate}}
  - {{id: public, match: {{path: "/public/{{rest:path}}"}}, auth: public, upstream: echo}}
  - {{id: zoned, match: {{path: /zoned}}, auth: public, upstream: echo,
     request: {{set_headers: {{X-Zone: eu}}}}}}
  - {{id: keeps, match: {{path: /keeps}}, auth: public, upstream: echo, keep_headers: [X-Zone]}}
"""
WRITTEN = (
    "Remote-User", "Remote-Groups", "Remote-Email", "Remote-Name", "X-WEBAUTH-USER",
    "X-WEBAUTH-ROLE", "X-Forwarded-User", "X-Mail", "X-Groups", "X-Level", "X-Zone",
    "X-Auth-User-Id",
)  # fmt: skip


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("identity") / "g"
    with started(folder, routes=ROUTES) as running:
        made = running.cli(
            "users", "create", "ada@example.com", "--role", "editor", "--role", "staff",
            "--verified", "--password-stdin", stdin="correct horse 7 battery\n",
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        running.users["ada@example.com"] = {}
        yield running


def told(answer: Answer) -> dict[str, list[str]]:
    """What the backend was told by the names above, in any spelling."""
    assert answer.status == 200, answer
    known = {name.lower() for name in WRITTEN}
    found: dict[str, list[str]] = {}
    for name, value in answer.json["fields"]:
        folded = name.lower().replace("_", "-").replace(".", "-")
        if folded in known or folded.startswith("x-auth-"):
            found.setdefault(folded, []).append(value)
    return found


def token(chosen: Running, email: str) -> str:
    return str(chosen.sign_in(email)["access_token"])


def test_each_backend_is_told_in_its_own_words(chosen: Running) -> None:
    ada = token(chosen, "ada@example.com")
    assert told(chosen.call("GET", "/me", token=ada)) == {
        "remote-user": ["ada@example.com"],
        "remote-groups": ["editor,staff"],
        "remote-email": ["ada@example.com"],
        "remote-name": ["ada@example.com"],
    }
    assert told(chosen.call("GET", "/boards", token=ada)) == {
        "x-webauth-user": ["ada@example.com"],
        "x-webauth-role": ["Editor"],
    }
    own = told(chosen.call("GET", "/own", token=ada))
    user_id = own.pop("x-forwarded-user")
    assert own == {
        "x-mail": ["ada@example.com"],
        "x-groups": ['["editor","staff"]'],
        "x-level": ["high"],
    }
    plain = told(chosen.call("GET", "/plain", token=ada))
    assert plain["x-auth-user-id"] == user_id
    assert plain["x-auth-roles"] == ["editor,staff"]


def test_an_address_that_nobody_has_verified_is_no_name(chosen: Running) -> None:
    mallory = token(chosen, "admin@corp.example")
    for path in ("/me", "/boards"):
        values = [
            value for one in told(chosen.call("GET", path, token=mallory)).values() for value in one
        ]
        assert values
        assert not [value for value in values if "@" in value]


@pytest.mark.parametrize("path", ["/me", "/boards", "/own", "/plain", "/public/x"])
@pytest.mark.parametrize("spell", [str, str.lower, str.upper, lambda n: n.replace("-", "_")])
def test_no_client_writes_a_field_that_any_route_writes(
    chosen: Running, path: str, spell: Any
) -> None:
    ada = None if path == "/public/x" else token(chosen, "ada@example.com")
    forged = [(spell(name), "root") for name in WRITTEN for _ in range(2)]
    connection = ("Connection", ", ".join(WRITTEN))
    answer = chosen.call("GET", path, *forged, connection, token=ada)
    values = [value for one in told(answer).values() for value in one]
    assert "root" not in values
    assert bool(values) == (ada is not None)
    assert all(len(one) == 1 for one in told(answer).values())


def test_no_trailer_of_a_client_arrives(chosen: Running) -> None:
    head = f"POST /public/x HTTP/1.1\r\nHost: 127.0.0.1:{chosen.port}\r\n"
    answer = chosen.raw(
        head.encode() + b"Transfer-Encoding: chunked\r\nTrailer: Remote-User\r\n\r\n"
        b"2\r\nok\r\n0\r\nRemote-User: root\r\nX_WEBAUTH_USER: root\r\n\r\n",
        method="POST",
    )
    assert told(answer) == {}
    assert answer.json["body"] == "ok"


def test_a_handshake_carries_the_same_fields(chosen: Running) -> None:
    ada = token(chosen, "ada@example.com")
    answer = chosen.call(
        "GET", "/me", ("Connection", "Upgrade"), ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "MDEyMzQ1Njc4OWFiY2RlZg=="),
        ("Remote-User", "root"), ("remote_groups", "root"), token=ada,
    )  # fmt: skip
    seen = chosen.echo.seen[-1]
    assert ["Upgrade", "websocket"] in seen["fields"]
    assert told(answer)["remote-user"] == ["ada@example.com"]
    assert told(answer)["remote-groups"] == ["editor,staff"]


def test_a_route_may_keep_what_another_one_sets(chosen: Running) -> None:
    zone = ("X-Zone", "mine")
    assert told(chosen.call("GET", "/zoned", zone)) == {"x-zone": ["eu"]}
    assert told(chosen.call("GET", "/keeps", zone)) == {"x-zone": ["mine"]}
    assert told(chosen.call("GET", "/public/x", zone)) == {}


def test_explain_says_what_the_backend_was_sent(chosen: Running) -> None:
    ada = token(chosen, "ada@example.com")
    arrived = told(chosen.call("GET", "/me", token=ada))
    done = chosen.cli("explain", "GET", "/me", "--as", "ada@example.com", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)["headers"]
    assert {name.lower(): [value] for name, value in shown.items()} == arrived


def test_another_proxy_is_told_the_same(chosen: Running) -> None:
    path = chosen.folder / "routes.yaml"
    text = path.read_text()
    path.write_text(
        text.replace("version: 1\n", "version: 1\ndecision_api: {trusted_peers: [127.0.0.1/32]}\n")
    )
    ada = token(chosen, "ada@example.com")
    lines = (
        f"GET /decide/envoy/me HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\n"
        f"X-Forwarded-Proto: http\r\nRemote-User: root\r\nAuthorization: Bearer {ada}\r\n\r\n"
    )

    def asked() -> Answer:
        with socket.create_connection(("127.0.0.1", chosen.admin_port), timeout=60) as sock:
            sock.sendall(lines.encode())
            return read_answer(sock.makefile("rb"), "GET")

    from tests.e2e.processes import until

    until(lambda: asked().status == 200, within_s=40)
    assert asked().all("remote-user") == ["ada@example.com"]
    assert asked().all("x-auth-user-id") == []
