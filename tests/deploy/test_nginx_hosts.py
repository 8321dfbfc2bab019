"""nginx with several hosts, each with a backend of its own, as `/decide/nginx` is made for."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.contract.answers import read_answer
from tests.contract.running import Running
from tests.deploy.proxies import COMMANDS, DEPLOY, Ports, require, running, site

ROUTES = """\
  - id: shown
    match: {host: shown.example, path: /page}
    auth: public
    upstream: shop
  - id: inner
    match: {host: inner.example, path: /page}
    policy: signed-in
    upstream: shop
"""


@dataclass
class Front:
    running: Running
    port: int

    def ask(self, target: str, host: str) -> tuple[int, str | None]:
        """The status, and the site whose backend was reached; None where none was."""
        before = len(self.running.echo.seen)
        request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.port), 10) as client:
            client.sendall(request.encode())
            answer = read_answer(client.makefile("rb"), "GET")
        seen = self.running.echo.seen[before:]
        sites = [value for one in seen for name, value in one["fields"] if name == "X-Site"]
        return answer.status, sites[0] if sites else None


def _two_hosts(folder: Path, ports: Ports) -> tuple[list[str], Mapping[str, str]]:
    """The example with a `server` for each host, whose backend is told which one it is."""
    command = COMMANDS["nginx"](folder, ports)
    conf = folder / "nginx.conf"
    text = conf.read_text()
    (server,) = re.findall(r"    server \{\n.*?\n    \}\n", text, re.DOTALL)
    servers = ""
    for name in ("shown", "inner"):
        one = server.replace("server_name _;", f"server_name {name}.example;")
        servers += one.replace("proxy_pass", f"proxy_set_header X-Site {name};\n proxy_pass")
    conf.write_text(text.replace(server, servers))
    return command


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    require("nginx")
    folder = tmp_path_factory.mktemp("hosts")
    with site(folder, ROUTES) as house:
        ports = house.ports()
        with running(_two_hosts, ports, folder / "nginx"):
            yield Front(house.seen_at(ports.proxy), ports.proxy)


@pytest.mark.parametrize("host", ["shown.example", "SHOWN.example", "shown.example:8000"])
def test_each_spelling_of_a_host_is_judged_as_that_host(front: Front, host: str) -> None:
    assert front.ask("/page", host) == (200, "shown")
    assert front.ask("/page", host.lower().replace("shown", "inner")) == (401, None)


def test_a_target_that_names_its_host_is_judged_as_any_other(front: Front) -> None:
    assert front.ask("http://shown.example/page", "shown.example") == (200, "shown")
    assert front.ask("http://inner.example/page", "inner.example") == (401, None)


def test_no_host_is_judged_in_the_place_of_the_one_that_is_served(front: Front) -> None:
    # RFC 9112 section 3.2.2: nginx chooses its server by the target, whatever `Host` says.
    assert front.ask("http://inner.example/page", "shown.example") == (400, None)
    assert front.ask("http://shown.example/page", "inner.example") == (400, None)


def test_ingress_nginx_tells_the_host_by_which_it_chose() -> None:
    resources = yaml.safe_load_all((DEPLOY / "gateway-api" / "ingress-nginx.yaml").read_text())
    (question,) = [one for one in resources if one["kind"] == "ConfigMap"]
    assert question["data"]["X-Original-Host"] == "$host"
