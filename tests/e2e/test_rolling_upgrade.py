"""Two nodes behind a balancer go from the previous release to this one, and nobody notices.

The previous release is the real one, installed from its commit; so are HAProxy, PostgreSQL and
Valkey.  The steps are one test: each begins where the one before has led.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.contract.answers import Answer, read_answer
from tests.contract.running import Running, started, wait_until_ready
from tests.e2e.processes import until, workers
from tests.e2e.test_balancer import HAPROXY, balanced
from tests.forked import GATEWAY, Process, serve
from tests.ports import free_port
from tests.previous_release import previous_release
from tests.servers import ValkeyServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not here: apt-get install haproxy"),
]

PASSWORD = "correct horse 7 battery"
HOST = "a.example"
_PAUSE_S = 0.02
"""Of a caller: the machine is there for the gateways too."""


def call(
    sock: socket.socket, method: str, path: str, token: str = "", body: dict[str, Any] | None = None
) -> Answer:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    data = b"" if body is None else json.dumps(body).encode()
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    sock.sendall("\r\n".join([*lines, "", ""]).encode() + data)
    return read_answer(sock.makefile("rb"), method)


@dataclass
class Traffic:
    """Callers that go on until the block ends, each from an address of its own."""

    port: int
    emails: list[str]
    done: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Traffic:
        callers = [
            (self._public, ""),
            (self._with_token, self.emails[0]),
            (self._with_token, self.emails[1]),
            (self._refreshing, self.emails[2]),
            (self._refreshing, self.emails[3]),
            (self._signing_in, self.emails[4]),
        ]
        self._threads = [
            threading.Thread(target=self._until_stopped, args=(number, work, email))
            for number, (work, email) in enumerate(callers)
        ]
        for thread in self._threads:
            thread.start()
        self.more(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def more(self, calls: int) -> None:
        """Until so many more of each kind went well; at once where something failed."""
        before = dict(self.done)
        kinds = ("GET /public/x", "GET /me", "POST /auth/refresh", "POST /auth/login")
        until(
            lambda: (
                bool(self.failed)
                or all(self.done.get(kind, 0) >= before.get(kind, 0) + calls for kind in kinds)
            ),
            60,
        )

    def _until_stopped(
        self, number: int, work: Callable[[Callable[[], socket.socket], str], None], email: str
    ) -> None:
        def connected() -> socket.socket:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            plain = socket.create_connection(
                ("127.0.0.1", self.port), timeout=20, source_address=(f"127.0.1.{number + 1}", 0)
            )
            return context.wrap_socket(plain)

        try:
            work(connected, email)
        except (OSError, AssertionError, ValueError) as error:
            with self._lock:
                self.failed.append(f"{work.__name__}: {type(error).__name__}: {error}")

    def _called(
        self, sock: socket.socket, method: str, path: str, token: str = "", body: Any = None
    ) -> Answer:
        answer = call(sock, method, path, token, body)
        with self._lock:
            if answer.status == 200:
                name = f"{method} {path}"
                self.done[name] = self.done.get(name, 0) + 1
            else:
                self.failed.append(f"{method} {path}: {answer.status} {answer.body!r}")
        return answer

    def _login(self, sock: socket.socket, email: str) -> dict[str, Any]:
        body = {"email": email, "password": PASSWORD}
        return dict(self._called(sock, "POST", "/auth/login", body=body).json)

    def _public(self, connected: Callable[[], socket.socket], _: str) -> None:
        while not self._stop.is_set():
            with connected() as sock:
                for _number in range(20):
                    self._called(sock, "GET", "/public/x")
                    self._stop.wait(_PAUSE_S)

    def _with_token(self, connected: Callable[[], socket.socket], email: str) -> None:
        with connected() as sock:
            token = self._login(sock, email)["access_token"]
        while not self._stop.is_set():
            with connected() as sock:
                for _number in range(20):
                    self._called(sock, "GET", "/me", token)
                    self._stop.wait(_PAUSE_S)

    def _refreshing(self, connected: Callable[[], socket.socket], email: str) -> None:
        """Less than one refresh a second: more of a session is refused."""
        with connected() as sock:
            tokens = self._login(sock, email)
        while not self._stop.wait(0.3):
            with connected() as sock:
                body = {"refresh_token": tokens["refresh_token"]}
                tokens = self._called(sock, "POST", "/auth/refresh", body=body).json
                self._called(sock, "GET", "/me", tokens["access_token"])

    def _signing_in(self, connected: Callable[[], socket.socket], email: str) -> None:
        while not self._stop.wait(0.1):
            with connected() as sock:
                token = self._login(sock, email)["access_token"]
                self._called(sock, "GET", "/me", token)


class Nodes:
    """Both, and which release each of them runs."""

    def __init__(self, one: Running, two: Running) -> None:
        self.both = (one, two)
        self._begun: list[subprocess.Popen[bytes] | Process] = []

    def replace(self, node: Running, program: Path) -> None:
        """As an operator does: the service is stopped, which drains it, and the other begins."""
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(60) == 0, node.log.read_text()[-3000:]
        with node.log.open("ab") as err, (node.folder / "out").open("ab") as out:
            process = serve(node.folder, node.environment, (out, err), program=str(program))
        self._begun.append(process)
        node.process = process
        wait_until_ready(process, node.admin_port, node.log)

    def end(self) -> None:
        for process in self._begun:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(60)


@contextmanager
def two_of(program: Path, folder: Path, **settings: str) -> Iterator[Nodes]:
    with (
        started(folder / "one", program=str(program), **settings) as one,
        started(folder / "two", program=str(program), **settings) as two,
    ):
        nodes = Nodes(one, two)
        try:
            yield nodes
        finally:
            nodes.end()


_NUMBER = count(1)


def signed_in(node: Running, email: str) -> dict[str, Any]:
    answer = node.call("POST", "/auth/login", json_body={"email": email, "password": PASSWORD})
    assert answer.status == 200, answer
    return dict(answer.json)


def me(node: Running, token: str) -> int:
    return node.call("GET", "/me", token=token).status


def each_holds_what_the_other_gave(one: Running, two: Running, email: str) -> None:
    for here, there in ((one, two), (two, one)):
        session = signed_in(here, email)
        assert me(there, session["access_token"]) == 200
        again = there.call(
            "POST", "/auth/refresh", json_body={"refresh_token": session["refresh_token"]}
        )
        assert again.status == 200, again
        assert me(here, again.json["access_token"]) == 200
        answer = here.call(
            "POST", "/auth/refresh", json_body={"refresh_token": again.json["refresh_token"]}
        )
        assert answer.status == 200, answer


def a_browser_goes_from_one_to_the_other(one: Running, two: Running, email: str) -> None:
    """What Redis holds of a session cookie is read by both releases."""
    same_origin = ("Sec-Fetch-Site", "same-origin")
    for here, there in ((one, two), (two, one)):
        body = {"email": email, "password": PASSWORD, "transport": "cookie"}
        answer = here.call("POST", "/auth/login", same_origin, json_body=body)
        assert answer.status == 200, answer
        cookies = [value.partition(";")[0] for value in answer.all("set-cookie")]
        cookie = next(text for text in cookies if text.startswith("__Host-session="))
        fields = (("Cookie", cookie), same_origin)
        assert there.call("GET", "/me", *fields).status == 200
        assert there.call("POST", "/auth/logout", *fields).status == 204
        assert here.call("GET", "/me", *fields).status == 401


def a_sign_out_at_either_is_true_at_both(one: Running, two: Running, email: str) -> None:
    for here, there in ((one, two), (two, one)):
        token = signed_in(here, email)["access_token"]
        assert me(there, token) == 200
        answer = there.call("POST", "/auth/logout", token=token)
        assert answer.status == 204, answer
        assert (me(here, token), me(there, token)) == (401, 401)


def a_change_by_a_command_is_true_at_both(by: Running, one: Running, two: Running) -> None:
    """A revocation that a command of this release writes."""
    email = f"changed-{next(_NUMBER)}@example.com"
    by.sign_in(email)
    token = signed_in(two, email)["access_token"]
    done = by.confirmed("revoke", "user", email)
    assert done.returncode == 0, done.stderr
    assert (me(one, token), me(two, token)) == (401, 401)


def refused_start(program: Path, node: Running, folder: Path) -> str:
    """What the release says that cannot begin beside `node`."""
    environment = {
        **node.environment,
        "GATEWAY_DATA_DIR": str(folder / "third"),
        "GATEWAY_LISTEN": f"127.0.0.1:{free_port()}",
        "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{free_port()}",
    }
    done = subprocess.run(
        [str(program), "serve"],
        cwd=node.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_a_rolling_upgrade_fails_no_call_and_forgets_no_session_and_no_sign_out(
    tmp_path: Path, postgres_url: str
) -> None:
    previous = previous_release()
    valkey = ValkeyServer(tmp_path / "valkey").start()
    settings = {
        "GATEWAY_DATABASE_URL": postgres_url,
        "GATEWAY_REDIS_URL": valkey.url,
        "GATEWAY_KEY_SECRET": base64.b64encode(os.urandom(32)).decode(),
        "GATEWAY_PUBLIC_URL": "http://127.0.0.1:8080",
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.1/32",
        "GATEWAY_DRAIN_S": "2",
        # The packages of the previous release are its own.
        "PYTHONPATH": "",
    }
    try:
        with two_of(previous, tmp_path, **settings) as nodes:
            one, two = nodes.both
            emails = [f"caller-{number}@example.com" for number in range(5)]
            for email in [*emails, "person@example.com"]:
                one.sign_in(email)
            old_session = signed_in(two, "person@example.com")
            signed_out = signed_in(two, "person@example.com")["access_token"]
            assert two.call("POST", "/auth/logout", token=signed_out).status == 204

            with balanced(tmp_path, one, two) as port, Traffic(port, emails) as traffic:
                nodes.replace(one, GATEWAY)
                traffic.more(5)
                assert me(one, old_session["access_token"]) == 200
                assert me(one, signed_out) == 401
                each_holds_what_the_other_gave(one, two, "person@example.com")
                a_browser_goes_from_one_to_the_other(one, two, "person@example.com")
                a_sign_out_at_either_is_true_at_both(one, two, "person@example.com")
                a_change_by_a_command_is_true_at_both(one, one, two)
                assert "which this version does not know: it was upgraded by a newer" in (
                    refused_start(previous, two, tmp_path)
                )

                nodes.replace(two, GATEWAY)
                traffic.more(5)
                assert me(two, old_session["access_token"]) == 200
                assert me(two, signed_out) == 401
                each_holds_what_the_other_gave(one, two, "person@example.com")
                a_sign_out_at_either_is_true_at_both(one, two, "person@example.com")
            assert traffic.failed == []
            assert workers(one)
            assert workers(two)
    finally:
        valkey.kill()
