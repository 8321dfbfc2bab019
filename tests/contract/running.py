"""A started gateway in front of an upstream that says what it received; plain sockets only."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.contract.answers import Answer, read_answer
from tests.contract.echo import Echo
from tests.forked import GATEWAY, Process, run_command, serve
from tests.ports import free_port

ROUTES = """\
version: 1
defaults:
  auth: required
upstreams:
  echo:
    targets: ["http://127.0.0.1:{port}"]
    timeout: {{connect: 1s, response: 2s, idle: 5s}}
  nowhere:
    targets: ["http://127.0.0.1:{dead}"]
limits:
  few: {{key: address, rate: 3/1h, burst: 3}}
  few-of-tenant: {{key: resource.tenant, rate: 3/1h, burst: 3}}
  few-tries: {{key: resource.email, rate: 2/1h, burst: 2}}
cors:
  app: {{origins: ["https://app.example.com"], credentials: true, methods: [GET, POST], headers: [content-type], max_age: 600s}}
routes:
  - id: orders
    match: {{path: "/v1/users/{{user_id}}/orders/{{order_id}}", methods: [GET, DELETE]}}
    policy: orders
    action: orders:read
    resource: {{type: order, id: "{{order_id}}", owner: "{{user_id}}"}}
    upstream: echo
    rewrite: {{strip_prefix: /v1}}
  - id: me
    match: {{path: /me}}
    policy: signed-in
    upstream: echo
  - id: forward
    match: {{path: /forward}}
    policy: signed-in
    forward_authorization: true
    upstream: echo
  - id: hidden-until
    match: {{path: /hidden-until}}
    policy: hidden-until
    action: hidden:read
    upstream: echo
  - id: hidden
    match: {{path: /hidden}}
    policy: hidden
    action: hidden:read
    upstream: echo
  - id: maybe
    match: {{path: /maybe}}
    auth: optional
    upstream: echo
  - id: public
    match: {{path: "/public/{{rest:path}}"}}
    auth: public
    upstream: echo
    max_body: 1KiB
  - id: app
    match: {{prefix: /app}}
    redirect_slash: true
    auth: public
    upstream: echo
  - id: app.own
    match: {{prefix: "/own/{{name}}"}}
    redirect_slash: true
    policy: signed-in
    upstream: echo
    rewrite: {{strip_prefix: /own}}
  - id: store
    match: {{prefix: /store}}
    paths: files
    auth: public
    upstream: echo
  - id: store.secret
    match: {{prefix: /store/secret}}
    policy: hidden
    upstream: echo
  - id: uploads
    match: {{path: "/uploads/{{rest:path}}"}}
    auth: public
    upstream: echo
    max_body: "off"
  - id: tenant
    match: {{path: /tenant, methods: [GET]}}
    policy: tenants
    action: tenants:read
    upstream: echo
  - id: tenant.write
    match: {{path: /tenant, methods: [POST]}}
    policy: tenants
    action: tenants:write
    resource: {{team: "{{body.team}}"}}
    upstream: echo
  - id: tenant.limited
    match: {{path: "/tenants/{{tenant}}/limited"}}
    policy: tenants
    action: tenants:list
    resource: {{tenant: "{{tenant}}"}}
    limits: [few-of-tenant]
    upstream: echo
  - id: tries
    match: {{path: /tries}}
    auth: public
    resource: {{email: "{{body.email}}"}}
    limits: [few-tries]
    upstream: echo
  - id: tries.signed-in
    match: {{path: /tries/signed-in}}
    policy: signed-in
    resource: {{email: "{{body.email}}"}}
    limits: [few-tries]
    upstream: echo
  - id: overriding
    match: {{path: /overriding}}
    auth: public
    keep_headers: [X-HTTP-Method-Override]
    upstream: echo
  - id: slashes
    match: {{path: "/files/{{name}}"}}
    auth: public
    allow_encoded_slash: true
    upstream: echo
  - id: slashes.secret
    match: {{path: "/files/secret/{{name}}"}}
    policy: hidden
    upstream: echo
  - id: typed
    match: {{path: "/typed/{{n:int}}", methods: [GET]}}
    auth: public
    upstream: echo
  - id: staff
    match: {{path: "/staff/{{team}}", methods: [GET]}}
    policy: staff
    resource: {{asked: "{{query.team}}"}}
    upstream: echo
  - id: limited
    match: {{path: /limited}}
    auth: public
    limits: [few]
    upstream: echo
  - id: down
    match: {{path: /down}}
    auth: public
    upstream: nowhere
  - id: shared
    match: {{path: /shared, methods: [GET, POST]}}
    policy: signed-in
    cors: app
    upstream: echo
  - id: named
    match: {{host: app.example.net, path: /me}}
    policy: signed-in
    upstream: echo
  - id: wild
    match: {{hosts: ["*.wild.example.net"], path: /me}}
    policy: signed-in
    upstream: echo
  - id: elsewhere
    match: {{host: other.example.com, path: /me}}
    auth: public
    upstream: echo
