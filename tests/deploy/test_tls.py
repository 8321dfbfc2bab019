"""The examples of deploy/tls and deploy/haproxy: real proxies that speak TLS, HTTP/2 and HTTP/3, authgate behind."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import self_signed
from tests.contract.answers import Answer
from tests.deploy.proxies import (
    COMMANDS_OF_TLS,
    TOLD_BY_PROXIES,
    Ports,
    Site,
    require,
    running,
    site,
)
from tests.ports import free_port
from tests.upstreams.clients import curl

EMAIL = "ada@example.com"
PASSWORD = "correct horse 7 battery"


@dataclass
class Front:
    """A proxy, as its clients see it."""

    name: str
    port: int
    house: Site
    ca: Path
    token: str = ""

    def call(
        self, version: str, method: str, path: str, *fields: tuple[str, str], **more: Any
    ) -> tuple[str, Answer]:
        """The HTTP version that was spoken, and the answer."""
        words = ["-4", "--cacert", str(self.ca), f"--http{version}"]
        return curl(method, f"https://localhost:{self.port}{path}", fields, words=words, **more)

    def bearer(self) -> tuple[str, str]:
        return "Authorization", f"Bearer {self.token}"


@contextmanager
def fronts(name: str, house: Site, folder: Path) -> Iterator[Front]:
    require(name)
    ports = Ports(free_port(), house.public, house.admin, 0)
    with running(COMMANDS_OF_TLS[name], ports, folder / name):
        yield Front(name, ports.proxy, house, folder / "cert.pem")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("tls")
    with site(folder / "site", GATEWAY_PUBLIC_URL="https://localhost:8443") as found:
        self_signed("localhost", "127.0.0.1").write_pair(folder)
        yield found


@pytest.fixture(scope="module", params=sorted(COMMANDS_OF_TLS))
def front(request: pytest.FixtureRequest, house: Site) -> Iterator[Front]:
    with fronts(request.param, house, house.folder.parent) as found:
        login = {"email": EMAIL, "password": PASSWORD}
        if EMAIL not in house.users:
            house.users[EMAIL] = json_of(found, "/auth/register", login, 201)
        found.token = json_of(found, "/auth/login", login, 200)["access_token"]
        yield found


def json_of(front: Front, path: str, value: object, status: int) -> Any:
    text = json.dumps(value).encode()
    json_type = ("Content-Type", "application/json")
    _, answer = front.call("2", "POST", path, json_type, body=text)
    assert answer.status == status, answer
    return answer.json


def received(answer: Answer) -> dict[str, str]:
    assert answer.status == 200, answer
    return {name.lower(): value for name, value in answer.json["fields"]}


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_call_over_tls_arrives_with_who_calls_and_how(front: Front, version: str) -> None:
    spoken, answer = front.call(version, "GET", "/me?a=b%20c", front.bearer())
    assert spoken == version
    fields = received(answer)
    assert answer.json["target"] == "/me?a=b%20c"
    assert fields["x-auth-user-id"] == front.house.users[EMAIL]["user_id"]
    assert fields["x-forwarded-proto"] == "https"
    assert fields["host"] == fields["x-forwarded-host"] == f"localhost:{front.port}"
    assert answer.get("strict-transport-security")


@pytest.mark.parametrize("front", ["caddy", "haproxy", "nginx"], indirect=True)
def test_http_3_is_spoken_too(front: Front) -> None:
    spoken, answer = front.call("3-only", "GET", "/me", front.bearer())
    assert spoken == "3"
    fields = received(answer)
    assert fields["x-forwarded-proto"] == "https"
    # nginx knows the name, and of the port only that it is its own.
    assert fields["host"] in (f"localhost:{front.port}", "localhost")


def test_no_word_of_a_client_on_how_it_came_is_believed(front: Front) -> None:
    lies = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "for=203.0.113.9;host=evil.example;proto=http"),
        ("X-Auth-User-Id", "root"),
        ("X_Auth_User_Id", "root"),
        ("X-Forwarded-User", "root"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Forwarded-Port", "666"),
        ("X-Forwarded-Server", "evil.example"),
        ("X-Forwarded-Client-Cert", "By=evil"),
        ("X-Forwarded-Tls-Client-Cert", "evil"),
        *((name, "for=203.0.113.9;host=evil.example") for name in TOLD_BY_PROXIES),
    ]
    fields = received(front.call("2", "GET", "/me", front.bearer(), *lies)[1])
    said = json.dumps(fields)
    assert "203.0.113.9" not in said
    assert "evil" not in said
    assert "root" not in said
    assert "666" not in fields.values()
    assert fields["x-forwarded-proto"] == "https"
    assert fields["x-forwarded-for"].startswith("127.0.0.1")


def test_a_body_of_several_megabytes_arrives_whole(front: Front) -> None:
    body = b"0123456789abcdef" * 200_000
    path = f"/users/{front.house.users[EMAIL]['user_id']}/orders"
    _, answer = front.call("2", "POST", path, front.bearer(), body=body)
    assert received(answer)
    assert answer.json["body"].encode() == body


def test_a_refusal_is_the_gateways_own(front: Front) -> None:
    _, answer = front.call("2", "GET", "/me")
    assert (answer.status, answer.reason) == (401, "no_credential")
    _, answer = front.call("2", "GET", "/nowhere", front.bearer())
    assert (answer.status, answer.reason) == (404, "route_unknown")


@pytest.mark.parametrize("path", ["/catalogue/a%2fb", "/catalogue/%2e%2e/me", "/catalogue//me"])
def test_a_path_with_two_readings_reaches_no_backend(front: Front, path: str) -> None:
    before = len(front.house.echo.seen)
    _, answer = front.call("2", "GET", path, front.bearer())
    assert answer.status in (400, 401, 404)
    assert len(front.house.echo.seen) == before


def test_a_cookie_session_works_over_https(front: Front) -> None:
    login = {"email": EMAIL, "password": PASSWORD, "transport": "cookie"}
    own = [("Content-Type", "application/json"), ("Sec-Fetch-Site", "same-origin")]
    _, signed = front.call("2", "POST", "/auth/login", *own, body=json.dumps(login).encode())
    assert signed.status == 200, signed
    session = next(c for c in signed.all("set-cookie") if c.startswith("__Host-session="))
    cookie = ("Cookie", session.partition(";")[0])
    fields = received(front.call("2", "GET", "/me", cookie, own[1])[1])
    assert fields["x-auth-email"] == EMAIL


def test_a_websocket_handshake_reaches_the_backend_as_one(front: Front) -> None:
    context = ssl.create_default_context(cafile=str(front.ca))
    context.set_alpn_protocols(["http/1.1"])
    before = len(front.house.echo.seen)
    with (
        socket.create_connection(("127.0.0.1", front.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        lines = [
            "GET /me HTTP/1.1",
            f"Host: localhost:{front.port}",
            f"Authorization: Bearer {front.token}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ]
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        assert sock.recv(12) == b"HTTP/1.1 200"
    (seen,) = front.house.echo.seen[before:]
    assert ["Upgrade", "websocket"] in seen["fields"]


def test_old_tls_is_refused(front: Front) -> None:
    words = ["--cacert", str(front.ca), "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"]
    url = f"https://localhost:{front.port}/catalogue/a"
    done = subprocess.run(
        ["curl", "-q", "-sS", "--noproxy", "*", *words, url], capture_output=True, check=False
    )
    assert done.returncode == 35, done
