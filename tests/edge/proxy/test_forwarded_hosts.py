"""A trusted proxy that passes a client's word on the host: the host that was judged is the one that
the backend is told."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from tests.edge.rig import Rig, running

BOTH_LOOPS = True
TRUSTED = [ip_network("127.0.0.1/32")]
ASKED = b"GET /a HTTP/1.1\r\nHost: shown.example:8080\r\n%b\r\n\r\n"


def publish(rig: Rig) -> None:
    hosts = ("shown.example", "inner.example", "*.inner.example")
    rig.publish(replace(rig.gate.route, hosts=hosts))


@pytest.mark.parametrize(
    "field",
    [b"X-Forwarded-Host: inner.example", b"X-Forwarded-Host: INNER.example.:443",
     b"x-forwarded-host: shown.example, inner.example", b"X-Forwarded-Host: inner.example,shown.example",
     b"X-Forwarded-Host: shown.example\r\nX-Forwarded-Host: a.inner.example",
     b"Forwarded: for=192.0.2.1;host=inner.example;proto=http",
     b"Forwarded: for=192.0.2.1, for=192.0.2.2; Host=\"inner.example:80\"",
     b"X-Forwarded-Host: " + b"a," * 40,
     # Nobody's host by the letter; Express, Rails and Django cut what stands behind the name, and
     # who reads RFC 7239 takes the backslash of a quoted text away.
     b"X-Forwarded-Host: inner.example:99999", b"X-Forwarded-Host: inner.example:0",
     b"X-Forwarded-Host: inner.example:x", b"X-Forwarded-Host: inner.example/",
     b"X-Forwarded-Host: .inner.example", b"X-Forwarded-Host: http://inner.example",
     b"X-Forwarded-Host: x@inner.example", b"X-Forwarded-Host: a.inner.example:443:1",
     b"Forwarded: host=inner.example:99999", b"Forwarded: for=192.0.2.1;host = inner.example",
     b"Forwarded: host=\"inner.ex\\ample\""],
)  # fmt: skip
async def test_the_host_of_another_route_is_refused(field: bytes) -> None:
    async with running(trusted=TRUSTED) as rig:
        publish(rig)
        answer = await rig.ask(ASKED % field)
        assert answer.status == 400
        assert b"host_mismatch" in answer.body
        assert not rig.upstream.requests


@pytest.mark.parametrize(
    "field",
    [b"X-Forwarded-Host: shown.example", b"X-Forwarded-Host: SHOWN.example:443",
     b"X-Forwarded-Host: public.example", b"X-Forwarded-Host: x.y.inner.example",
     b"Forwarded: for=\"[2001:db8::1]\";host=shown.example", b"X-Forwarded-Host: ///",
     b"X-Forwarded-Host: shown.example:99999", b"X-Forwarded-Host: http://public.example/x",
     b"Forwarded: ghost=inner.example", b"X-Forwarded-For: 192.0.2.1"],
)  # fmt: skip
async def test_the_same_host_and_one_that_no_route_names_pass(field: bytes) -> None:
    async with running(trusted=TRUSTED) as rig:
        publish(rig)
        assert (await rig.ask(ASKED % field)).status == 200
        name, _, value = field.partition(b": ")
        told = b", ".join(rig.upstream.requests[0].values(name.decode().lower()))
        assert value in told


async def test_a_strangers_word_is_not_so_much_as_read() -> None:
    async with running() as rig:
        publish(rig)
        assert (await rig.ask(ASKED % b"X-Forwarded-Host: inner.example")).status == 200
        told = rig.upstream.requests[0].values("x-forwarded-host")
        assert told == [b"shown.example:8080"]