"""

POLICIES = {
    "orders.yaml": """\
version: 1
policy: orders
roles:
  viewer: [orders:read]
  manager: {inherits: [viewer], permissions: [orders:*]}
rules:
  - id: own-orders
    allow: [orders:read]
    when: resource.owner == user.id
  - id: by-role
    allow: role-permissions
  - id: no-suspended
    deny: ["*"]
    when: "'suspended' in user.roles"
    reason: account_suspended
""",
    "staff.yaml": """\
version: 1
policy: staff
rules:
  - id: anybody
    allow: ["*"]
  - id: path
    deny: ["*"]
    when: request.params.team in ['hr', '7']
  - id: query
    deny: ["*"]
    when: has(resource.asked) && resource.asked in ['hr', '7']
  - id: header
    deny: ["*"]
    when: "'x-team' in request.headers && request.headers['x-team'] in ['hr', '7']"
""",
    "tenants.yaml": """\
version: 1
policy: tenants
rules:
  - id: same-tenant
    allow: [tenants:read]
    when: request.headers['x-tenant'] == 'a'
  - id: write
    allow: [tenants:write]
  - id: own-tenant
    allow: [tenants:list]
    when: resource.tenant == user.id
  - id: other-team
    deny: [tenants:write]
    when: has(resource.team) && resource.team != 'a'
    reason: other_team
""",
    "hidden.yaml": """\
version: 1
policy: hidden
rules:
  - id: nobody
    deny: ["*"]
    conceal: true
""",
    "hidden-until.yaml": """\
version: 1
policy: hidden-until
rules:
  - {id: all, allow: ["*"]}
  - {id: stepped-up, deny: ["*"], step_up: {amr: [otp]}, conceal: true}
