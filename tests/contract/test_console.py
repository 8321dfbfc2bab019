"""The console's sign-in by an account, through the real process: there and back, and its end."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.contract.answers import Answer, read_answer
from tests.contract.running import Running, started
from tests.ports import free_port

PASSWORD = "correct horse 7 battery"
POLICY = """\
version: 1
policy: console
roles:
  owner: [admin:*]
  support: [admin:read]
rules:
  - id: by-role
    allow: role-permissions
"""
NAVIGATES = {
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Site": "none",
    "Accept": "text/html",
}


@dataclass
class Visitor:
    """A browser's jar and its navigations: a host's cookies go to all of its ports, as they do."""

    cookies: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def go(self, url: str, *, form: dict[str, str] | None = None, **headers: str) -> Answer:
        """One step: nothing is followed."""
        parts = urlsplit(url)
        assert parts.port is not None
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        fields = {"Host": parts.netloc, **NAVIGATES, **headers}
        body = b""
        if form is not None:
            body = urlencode(form).encode()
            fields |= {
                "Content-Type": "application/x-www-form-urlencoded",
                "Content-Length": str(len(body)),
                "Sec-Fetch-Site": "same-origin",
                "Origin": f"{parts.scheme}://{parts.netloc}",
            }
        if self.cookies:
            fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        lines = [f"{'GET' if form is None else 'POST'} {target} HTTP/1.1", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        with socket.create_connection(("127.0.0.1", parts.port), timeout=60) as sock:
            sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            answer = read_answer(sock.makefile("rb"), "GET")
        for name, value in answer.fields:
            if name.lower() == "set-cookie":
                word, _, rest = value.partition("=")
                self.cookies[word] = rest.partition(";")[0]
                if "Max-Age=0" in value:
                    del self.cookies[word]
        return answer

    def follow(self, url: str, form: dict[str, str] | None = None) -> Answer:
        """As a browser shows it in the end; `seen` has the addresses on the way."""
        self.seen = [url]
        answer = self.go(url, form=form)
        while answer.status == 303:
            location = answer.get("location")
            assert location is not None
            assert len(self.seen) < 12, self.seen
            if location.startswith("/"):
                parts = urlsplit(url)
                location = f"{parts.scheme}://{parts.netloc}{location}"
            url = location
            self.seen.append(url)
            answer = self.go(url)
        return answer


@dataclass
class Console:
    gateway: Running
    url: str

    @property
    def public(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}"

    def account(self, email: str, *roles: str) -> None:
        words = [word for role in roles for word in ("--role", role)]
        done = self.gateway.cli(
            "users", "create", email, "--verified", *words, "--password-stdin", stdin=PASSWORD
        )
        assert done.returncode == 0, done.stderr

    def sign_in(self, visitor: Visitor, email: str, path: str = "/admin") -> Answer:
        page = visitor.follow(self.url + path)
        assert 'name="password"' in page.text, (page.status, visitor.seen, page.text)
        form = {"email": email, "password": PASSWORD, "return_to": hidden(page, "return_to")}
        return visitor.follow(f"{self.public}/auth/ui/sign-in", form)


def hidden(page: Answer, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found is not None, page.text
    return found[1]


def console_at(folder: Path) -> Iterator[Console]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with started(
        folder / "g",
        GATEWAY_ADMIN_LISTEN=f"127.0.0.1:{port}",
        GATEWAY_ADMIN_URL=url,
    ) as gateway:
        yield Console(gateway, url)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    for opened in console_at(tmp_path_factory.mktemp("console")):
        opened.account("root@example.com", "admin")
        opened.account("user@example.com", "viewer")
        yield opened


def test_who_has_no_session_signs_in_at_the_gateway_and_comes_back(console: Console) -> None:
    visitor = Visitor()
    page = console.sign_in(visitor, "root@example.com", "/admin?tab=1")
    assert page.status == 200
    assert "root@example.com" in page.text
    assert visitor.seen[-1] == f"{console.url}/admin?tab=1"
    assert [urlsplit(one).path for one in visitor.seen] == [
        "/auth/ui/sign-in",
        "/admin/sign-in/start",
        "/auth/hand-over",
        "/admin/sign-in/accept",
        "/admin",
    ]


def test_who_has_a_session_sees_no_form_at_all(console: Console) -> None:
    visitor = Visitor()
    console.sign_in(visitor, "root@example.com")
    del visitor.cookies["__Host-console"]
    page = visitor.follow(f"{console.url}/admin")
    assert (page.status, "root@example.com" in page.text) == (200, True)


def test_an_account_without_the_role_is_told_so(console: Console) -> None:
    page = console.sign_in(Visitor(), "user@example.com")
    assert page.status == 403
    assert "admin:read" in page.text


def test_the_session_of_the_public_host_is_no_cookie_of_the_console(console: Console) -> None:
    visitor = Visitor()
    console.sign_in(visitor, "root@example.com")
    session, own = visitor.cookies["__Host-session"], visitor.cookies["__Host-console"]
    assert session != own
    stolen = Visitor({"__Host-console": session})
    assert stolen.go(f"{console.url}/admin", Accept="*/*").status in (303, 401)
    assert "nav aria-label" not in stolen.go(f"{console.url}/admin").text
    turned = Visitor({"__Host-session": own})
    assert turned.go(f"{console.public}/auth/me").status == 401


def test_the_cookie_of_the_console_reaches_no_backend(console: Console) -> None:
    visitor = Visitor()
    console.sign_in(visitor, "root@example.com")
    own = visitor.cookies["__Host-console"]
    answer = console.gateway.call("GET", "/public/x", ("Cookie", f"a=1; __Host-console={own}"))
    assert answer.status == 200
    assert b"a=1" in answer.body
    assert own.encode() not in answer.body


@pytest.mark.parametrize("where", ["console", "public", "command"])
def test_a_sign_out_anywhere_ends_it_at_once(console: Console, where: str) -> None:
    visitor = Visitor()
    page = console.sign_in(visitor, "root@example.com")
    kept = Visitor(dict(visitor.cookies))
    if where == "console":
        gone = visitor.follow(f"{console.url}/admin/sign-out", {"csrf": hidden(page, "csrf")})
        assert "You are signed out." in gone.text
    elif where == "public":
        visitor.go(f"{console.public}/auth/ui/sign-out", form={"x": "1"})
    else:
        done = console.gateway.confirmed("revoke", "user", "root@example.com")
        assert done.returncode == 0, done.stderr
    assert kept.go(f"{console.url}/admin").status == 303
    assert kept.follow(f"{console.url}/admin").text.count('name="password"') == 1


def test_a_role_that_is_taken_away_ends_what_it_gave(console: Console) -> None:
    console.account("late@example.com", "admin")
    visitor = Visitor()
    assert console.sign_in(visitor, "late@example.com").status == 200
    done = console.gateway.confirmed("roles", "revoke", "late@example.com", "admin")
    assert done.returncode == 0, done.stderr
    assert visitor.go(f"{console.url}/admin").status == 403


def test_a_code_is_worth_nothing_in_another_browser_or_twice(console: Console) -> None:
    visitor = Visitor()
    console.sign_in(visitor, "root@example.com")
    code = next(one for one in visitor.seen if "code=" in one)
    assert Visitor().go(code).status == 400
    again = Visitor({"__Host-hand-over": visitor.cookies["__Host-hand-over"]})
    assert again.go(code).status == 400
    assert "__Host-console" not in again.cookies


def test_a_code_of_the_console_is_none_at_a_host_of_a_route(console: Console) -> None:
    visitor = Visitor()
    console.sign_in(visitor, "root@example.com")
    code = next(one for one in visitor.seen if "code=" in one).partition("code=")[2]
    answer = visitor.go(f"{console.public}/auth/hand-over/accept?code={code}")
    assert answer.status in (400, 404)


def test_what_a_stranger_seals_or_changes_leads_nowhere(console: Console) -> None:
    for url in (
        f"{console.public}/auth/hand-over?request=AAAA",
        f"{console.url}/admin/sign-in/accept?code=AAAA",
        f"{console.url}/admin/sign-in/accept",
    ):
        assert Visitor().go(url).status == 400
    answer = Visitor().go(f"{console.url}/admin/sign-in/start?return_to=https://evil.example")
    assert (answer.get("location") or "").startswith(f"{console.public}/auth/hand-over?request=")


def test_a_program_is_led_nowhere(console: Console) -> None:
    headers = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
    assert Visitor().go(f"{console.url}/admin", form=None, **headers).status == 401


def test_the_local_token_goes_on_beside_it(console: Console) -> None:
    page = Visitor().go(f"{console.url}/admin/sign-in")
    assert "Sign in with an account" in page.text
    token = (console.gateway.folder / "data" / "admin-token").read_text().strip()
    visitor = Visitor()
    shown = visitor.follow(f"{console.url}/admin/sign-in", {"token": token})
    assert (shown.status, "the local token" in shown.text) == (200, True)
    kept = Visitor(dict(visitor.cookies))
    visitor.follow(f"{console.url}/admin/sign-out", {"csrf": hidden(shown, "csrf")})
    assert kept.go(f"{console.url}/admin").status == 303


def test_each_sign_in_is_in_the_audit_log(console: Console) -> None:
    console.account("seen@example.com", "admin")
    console.sign_in(Visitor(), "seen@example.com")

    def events() -> Sequence[dict[str, Any]]:
        done = console.gateway.cli("audit", "tail", "-n", "20", "--json")
        told = [one for one in _lines(done.stdout) if one["event"] == "console_opened"]
        return [one for one in told if one.get("subject")]

    deadline = time.monotonic() + 40
    while not events() and time.monotonic() < deadline:
        time.sleep(0.1)
    event = events()[-1]
    assert event["actor"] == event["subject"]
    assert event["detail"]["by"] == "console"


def test_a_policy_gives_less_than_the_role(console: Console) -> None:
    console.account("help@example.com", "support")
    helper, root = Visitor(), Visitor()
    assert console.sign_in(helper, "help@example.com").status == 403
    assert console.sign_in(root, "root@example.com").status == 200
    folder = console.gateway.folder
    (folder / "policies" / "console.yaml").write_text(POLICY)
    routes = (folder / "routes.yaml").read_text()
    block = "version: 1\nconsole: {policy: console}\n"
    (folder / "routes.yaml").write_text(routes.replace("version: 1\n", block))
    try:
        page = helper.go(f"{console.url}/admin")
        deadline = time.monotonic() + 40
        while page.status == 403 and time.monotonic() < deadline:
            page = helper.go(f"{console.url}/admin")
        assert (page.status, "may read only" in page.text) == (200, True)
        # It stands in the place of the role: who is in none of its roles is out.
        assert root.go(f"{console.url}/admin").status == 403
    finally:
        (folder / "routes.yaml").write_text(routes)


def test_outside_loopback_there_is_none_without_a_sign_in(tmp_path: Path) -> None:
    port = free_port()
    listen = {"GATEWAY_ADMIN_LISTEN": f"0.0.0.0:{port}"}
    with started(tmp_path / "g", **listen) as gateway:
        # Where nobody could be asked for it there is no local token at all.
        assert not (gateway.folder / "data" / "admin-token").exists()
        token = "made-up"
        for path in ("/admin", "/admin/sign-in", "/admin/api/state"):
            answer = gateway.admin(path, ("Authorization", f"Bearer {token}"))
            assert answer.status == 404, path


def test_outside_loopback_it_is_for_accounts_over_https_alone(tmp_path: Path) -> None:
    port, name = free_port(), "admin.example.com"
    settings = {
        "GATEWAY_ADMIN_LISTEN": f"0.0.0.0:{port}",
        "GATEWAY_ADMIN_URL": f"https://{name}",
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.1/32",
    }
    with started(tmp_path / "g", **settings) as gateway:
        # Where nobody could be asked for it there is no local token at all.
        assert not (gateway.folder / "data" / "admin-token").exists()
        token = "made-up"
        host, tls = ("Host", name), ("X-Forwarded-Proto", "https")
        assert gateway.admin("/admin", host).status == 400
        form = gateway.admin("/admin/sign-in", host, tls)
        assert (form.status, "Local token" in form.text) == (200, False)
        assert "Sign in with an account" in form.text
        bearer = ("Authorization", f"Bearer {token}")
        assert gateway.admin("/admin", host, tls, bearer).status == 401
        assert gateway.admin("/admin/api/state", host, tls, bearer).status == 404
        assert gateway.admin("/admin", ("Host", "evil.example"), tls).status == 403
        led = gateway.admin("/admin", host, tls, *NAVIGATES.items())
        assert (led.status, (led.get("location") or "").startswith(gateway_url(gateway))) == (
            303,
            True,
        )


def gateway_url(gateway: Running) -> str:
    return f"http://127.0.0.1:{gateway.port}/auth/hand-over?request="


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]
