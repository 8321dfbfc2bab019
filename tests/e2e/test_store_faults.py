"""Redis and PostgreSQL fail in every way behind a running gateway, and nobody is answered 500.

Two workers reach both stores through a proxy that breaks connections.  During each fault every
endpoint that stands on a store is asked, and afterwards all is well again by itself.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.contract.answers import Answer
from tests.contract.running import ROUTES, Running, started
from tests.e2e.processes import ready, until, workers
from tests.faults import EVERY, Fault, FaultProxy
from tests.servers import PostgresServer, ValkeyServer

pytestmark = pytest.mark.slow

PASSWORD = "correct horse 7 battery"
FAULT_S = 2.5
A_BUSY_MACHINE_S = 2.0
"""What a promise of a time may take longer where everything is slow."""
JSON = ("Content-Type", "application/json")
FORM = ("Content-Type", "application/x-www-form-urlencoded")


@dataclass
class Ways:
    """The proxies, on a loop of their own."""

    loop: asyncio.AbstractEventLoop
    redis: FaultProxy
    sql: FaultProxy

    def set(self, store: str, fault: Fault) -> None:
        way: FaultProxy = getattr(self, store)
        asyncio.run_coroutine_threadsafe(way.set(fault), self.loop).result(10)

    def reset_idle(self, store: str) -> None:
        """Done when it returns: whoever asks after it uses no connection that is reset later."""
        way: FaultProxy = getattr(self, store)
        asyncio.run_coroutine_threadsafe(way.reset_idle(), self.loop).result(10)


@contextmanager
def proxied(redis_port: int, sql_port: int) -> Iterator[Ways]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(10)

    ways = Ways(loop, FaultProxy(("127.0.0.1", redis_port)), FaultProxy(("127.0.0.1", sql_port)))
    run(ways.redis.start())
    run(ways.sql.start())
    try:
        yield ways
    finally:
        run(ways.redis.stop())
        run(ways.sql.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


@dataclass
class Town:
    gateway: Running
    ways: Ways
    token: str
    cookie: str
    api_key: str
    machine: str
    """`client_id:client_secret` in base64, for client_secret_basic."""
    others: list[str] = field(default_factory=list)
    """Refresh tokens to be used up."""
    email: str = ""
    device: str = ""
    """The device cookie of that account, so that others' guesses do not keep it from signing in."""

    def newcomer(self) -> None:
        """Another account signs in from now on: where a fault took the answer that gave an
        attempt back, it stays counted for 15 minutes."""
        self.email = f"a{time.monotonic_ns()}@example.com"
        login = {"email": self.email, "password": PASSWORD}
        assert self.gateway.call("POST", "/auth/register", json_body=login).status == 201
        answer = self.gateway.call("POST", "/auth/login", json_body=login)
        self.device = _cookies(answer)["__Host-device"]

    def questions(self) -> dict[str, Callable[[], Answer]]:
        """Every endpoint that stands on a store, and what goes through the gate."""
        g, cookie = self.gateway, ("Cookie", f"__Host-session={self.cookie}")
        same = ("Sec-Fetch-Site", "same-origin")
        device = ("Cookie", f"__Host-device={self.device}")
        basic = ("Authorization", f"Basic {self.machine}")

        def post(path: str, body: Any, *fields: tuple[str, str], token: str | None = None) -> Any:
            return lambda: g.call("POST", path, *fields, json_body=body, token=token)

        def form(path: str, text: str) -> Any:
            return lambda: g.call("POST", path, basic, FORM, body=text.encode())

        def get(path: str, *fields: tuple[str, str], token: str | None = None) -> Any:
            return lambda: g.call("GET", path, *fields, token=token)

        account = {"email": self.email, "password": PASSWORD}
        new = {"email": f"n{time.monotonic_ns()}@example.com", "password": PASSWORD}
        never = "A" * 43
        return {
            "login": post("/auth/login", account, device),
            "login wrong": post("/auth/login", {"email": "x@example.com", "password": "y" * 12}),
            "login cookie": post("/auth/login", {**account, "transport": "cookie"}, device),
            "register": post("/auth/register", new),
            "refresh": lambda: g.call(
                "POST", "/auth/refresh", json_body={"refresh_token": (self.others or [never]).pop()}
            ),
            "refresh cookie": post("/auth/refresh", {}, cookie, same),
            "logout": post("/auth/logout", {"refresh_token": never}),
            "logout unknown cookie": post(
                "/auth/logout", {}, ("Cookie", f"__Host-session={never}"), same
            ),
            "me": get("/auth/me", token=self.token),
            "me cookie": get("/auth/me", cookie, same),
            "sessions": get("/auth/sessions", token=self.token),
            "end a session": lambda: g.call("DELETE", "/auth/sessions/nope", token=self.token),
            "csrf": get("/auth/csrf", cookie, same),
            "captcha": get("/auth/captcha"),
            "forgot": post("/auth/password/forgot", {"email": "fault@example.com"}),
            "reset": post("/auth/password/reset", {"token": never, "password": PASSWORD}),
            "change": post(
                "/auth/password/change",
                {"password": "wrong " + PASSWORD, "new_password": PASSWORD + " more"},
                token=self.token,
            ),
            "resend": post("/auth/email/resend", {"email": "fault@example.com"}),
            "verify": post("/auth/email/verify", {"token": never}),
            "token": form("/auth/token", "grant_type=client_credentials"),
            "introspect": form("/auth/introspect", f"token={self.token}"),
            "revoke": form("/auth/revoke", f"token={never}"),
            "call": get("/me", token=self.token),
            "call cookie": get("/me", cookie, same),
            "call key": get("/me", token=self.api_key),
            "call unknown key id": get("/me", token=_of_an_unknown_key(self.token)),
            "public": get("/public/x"),
            "decide": lambda: g.admin(
                "/decide/nginx",
                ("X-Original-Method", "GET"),
                ("X-Original-URI", "/me"),
                ("X-Original-Host", f"127.0.0.1:{g.port}"),
                ("X-Original-Proto", "http"),
                ("Authorization", f"Bearer {self.token}"),
            ),
            "readyz": lambda: g.admin("/readyz"),
        }

    def ask_everything(self, seconds: float) -> dict[str, Counter[int]]:
        """All of them at once, again and again; the statuses of each."""
        seen: dict[str, Counter[int]] = {}
        began = time.monotonic()

        def ask(name: str, question: Callable[[], Answer]) -> None:
            while True:
                seen.setdefault(name, Counter())[question().status] += 1
                if time.monotonic() > began + seconds:
                    return

        askers = [
            threading.Thread(target=ask, args=each, daemon=True)
            for each in self.questions().items()
        ]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join(seconds + 15)
            assert not asker.is_alive(), "a call without an answer"
        return seen

    def signs_in(self) -> bool:
        login, call = (self.questions()[name]().status for name in ("login", "call"))
        return login == call == 200

    def log(self) -> str:
        return self.gateway.log.read_text("utf-8", "replace")


