"""The examples behind a load balancer: whom they believe once it is named, and whom not before."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import self_signed
from tests.contract.echo import Echo
from tests.deploy.proxies import (
    COMMANDS,
    COMMANDS_OF_TLS,
    TOLD_BY_PROXIES,
    Command,
    Ports,
    changed,
    require,
    running,
)
from tests.ports import free_port
from tests.upstreams.clients import curl

CLIENT = "203.0.113.9"
"""Whom a load balancer names."""
BALANCER = "127.0.0.1"
FORGED = "6.6.6.6"

WRITTEN = [
    ("X-Forwarded-For", CLIENT),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "shop.example"),
]
BELIEVED = {name.lower(): value for name, value in WRITTEN}

NAMED_IN_CADDY = r"reverse_proxy \S+ \{", rf"\g<0>\ntrusted_proxies {BALANCER}/32"


@pytest.fixture
def echo() -> Iterator[Echo]:
    """Stands for authgate and for the backend, and says what either is sent."""
    with Echo() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


WHO_CALLS = [
    f"X-Forwarded-{name}"
    for name in ("Remote-User", "Roles", "Id-Token", "Identity", "Cert", "Common-Name", "Tenant",
                 "Token", "Uid", "Name", "Login", "Account", "Principal", "Profile")
]  # fmt: skip
"""What nobody tells, and some backend may take for that."""


def sent(
    command: Command, echo: Echo, folder: Path, scheme: str, *more: str
) -> list[dict[str, list[str]]]:
    """What is sent on of one call of the balancer, each request by itself: fields by their names."""
    port = echo.server_address[1]
    ports = Ports(free_port(), public=port, admin=port, shop=port)
    forged = [(name, FORGED) for name in (*TOLD_BY_PROXIES, *more) if name not in BELIEVED]
    with running(command, ports, folder):
        url = f"{scheme}://{BALANCER}:{ports.proxy}/catalogue/a"
        _, answer = curl("GET", url, WRITTEN + forged, words=["--insecure"])
        assert answer.status == 200, answer
    calls = []
    for seen in echo.seen:
        if seen["target"] in ("/readyz", "/healthz"):
            continue
        fields: dict[str, list[str]] = {}
        for name, value in seen["fields"]:
            fields.setdefault(name.lower(), []).append(value)
        calls.append(fields)
    return calls


def test_caddy_overwrites_what_a_stranger_says(echo: Echo, tmp_path: Path) -> None:
    require("caddy")
    question, call = sent(COMMANDS["caddy"], echo, tmp_path / "caddy", "http", *WHO_CALLS)
    for fields in (question, call):
        assert fields["x-forwarded-for"] == [BALANCER]
        assert fields["x-forwarded-proto"] == ["http"]
        assert fields["x-forwarded-host"][0].startswith(f"{BALANCER}:")
        assert [name for name, values in fields.items() if FORGED in values] == []


def test_caddy_keeps_what_a_balancer_says_that_it_trusts(echo: Echo, tmp_path: Path) -> None:
    require("caddy")
    trusting = changed(COMMANDS["caddy"], "Caddyfile", lambda text: re.sub(*NAMED_IN_CADDY, text))
    question, call = sent(trusting, echo, tmp_path / "caddy", "http", *WHO_CALLS)
    for fields in (question, call):
        assert {name: fields[name] for name in BELIEVED} == {
            "x-forwarded-for": [f"{CLIENT}, {BALANCER}"],
            "x-forwarded-proto": ["https"],
            "x-forwarded-host": ["shop.example"],
        }
        # Of what else tells of a call its word is none.
        assert [name for name, values in fields.items() if FORGED in values] == []


@pytest.mark.parametrize(
    ("name", "file", "line", "named"),
    [
        ("caddy", "Caddyfile", *NAMED_IN_CADDY),
        ("envoy", "envoy.yaml", "xff_num_trusted_hops: 0", "xff_num_trusted_hops: 1"),
        (
            "nginx",
            "nginx.conf",
            r"http \{",
            rf"\g<0> set_real_ip_from {BALANCER}; real_ip_header X-Forwarded-For;",
        ),
        (
            "haproxy",
            "haproxy.cfg",
            "http-request del-header X-Forwarded- ",
            rf"http-request set-src req.hdr(X-Forwarded-For) if {{ src {BALANCER} }}\n\g<0>",
        ),
    ],
)
def test_authgate_behind_a_proxy_is_told_of_the_client_that_a_named_balancer_has(
    name: str, file: str, line: str, named: str, echo: Echo, tmp_path: Path
) -> None:
    require(name)
    self_signed("localhost", BALANCER).write_pair(tmp_path)
    shipped = COMMANDS_OF_TLS[name]
    trusting = changed(shipped, file, lambda text: re.sub(line, named, text))
    for command, client in ((shipped, BALANCER), (trusting, CLIENT)):
        echo.seen.clear()
        (fields,) = sent(command, echo, tmp_path / client, "https")
        (hops,) = fields["x-forwarded-for"]
        assert next((hop for hop in hops.split(", ") if hop != BALANCER), BALANCER) == client
        assert fields["x-forwarded-proto"] == ["https"]
