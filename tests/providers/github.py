"""As much of GitHub as a sign-in asks: its pages and its API, over HTTP on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

SECRET = "a secret of tests alone"


@dataclass
class GitHub:
    """Who is signed in there, and what was asked."""

    port: int = 0
    user: dict[str, Any] = field(default_factory=lambda: {"id": 7, "login": "ada", "name": "Ada"})
    emails: Any = field(default_factory=list)
    organizations: list[str] = field(default_factory=list)
    spoilt: str | None = None
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def authorize(self, words: dict[str, str]) -> str:
        code = secrets.token_hex(10)
        self.codes[code] = words
        answer = {"code": code, "state": words["state"]}
        return f"{words['redirect_uri']}?{urlencode(answer)}"

    def token(self, words: dict[str, str]) -> dict[str, Any]:
        """GitHub answers errors with 200, too."""
        asked = self.codes.pop(words.get("code", ""), None)
        if (words.get("client_id"), words.get("client_secret")) != ("gateway", SECRET):
            return {"error": "incorrect_client_credentials"}
        if asked is None:
            return {"error": "bad_verification_code"}
        digest = hashlib.sha256(words.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]:
            return {"error": "bad_verification_code"}
        token = f"gho_{secrets.token_hex(10)}"
        self.tokens.add(token)
        return {"access_token": token, "token_type": "bearer", "scope": asked["scope"]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        parts, github = urlsplit(self.path), self.server.github
        words = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/login/oauth/authorize":
            self.send_response(302)
            self.send_header("Location", github.authorize(words))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.headers["Authorization"].removeprefix("Bearer ") not in github.tokens:
            self._answer({"message": "Bad credentials"}, 401)
            return
        answers = {
            "/api/v3/user": github.user,
            "/api/v3/user/emails": github.emails,
            "/api/v3/user/orgs": [{"login": name} for name in github.organizations],
        }
        self._answer(answers[parts.path])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        words = {name: values[0] for name, values in parse_qs(body).items()}
        self._answer(self.server.github.token(words))

    def _answer(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    github: GitHub


@contextmanager
def started() -> Iterator[GitHub]:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.github = GitHub(int(server.server_address[1]))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.github
    finally:
        server.shutdown()
        server.server_close()