def _of_an_unknown_key(token: str) -> str:
    head = base64.urlsafe_b64decode(token.partition(".")[0] + "===")
    kid = head.partition(b'"kid":"')[2].partition(b'"')[0]
    other = head.replace(kid, b"x" * len(kid))
    return base64.urlsafe_b64encode(other).rstrip(b"=").decode() + "." + token.split(".", 1)[1]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, postgres_database_url: str) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("faults")
    valkey = ValkeyServer(folder / "valkey").start()
    parts = urlsplit(postgres_database_url)
    routes = ROUTES.replace(
        "version: 1", "version: 1\ndecision_api: {{trusted_peers: [127.0.0.1/32]}}"
    )
    with proxied(valkey.port, parts.port or 5432) as ways:
        login = parts.netloc.rpartition("@")[0]
        through = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{ways.sql.port}"))
        with started(
            folder / "g",
            *("--workers", "2"),
            routes=routes,
            GATEWAY_REDIS_URL=f"redis://127.0.0.1:{ways.redis.port}",
            GATEWAY_DATABASE_URL=through,
        ) as running:
            until(lambda: len(workers(running)) == 2, 20)
            yield _settled(running, ways)
    valkey.kill()


def _settled(running: Running, ways: Ways) -> Town:
    signed = running.sign_in("fault@example.com")
    others = [running.sign_in("fault@example.com")["refresh_token"] for _ in range(30)]
    by_cookie = running.call(
        "POST",
        "/auth/login",
        json_body={"email": "fault@example.com", "password": PASSWORD, "transport": "cookie"},
    )
    made = _json(running.cli("clients", "create", "faults", "--json").stdout)
    key = _json(running.cli("clients", "key", "faults", "--json").stdout)
    basic = base64.b64encode(f"{made['client_id']}:{made['client_secret']}".encode()).decode()
    return Town(
        running,
        ways,
        signed["access_token"],
        _cookies(by_cookie)["__Host-session"],
        key["api_key"],
        basic,
        others,
    )


