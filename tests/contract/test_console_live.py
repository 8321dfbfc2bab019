"""Live calls through the real process: of every worker, to who may see them, for as long as they may."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, urlencode

import pytest

from tests.contract.answers import Answer, read_answer
from tests.contract.running import Running, started

WITHIN_S = 60.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("live") / "g"
    with started(folder, GATEWAY_WORKERS="2", GATEWAY_ACCESS_LOG="off") as running:
        yield running


def token_of(gateway: Running) -> str:
    return (gateway.folder / "data" / "admin-token").read_text().strip()


class Stream:
    """The events of `/admin/live/stream`, as a browser reads them."""

    def __init__(self, sock: socket.socket) -> None:
        self.text = ""
        self._sock = sock
        sock.settimeout(0.2)

    def until(self, wanted: str, within_s: float = WITHIN_S) -> bool:
        """Whether it came."""
        deadline = time.monotonic() + within_s
        while wanted not in self.text and time.monotonic() < deadline:
            if not self._read():
                break
        return wanted in self.text

    def ended(self) -> bool:
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            if not self._read():
                return True
        return False

    def _read(self) -> bool:
        """False at the end."""
        try:
            data = self._sock.recv(65_536)
        except TimeoutError:
            return True
        self.text += data.decode()
        return bool(data)


@contextmanager
def stream(gateway: Running, query: str = "", **fields: str) -> Iterator[Stream]:
    fields = fields or {"Authorization": f"Bearer {token_of(gateway)}"}
    lines = [f"GET /admin/live/stream{query} HTTP/1.1", f"Host: 127.0.0.1:{gateway.admin_port}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    with socket.create_connection(("127.0.0.1", gateway.admin_port), timeout=60) as sock:
        sock.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        opened = Stream(sock)
        assert opened.until("\r\n\r\n")
        yield opened


def refuse(gateway: Running, path: str) -> str:
    """The refusal's id; it comes on a connection of its own."""
    return gateway.call("GET", path).get("x-request-id") or ""


def test_refusals_of_all_workers_are_seen_as_they_happen(gateway: Running) -> None:
    with stream(gateway) as seen:
        assert "text/event-stream" in seen.text
        assert seen.until("event: state")
        workers = set()
        # The kernel chooses a worker for each connection by its port.
        for _ in range(200):
            refused = refuse(gateway, "/me")
            assert seen.until(quote(refused)), refused
            told = gateway.admin(f"/admin/answer?id={refused}", bearer(gateway)).text
            workers.add(re.search(r"worker (\d+)", told)[1])  # type: ignore[index]
            if len(workers) == 2:
                break
        assert len(workers) == 2
        assert "no_credential" in seen.text


def test_what_is_not_asked_for_is_not_shown(gateway: Running) -> None:
    with stream(gateway, "?reason=route_unknown") as seen:
        assert seen.until("event: state")
        hidden = refuse(gateway, "/me")
        shown = refuse(gateway, "/nowhere")
        assert seen.until(shown)
        assert hidden not in seen.text


def test_what_was_allowed_is_shown_on_demand_alone(gateway: Running) -> None:
    with stream(gateway) as refusals, stream(gateway, "?allowed=1") as all_of_them:
        assert refusals.until("event: state")
        assert all_of_them.until("event: state")
        # Each worker has its own viewer: a call goes to one of them, which may hear of it later.
        for _ in range(50):
            assert gateway.call("GET", "/public/seen?token=hidden").status == 200
            if all_of_them.until("/public/seen", within_s=0.5):
                break
        assert "/public/seen" in all_of_them.text
        assert "hidden" not in all_of_them.text
        last = refuse(gateway, "/nowhere")
        assert refusals.until(last)
        assert "/public/seen" not in refusals.text


def test_a_stranger_sees_no_stream(gateway: Running) -> None:
    assert gateway.admin("/admin/live/stream").status == 401
    foreign = (("Origin", "https://evil.example"), bearer(gateway))
    assert gateway.admin("/admin/live/stream", *foreign).status == 403


def test_a_stream_ends_with_the_sign_in_that_opened_it(gateway: Running) -> None:
    cookie, csrf = sign_in(gateway)
    with stream(gateway, Cookie=f"__Host-console={cookie}") as seen:
        assert seen.until("event: state")
        assert post(gateway, "/admin/sign-out", {"csrf": csrf}, cookie).status == 303
        assert seen.ended()


def test_an_answer_is_explained_as_the_command_does(gateway: Running) -> None:
    one = refuse(gateway, "/me")
    page = gateway.admin(f"/admin/answer?id={one}", bearer(gateway))
    assert page.status == 200
    told = gateway.cli("why", one)
    assert told.returncode == 0, told.stderr
    for words in ("What happened", "no_credential", "Judged again", "would be allowed"):
        assert words.lower() in page.text.lower(), words
        assert words.lower() in told.stdout.lower(), words


def test_an_id_that_is_nowhere_is_told_so(gateway: Running) -> None:
    page = gateway.admin("/admin/answer?id=nothing-of-ours", bearer(gateway))
    assert (page.status, "gateway why nothing-of-ours" in page.text) == (404, True)
    assert gateway.admin("/admin/answer?id=%20%00", bearer(gateway)).status in (200, 400, 404)


def bearer(gateway: Running) -> tuple[str, str]:
    return ("Authorization", f"Bearer {token_of(gateway)}")


def sign_in(gateway: Running) -> tuple[str, str]:
    answer = post(gateway, "/admin/sign-in", {"token": token_of(gateway)})
    cookie = (answer.get("set-cookie") or "").partition("=")[2].partition(";")[0]
    page = gateway.admin("/admin", ("Cookie", f"__Host-console={cookie}"))
    found = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert found is not None, page.text
    return cookie, found[1]


def post(gateway: Running, path: str, form: dict[str, str], cookie: str = "") -> Answer:
    body = urlencode(form).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{gateway.admin_port}",
        "Sec-Fetch-Site: same-origin",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {len(body)}",
        f"Cookie: __Host-console={cookie}",
        "Connection: close",
    ]
    with socket.create_connection(("127.0.0.1", gateway.admin_port), timeout=600) as sock:
        sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return read_answer(sock.makefile("rb"), "POST")
