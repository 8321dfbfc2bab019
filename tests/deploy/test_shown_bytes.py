"""What is judged behind Envoy is what its backend reads, byte by byte.

Envoy shows an authorizer `!` for each byte that is not UTF-8, and sends the byte on: what `/admin!`
is allowed must not be served as `/admin` by a backend that cuts such bytes off.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.contract.answers import Answer, read_answer
from tests.contract.running import Running
from tests.deploy.proxies import COMMANDS, DEPLOY, Site, require, running, site
from tests.deploy.test_gateway_api import envoy_of
from tests.deploy.test_shown_calls import ROUTES, TEAMS
from tests.upstreams.clients import curl

ENVOYS = {
    **{name: COMMANDS[name] for name in ("envoy", "envoy-grpc")},
    **{name: envoy_of(name) for name in ("envoy-gateway-http", "envoy-gateway-grpc")},
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("site")
    (folder / "policies").mkdir()
    (folder / "policies" / "teams.yaml").write_text(TEAMS)
    with site(folder, ROUTES) as found:
        yield found


@pytest.fixture(scope="module", params=ENVOYS)
def front(request: pytest.FixtureRequest, house: Site) -> Iterator[Running]:
    require("envoy")
    ports = house.ports()
    with running(ENVOYS[request.param], ports, house.folder / f"{request.param}-{ports.proxy}"):
        yield house.seen_at(ports.proxy)


def over_http_2(front: Running, target: bytes, *fields: tuple[str, bytes], **more: str) -> Answer:
    """HTTP/1.1 takes no such target."""
    words = ["--http2-prior-knowledge", "--request-target", os.fsdecode(target)]
    told = [(name, os.fsdecode(value)) for name, value in fields]
    spoken, answer = curl(
        more.get("method", "GET"), f"http://127.0.0.1:{front.port}/", told, words=words
    )
    assert spoken == "2"
    return answer


@pytest.mark.parametrize("more", [b"\xa0", b"\x85", b"\xe9", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80"])
def test_no_byte_that_is_shown_as_another_reaches_a_backend(front: Running, more: bytes) -> None:
    before = len(front.echo.seen)
    assert over_http_2(front, b"/list?team=hr").status == 403
    for target in (b"/list?team=hr" + more, b"/plain" + more, b"/plain" + more + b"/x"):
        assert over_http_2(front, target).status == 400
    answer = over_http_2(
        front, b"/dav/ann/a", ("Destination", b"/dav/ann/x" + more + b"y"), method="MOVE"
    )
    assert answer.status == 400
    assert len(front.echo.seen) == before


def test_text_and_what_is_escaped_arrive(front: Running) -> None:
    name = "né € 😀".encode()
    for target in (b"/list?team=h%C3%A9!", b"/plain?a=!%A0"):
        answer = over_http_2(front, target, ("X-Name", name), ("Cookie", b"theirs=" + name))
        assert answer.status == 200
        assert answer.json["target"].encode() == target
        fields = {key.lower(): value.encode("latin-1") for key, value in answer.json["fields"]}
        assert fields["x-name"] == name
        assert fields["cookie"] == b"theirs=" + name


PIECES = st.sampled_from(
    [b"a", b"!", *(bytes([n]) for n in (0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xDF)),
     *(bytes([n]) for n in (0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5)),
     *(chr(n).encode() for n in (0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF))]
)  # fmt: skip


@pytest.fixture(scope="module")
def over_http(house: Site) -> Iterator[Running]:
    require("envoy")
    with house.behind("envoy") as found:
        yield found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=st.lists(PIECES, min_size=1, max_size=5).map(b"".join))
@example(b"\xc2\xc2\xa0\xa0")
@example(b"\xf0\xe1\x80\x80\x80")
def test_over_http_a_field_passes_where_it_is_utf_8_and_nowhere_else(
    over_http: Running, value: bytes
) -> None:
    try:
        value.decode()
    except UnicodeDecodeError:
        expected = 400
    else:
        expected = 200
    with socket.create_connection(("127.0.0.1", over_http.port), 30) as client:
        client.sendall(b"GET /plain HTTP/1.1\r\nHost: a\r\nX-Any: %b\r\n\r\n" % value)
        # Its end is not waited for: Envoy takes a second for it.
        assert read_answer(client.makefile("rb"), "GET").status == expected


def test_each_envoy_has_the_one_script() -> None:
    config = yaml.safe_load((DEPLOY / "envoy" / "envoy.yaml").read_text("utf-8"))
    (listener,) = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    first = manager["http_filters"][0]["typed_config"]
    scripts = {first["default_source_code"]["inline_string"]}
    for name in ("envoy-gateway-http", "envoy-gateway-grpc"):
        manifests = yaml.safe_load_all((DEPLOY / "gateway-api" / f"{name}.yaml").read_text("utf-8"))
        (policy,) = [one for one in manifests if one["kind"] == "EnvoyExtensionPolicy"]
        scripts |= {one["inline"] for one in policy["spec"]["lua"]}
    assert len(scripts) == 1