""",
}


@dataclass
class Running:
    """A started gateway."""

    port: int
    admin_port: int
    folder: Path
    echo: Echo
    process: subprocess.Popen[bytes] | Process
    environment: dict[str, str]
    log: Path
    users: dict[str, dict[str, Any]] = field(default_factory=dict)

    def raw(self, data: bytes, *, method: str = "GET", timeout_s: float = 60) -> Answer:
        """One answer to these bytes; `closed` says whether the gateway then hung up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as sock:
            sock.sendall(data)
            reader = sock.makefile("rb")
            answer = read_answer(reader, method)
            if answer.get("connection") == "close":
                answer.closed = reader.read(1) == b""
            return answer

    def call(
        self,
        method: str,
        target: str,
        *fields: tuple[str, str],
        body: bytes | None = None,
        token: str | None = None,
        json_body: Any = None,
        host: str | None = None,
    ) -> Answer:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host or f'127.0.0.1:{self.port}'}"]
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        if json_body is not None:
            body = json.dumps(json_body).encode()
            lines.append("Content-Type: application/json")
        lines += [f"{name}: {value}" for name, value in fields]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return self.raw(head + (body or b""), method=method)

    def admin(self, path: str, *fields: tuple[str, str]) -> Answer:
        lines = [f"GET {path} HTTP/1.1", *(f"{n}: {v}" for n, v in fields)]
        if not any(n.lower() == "host" for n, _ in fields):
            lines.insert(1, f"Host: 127.0.0.1:{self.admin_port}")
        with socket.create_connection(("127.0.0.1", self.admin_port), timeout=60) as sock:
            sock.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
            return read_answer(sock.makefile("rb"), "GET")

    def cli(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return run_command(words, folder=self.folder, environment=self.environment, stdin=stdin)

    def confirmed(self, *words: str) -> subprocess.CompletedProcess[str]:
        """As `cli`; repeated, as an operator would, while it exits 3: what was asked is kept,
        but no worker of a machine this busy has confirmed it in time."""
        deadline = time.monotonic() + 60
        while (done := self.cli(*words)).returncode == 3 and time.monotonic() < deadline:
            pass
        return done

    def sign_in(self, email: str, password: str = "correct horse 7 battery") -> dict[str, Any]:
        """Registers the account when it is new."""
        if email not in self.users:
            made = self.call(
                "POST", "/auth/register", json_body={"email": email, "password": password}
            )
            assert made.status == 201, made
            self.users[email] = made.json
        body = {"email": email, "password": password}
        answer = self.call("POST", "/auth/login", json_body=body)
        if answer.status == 429:  # another test has just failed with this account
            wait_as_told(answer)
            answer = self.call("POST", "/auth/login", json_body=body)
        assert answer.status == 200, answer
        return dict(answer.json)


def wait_as_told(answer: Answer) -> None:
    """The gateway promises that the next try is heard after so many seconds."""
    told = answer.get("retry-after")
    assert told is not None, answer
    time.sleep(float(told))


def wait_until_ready(
    process: subprocess.Popen[bytes] | Process,
    admin_port: int,
    log: Path,
    path: str = "/readyz",
    workers: int = 1,
) -> None:
    """Until the page answers 200; `/readyz` does so for one worker, and is waited for until it
    lists `workers` that can decide."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(
                f"the gateway ended with {process.returncode}:\n{log.read_text()[-3000:]}"
            )
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}{path}", timeout=2) as page:
                if page.status == 200 and (path != "/readyz" or _deciding(page) >= workers):
                    return
        except OSError:
            pass
        # Readiness has no event that another process could wait for: ask again.
        threading.Event().wait(0.05)
    raise AssertionError(f"not ready in 120 s:\n{log.read_text()[-3000:]}")


def _workers(words: Sequence[str], environment: Mapping[str, str]) -> int:
    if "--workers" in words:
        return int(words[words.index("--workers") + 1])
    return int(environment.get("GATEWAY_WORKERS", "1"))


def _deciding(page: IO[bytes]) -> int:
    return sum(bool(worker["ready"]) for worker in json.load(page)["workers"])


@contextmanager
def started(
    folder: Path,
    *words: str,
    routes: str = ROUTES,
    until: str = "/readyz",
    within: Sequence[str] = (),
    program: str = str(GATEWAY),
    **settings: str,
) -> Iterator[Running]:
    """`gateway serve` on free ports, with the routes above, until the block ends.

    Quick tests fork it from a process that has imported it (tests/forked.py), and so do those of
    pages and providers (tests/conftest.py); else it is executed, and always by `within`.

    The block begins once the admin listener answers 200 to `until`, and all workers can decide
    where that is `/readyz`.  `within` is a command that
    replaces itself by the one that follows it, as `nice` does.  `program` is the command `gateway`
    of another release.
    """
    echo = Echo()
    threading.Thread(target=echo.serve_forever, args=(0.05,), daemon=True).start()
    port, admin_port, dead = free_port(), free_port(), free_port()
    (folder / "policies").mkdir(parents=True)
    text = routes.format(port=echo.server_address[1], dead=dead)
    (folder / "routes.yaml").write_text(text)
    for name, text in POLICIES.items():
        (folder / "policies" / name).write_text(text)
    environment = {
        **{k: v for k, v in os.environ.items() if not re.match("GATEWAY_", k)},
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{admin_port}",
        "GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "GATEWAY_DATA_DIR": str(folder / "data"),
        "GATEWAY_DATABASE_URL": f"sqlite:///{folder}/data/gateway.db",
        "GATEWAY_REGISTRATION": "open",
        "GATEWAY_EMAIL_VERIFICATION": "off",
        "GATEWAY_BCRYPT_ROUNDS": "10",
        "GATEWAY_SIGNING_ALG": "EdDSA",  # to make an RSA key is a third of a start
        "GATEWAY_DRAIN_S": "0",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        **settings,
    }
    admin_port = int(environment["GATEWAY_ADMIN_LISTEN"].rpartition(":")[2])
    log = folder / "log"
    with log.open("wb") as err, (folder / "out").open("wb") as out:
        process = serve(
            folder, environment, (out, err), words=words, within=within, program=program
        )
        try:
            wait_until_ready(process, admin_port, log, until, _workers(words, environment))
            yield Running(port, admin_port, folder, echo, process, environment, log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(40)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(10)
            echo.shutdown()
            echo.server_close()