def _cookies(answer: Answer) -> dict[str, str]:
    return dict(line.partition(";")[0].split("=", 1) for line in answer.all("set-cookie"))


def _json(text: str) -> Any:
    return json.loads(text)


@pytest.mark.parametrize("store", ["redis", "sql"])
@pytest.mark.parametrize("fault", EVERY)
def test_during_a_fault_nothing_is_answered_500_and_it_heals(
    town: Town, store: str, fault: Fault
) -> None:
    town.newcomer()
    until(town.signs_in, 15)
    town.ways.set(store, fault)
    try:
        seen = town.ask_everything(FAULT_S)
    finally:
        town.ways.set(store, Fault.NONE)
    assert {name: count for name, count in seen.items() if count[500]} == {}
    assert set(seen["public"]) == {200}
    assert set(seen["login"]) <= {200, 503}
    until(town.signs_in, 15)
    assert "task-failed" not in town.log()
    assert "Traceback" not in town.log()


ENDS = {
    "UPDATE families SET ended_at": ("POST", "/auth/logout", {"all": True}),
    "password_epoch = password_epoch + 1": (
        "POST",
        "/auth/password/change",
        {"password": PASSWORD, "new_password": f"{PASSWORD} more"},
    ),
    "DELETE FROM accounts": ("DELETE", "/auth/me", None),
}


@pytest.mark.parametrize("statement", ENDS)
def test_what_ended_holds_at_every_worker_though_the_answer_to_its_commit_was_lost(
    town: Town, statement: str
) -> None:
    town.newcomer()
    until(town.signs_in, 15)
    own, other = (town.questions()["login"]().json["access_token"] for _ in range(2))
    method, path, body = ENDS[statement]
    town.ways.sql.lose_commit_of = statement.encode()
    answer = town.gateway.call(method, path, token=own, json_body=body)
    assert (answer.status, answer.reason) == (503, "store_unavailable")
    assert town.ways.sql.lose_commit_of == b"", "it was committed"

    def refused() -> bool:
        answers = [town.gateway.call("GET", "/me", token=other) for _ in range(10)]
        return {answer.status for answer in answers} == {401}

    until(refused, 6 + A_BUSY_MACHINE_S)


@pytest.mark.parametrize("fault", [fault for fault in EVERY if fault is not Fault.DELAY])
def test_readyz_tells_within_two_seconds_that_sql_is_away_though_nobody_needs_it(
    town: Town, fault: Fault
) -> None:
    def told() -> set[str]:
        return {worker["dependencies"]["sql"] for worker in ready(town.gateway)["workers"]}

    until(lambda: told() == {"open"}, 10)
    town.ways.set("sql", fault)
    try:
        until(lambda: told() == {"away"}, 2 + A_BUSY_MACHINE_S)
        assert town.gateway.admin("/readyz").status == 200
    finally:
        town.ways.set("sql", Fault.NONE)
    until(lambda: told() == {"open"}, 5)


def test_the_admin_page_tells_that_sql_is_away_when_its_server_is_killed(tmp_path: Path) -> None:
    # Its server runs as another user, who may not enter pytest's own folder.
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    server = PostgresServer(place / "server").start()
    try:
        with started(tmp_path / "g", GATEWAY_DATABASE_URL=server.url) as one:
            until(lambda: _state_of_sql(one) == "open", 10)
            server.kill()
            until(lambda: _state_of_sql(one) == "away", 2 + A_BUSY_MACHINE_S)
            server.start_again()
            until(lambda: _state_of_sql(one) == "open", 10)
    finally:
        server.kill()
        shutil.rmtree(place)


def _state_of_sql(running: Running) -> Any:
    token = (running.folder / "data" / "admin-token").read_text().strip()
    told = running.admin("/admin/api/state", ("Authorization", f"Bearer {token}")).json
    return told["workers"][0]["dependencies"]["sql"]


@pytest.mark.parametrize("store", ["redis", "sql"])
def test_connections_that_are_reset_while_they_rest_are_noticed_by_nobody(
    town: Town, store: str
) -> None:
    town.newcomer()
    for _ in range(5):
        town.ask_everything(0)
        town.ways.reset_idle(store)
        seen = town.ask_everything(0)
        assert {name: dict(count) for name, count in seen.items() if max(count) >= 500} == {}
    assert "task-failed" not in town.log()
