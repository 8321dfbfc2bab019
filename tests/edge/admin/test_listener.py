"""The admin listener: who may ask it, and what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest

from gateway.edge.admin.listener import AdminListener, AdminOptions
from gateway.edge.proxy.request import CallReader
from gateway.edge.server.listener import Listener
from tests.edge.console.house import TOKEN, Mails, Workers, console_house
from tests.edge.rig import listen


class Admin:
    """A listener on a port of its own."""

    def __init__(self, base: str, session: aiohttp.ClientSession, workers: Workers) -> None:
        self._base, self._session, self.workers = base, session, workers

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, str]:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.request(method, self._base + path, headers=fields) as answer:
            return answer.status, answer.headers, await answer.text()


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    async with console_house() as house:
        yield Admin(house.base, house.session, house.workers)


@pytest.fixture
async def admin_off_loopback() -> AsyncIterator[Admin]:
    workers, reader = Workers(), CallReader()
    listener = Listener(AdminListener(AdminOptions(frozenset()), workers, reader, Mails()), reader)
    listener.start()
    port = await listen(listener)
    async with aiohttp.ClientSession() as session:
        yield Admin(f"http://127.0.0.1:{port}", session, workers)
    await listener.stop(0.1)


async def test_the_process_lives(admin: Admin) -> None:
    status, _, text = await admin.get("/healthz")
    assert (status, json.loads(text)) == (200, {"status": "ok"})


async def test_readiness_lists_every_worker_with_its_configuration(admin: Admin) -> None:
    status, _, text = await admin.get("/readyz")
    document = json.loads(text)
    assert (status, document["ready"]) == (200, True)
    assert [w["configuration"]["version"] for w in document["workers"]] == ["house-1", "house-1"]
    assert document["workers"][0]["dependencies"] == {"sql": "open"}
    assert document["workers"][0]["issuers"]["company"]["age_s"] == 7


async def test_a_worker_that_cannot_decide_makes_the_node_unready(admin: Admin) -> None:
    admin.workers.ready = False
    assert (await admin.get("/readyz"))[0] == 503


async def test_metrics_are_those_of_all_workers(admin: Admin) -> None:
    status, headers, text = await admin.get("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'outcome="route_public",route="a",status="200"} 2.0' in text


async def test_however_many_ask_for_metrics_they_are_made_once(admin: Admin) -> None:
    """With a thousand routes twenty scrapers kept every call waiting for a second."""
    gathered, gather = 0, admin.workers.gather

    async def slowly() -> list[Mapping[str, Any]]:
        nonlocal gathered
        gathered += 1
        await asyncio.sleep(0.5)
        return await gather()

    admin.workers.gather = slowly  # type: ignore[method-assign]
    answers = await asyncio.gather(*(admin.get("/metrics") for _ in range(20)))
    assert {status for status, _, _ in answers} == {200}
    assert gathered <= 2


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9901", "[::1]:9901", "Admin.Internal"])
async def test_a_host_that_is_ours_is_served(admin: Admin, host: str) -> None:
    assert (await admin.get("/healthz", Host=host))[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example.com", "127.0.0.1.evil.example.com", "10.0.0.1", "localhost.", "[::2]"]
)
async def test_a_page_that_points_its_own_name_at_us_reads_nothing(admin: Admin, host: str) -> None:
    for path in ("/healthz", "/metrics", "/admin"):
        status, _, text = await admin.get(path, Host=host)
        assert (status, json.loads(text)["reason"]) == (403, "host_mismatch")
        assert json.loads(text)["status"] == 403
        # A probe by address is told how to be let in.
        assert "GATEWAY_ADMIN_HOSTS" in json.loads(text)["detail"]
        assert host not in text


@pytest.mark.parametrize("path", ["/admin/api/state", "/admin/api/outbox"])
async def test_the_api_asks_for_a_token(admin: Admin, path: str) -> None:
    status, headers, text = await admin.get(path)
    assert (status, json.loads(text)["reason"]) == (401, "no_credential")
    assert headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        ("bearer token-of-admin", 200),
        ("Bearer token-of-user", 403),
        ("Bearer wrong", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Basic {TOKEN}", 401),
        ("Bearer", 401),
        ("", 401),
    ],
)
async def test_only_the_local_token_or_an_admin_sees_the_state(
    admin: Admin, authorization: str, status: int
) -> None:
    assert (await admin.get("/admin/api/state", Authorization=authorization))[0] == status


async def test_a_cookie_of_the_console_is_none_of_the_api(admin: Admin) -> None:
    """What a browser adds by itself reads nothing that is made for programs."""
    _, headers, _ = await admin.get("/admin/sign-in")
    assert "Set-Cookie" not in headers
    status, _, _ = await admin.get("/admin/api/state", Cookie=f"__Host-console={TOKEN}")
    assert status == 401


async def test_a_right_token_in_the_query_is_not_looked_at(admin: Admin) -> None:
    assert (await admin.get(f"/admin/api/state?token={TOKEN}"))[0] == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
async def test_a_foreign_origin_is_refused_even_with_the_token(
    admin: Admin, headers: dict[str, str]
) -> None:
    status, _, text = await admin.get(
        "/admin/api/state", Authorization=f"Bearer {TOKEN}", **headers
    )
    assert (status, json.loads(text)["reason"]) == (403, "cross_origin")


async def test_the_outbox_is_shown_as_data(admin: Admin) -> None:
    status, headers, text = await admin.get("/admin/api/outbox", Authorization=f"Bearer {TOKEN}")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(text)["mails"][0]["subject"] == "<b>Hi</b>"


async def test_who_reads_the_links_of_mails_is_written_down() -> None:
    """Each sets the password of whomever it was written to."""
    async with console_house() as house:
        path = "/admin/api/outbox"
        assert (await house.ask(path, Authorization="Bearer token-of-user")).status == 403
        assert (await house.ask("/admin/api/state", Authorization=f"Bearer {TOKEN}")).status == 200
        assert house.events.mail_reads == []
        assert (await house.ask(path, Authorization=f"Bearer {TOKEN}")).status == 200
        await house.sign_in()
        assert "&lt;b&gt;Hi" in (await house.ask("/admin")).text
        read = house.events.mail_reads
        assert {(event.actor, event.address, event.detail["mails"]) for event in read} == {
            ("local-token", "127.0.0.1", 1)
        }
        assert all(event.request_id for event in read)
        assert len(read) >= 2


async def test_off_loopback_there_is_no_page(admin_off_loopback: Admin) -> None:
    for path in ("/admin", "/admin/api/state"):
        status, _, _ = await admin_off_loopback.get(path, Authorization=f"Bearer {TOKEN}")
        assert status == 404
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await admin_off_loopback.get(path))[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_another_method_is_refused(admin: Admin, method: str) -> None:
    status, headers, _ = await admin.get("/readyz", method=method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path", ["/", "/adminx", "/admin/api/x", "/metrics/", "/auth/login", "//healthz"]
)
async def test_what_is_not_there_is_404(admin: Admin, path: str) -> None:
    assert (await admin.get(path))[0] == 404


async def test_no_answer_names_a_library(admin: Admin) -> None:
    for path in ("/healthz", "/metrics", "/admin", "/nothing"):
        _, headers, _ = await admin.get(path)
        assert headers["Server"] == "authgate"
        assert headers["Cache-Control"] == "no-store"
