"""TLS to an upstream: nothing is sent before its certificate was verified."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.access.definitions import Health, Tls, Upstream, UpstreamTarget
from gateway.config.upstream_tls import TlsContexts
from tests.certificates import Authority
from tests.edge.rig import HUNG_S, OK, Rig, running

BOTH_LOOPS = True

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
SECURE = UpstreamTarget("https://x", "https", "x", 443)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def secured(
    authority: Authority, tls: Tls | None, *, asks: bool = False, name: str = "localhost"
) -> AsyncIterator[tuple[Rig, list[bytes]]]:
    """The gateway before an upstream that shows a certificate for `name`, and may ask for one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(name))
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.file)
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                seen.append(head)
                writer.write(OK)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with running() as rig:
        where = UpstreamTarget(f"https://localhost:{port}", "https", "localhost", port)
        rig.spec(targets=(where,), tls=tls)
        yield rig, seen
    server.close()


async def test_an_upstream_with_a_certificate_of_nobody_known_is_502(authority: Authority) -> None:
    async with secured(authority, None) as (rig, seen):
        assert (await rig.ask(GET)).status == 502
        assert not seen


async def test_an_authority_of_the_upstreams_own_is_believed(authority: Authority) -> None:
    async with secured(authority, Tls(str(authority.file))) as (rig, seen):
        assert (await rig.ask(GET)).status == 200
        assert len(seen) == 1


async def test_a_certificate_for_another_name_is_502(authority: Authority) -> None:
    tls = Tls(str(authority.file))
    async with secured(authority, tls, name="elsewhere") as (rig, seen):
        assert (await rig.ask(GET)).status == 502
        assert not seen


async def test_a_client_certificate_is_shown_to_who_asks(authority: Authority) -> None:
    tls = Tls(str(authority.file), *authority.issue("authgate"))
    async with secured(authority, tls, asks=True) as (rig, seen):
        assert (await rig.ask(GET)).status == 200
        assert len(seen) == 1


async def test_who_asks_for_a_certificate_and_gets_none_gets_no_call(authority: Authority) -> None:
    async with secured(authority, Tls(str(authority.file)), asks=True) as (rig, seen):
        assert (await rig.ask(GET)).status == 502
        assert not seen


async def test_a_file_that_is_not_there_is_502_and_no_defect(authority: Authority) -> None:
    async with secured(authority, Tls(str(authority.folder / "lost.pem"))) as (rig, seen):
        rig.spec(health=Health("/healthz", every_s=0.25, fall=1))
        assert (await rig.ask(GET)).status == 502
        assert not seen


async def test_a_configuration_that_believes_others_uses_no_connection_of_before(
    authority: Authority,
) -> None:
    async with secured(authority, Tls(str(authority.file))) as (rig, seen):
        for tls, status in ((Tls(str(authority.file)), 200), (None, 502)):
            assert (await rig.ask(GET)).status == 200
            rig.spec(tls=tls)
            rig.clusters.apply([rig.gate.route.upstream])  # type: ignore[list-item]
            assert (await rig.ask(GET)).status == status
        assert len(seen) == 3


async def test_probes_verify_as_calls_do(authority: Authority) -> None:
    async with secured(authority, Tls(str(authority.file))) as (rig, seen):
        rig.spec(health=Health("/healthz"))
        rig.clusters.apply([rig.gate.route.upstream])  # type: ignore[list-item]
        async with asyncio.timeout(HUNG_S):
            while not seen:
                await asyncio.sleep(0.01)
        assert seen[0].startswith(b"GET /healthz ")


def test_the_context_verifies_and_is_made_once_for_what_the_files_hold(
    authority: Authority,
) -> None:
    tls = Tls(str(authority.file))
    contexts = TlsContexts()
    context = contexts.context(tls)
    assert context is contexts.context(tls)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    os.utime(authority.file, ns=(0, 1))
    assert contexts.context(tls) is not context


async def test_a_call_that_a_reload_overtakes_is_sent_again_with_the_certificate_of_its_upstream(
    authority: Authority,
) -> None:
    """Two upstreams have one target, and show it different certificates.  A reload removes one and
    names other files for the other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("localhost"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    go = asyncio.Event()
    seen: list[tuple[bytes, str]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        certificate = writer.get_extra_info("peercert")
        shown = dict(name for (name,) in certificate["subject"])["commonName"]
        calls = 0
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split()[1]
                seen.append((path, shown))
                calls += 1
                if path != b"/warm" and calls == 2:
                    await go.wait()
                    writer.transport.abort()
                    return
                writer.write(OK)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    where = UpstreamTarget(f"https://localhost:{port}", "https", "localhost", port)
    ca = str(authority.file)
    admin, user = (Tls(ca, *authority.issue(name)) for name in ("admin", "user"))
    a = Upstream("a", (where,), tls=admin)
    b = Upstream("b", (where,), tls=user)
    async with running() as rig:
        rig.clusters.apply([a, b])
        calls = []
        for spec, path in ((a, b"/a"), (b, b"/b")):
            rig.route(upstream=spec)
            assert (await rig.ask(b"GET /warm HTTP/1.1\r\nHost: x\r\n\r\n")).status == 200
            client = await rig.client()
            await client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
            async with asyncio.timeout(HUNG_S):
                while path not in [asked for asked, _ in seen]:
                    await asyncio.sleep(0.01)
            calls.append(client)
        renewed = Tls(ca, *authority.issue("renewed"))
        rig.clusters.apply([replace(a, tls=renewed)])
        go.set()
        assert [(await client.answer()).status for client in calls] == [200, 200]
        for path, shown in ((b"/a", "admin"), (b"/b", "user")):
            assert [each for asked, each in seen if asked == path] == [shown, shown]
    server.close()
