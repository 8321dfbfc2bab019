"""`gateway doctor upstreams`: a backend that can be talked to around the gateway is found."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from gateway.access.snapshot import Snapshot
from gateway.cli import main
from gateway.cli.exposure import Exposure, exposures, own_addresses, samples_of
from gateway.stores.health import State
from tests.access.worlds import snapshot

Judge = Callable[[BaseHTTPRequestHandler], int]

ROUTES = """
version: 1
upstreams:
  api:
    targets: ["%s"]
    %s
routes:
  - {id: public, match: {path: "/open/{rest:path}"}, auth: public, upstream: api}
  - id: order
    match: {path: "/v1/orders/{id:int}/{name}", methods: [GET]}
    policy: signed-in
    upstream: api
    rewrite: {strip_prefix: /v1}
"""


def open_to_all(request: BaseHTTPRequestHandler) -> int:
    return 200


def believing(request: BaseHTTPRequestHandler) -> int:
    return 200 if request.headers.get("X-Auth-User-Id") else 401


def believing_any_assertion(request: BaseHTTPRequestHandler) -> int:
    return 200 if (request.headers.get("X-Auth-Assertion") or "").count(".") == 2 else 401


def refusing(request: BaseHTTPRequestHandler) -> int:
    return 401


def missing(request: BaseHTTPRequestHandler) -> int:
    return 404


class Upstream(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, host: str, judge: Judge) -> None:
        self.seen: list[tuple[str, str]] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.seen.append((self.command, self.path))
                self.send_response(judge(self))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                return None

        super().__init__((host, 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(judge: Judge, host: str = "127.0.0.1") -> Iterator[Upstream]:
    with Upstream(host, judge) as upstream:
        threading.Thread(target=upstream.serve_forever, args=(0.02,), daemon=True).start()
        yield upstream
        upstream.shutdown()


def world(url: str, more: str = "") -> Snapshot:
    return snapshot(ROUTES % (url, more))


def found(
    upstream: Upstream, more: str = "", *, addresses: tuple[str, ...] = (), **options: Any
) -> dict[str, Exposure]:
    settings: dict[str, Any] = {"paths": {}, "outside": False} | options
    made = exposures(world(upstream.url, more), (), addresses=addresses, **settings)
    return {one.check: one for one in made}


ASSERTED = "assertion: {audience: api}"


def test_a_backend_that_answers_anybody_is_exposed() -> None:
    with serving(open_to_all) as upstream:
        one = found(upstream)["forged headers"]
    assert (one.state, one.upstream) == (State.BAD, "api")
    assert "GET /orders/1/1 is answered 200 to anybody" in one.detail


def test_a_backend_that_believes_forged_headers_is_exposed() -> None:
    with serving(believing) as upstream:
        one = found(upstream, ASSERTED)["forged headers"]
    assert one.state is State.BAD
    assert "401 without, 200 with forged ones" in one.detail


def test_where_only_this_machine_reaches_it_belief_in_headers_is_a_warning() -> None:
    with serving(believing) as upstream:
        assert found(upstream)["forged headers"].state is State.WARNING


def test_where_others_reach_it_belief_in_headers_is_bad() -> None:
    with serving(believing, "0.0.0.0") as upstream:
        both = found(upstream, addresses=("127.0.0.2",))
    assert both["around"].state is State.BAD
    assert both["forged headers"].state is State.BAD


def test_a_backend_that_verifies_no_signature_is_exposed() -> None:
    with serving(believing_any_assertion) as upstream:
        one = found(upstream, ASSERTED)["forged headers"]
    assert one.state is State.BAD
    assert "anybody signed" in one.detail


def test_a_backend_that_refuses_strangers_is_good() -> None:
    with serving(refusing) as upstream:
        both = found(upstream, ASSERTED)
    assert {one.state for one in both.values()} == {State.GOOD}


def test_what_cannot_be_told_is_no_good_news() -> None:
    with serving(missing) as upstream:
        one = found(upstream)["forged headers"]
    assert one.state is State.WARNING
    assert "--path" in one.detail


def test_a_listener_on_every_address_is_found() -> None:
    with serving(refusing, "0.0.0.0") as upstream:
        assert found(upstream, addresses=("127.0.0.2",))["around"].state is State.BAD
    with serving(refusing) as upstream:
        assert found(upstream, addresses=("127.0.0.2",))["around"].state is State.GOOD


def test_only_get_is_ever_asked_and_never_of_public_routes() -> None:
    with serving(believing_any_assertion) as upstream:
        found(upstream, ASSERTED)
        assert set(upstream.seen) == {("GET", "/orders/1/1")}


def test_a_path_can_be_named() -> None:
    with serving(refusing) as upstream:
        found(upstream, paths={"api": "/orders/7/x?y=1"})
        assert set(upstream.seen) == {("GET", "/orders/7/x?y=1")}


def test_a_machine_outside_must_get_no_answer() -> None:
    with serving(refusing) as upstream:
        loopback = found(upstream, outside=True)["outside"]
        # Linux takes 0.0.0.0 for this machine; to the command it is an address like any other.
        spec = world(upstream.url.replace("127.0.0.1", "0.0.0.0"))
        (reached,) = exposures(spec, (), paths={}, outside=True)
    assert loopback.state is State.GOOD
    assert reached.state is State.BAD
    (unreached,) = exposures(spec, (), paths={}, outside=True)
    assert unreached.state is State.GOOD


def test_a_socket_that_everybody_may_open_is_found(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        spec = world(f"unix:{path}")
        path.chmod(0o777)
        (around, *_) = exposures(spec, (), paths={}, outside=False)
        assert around.state is State.BAD
        path.chmod(0o660)
        (around, *_) = exposures(spec, (), paths={}, outside=False)
        assert around.state is State.GOOD


def test_addresses_of_this_machine_leave_out_loopback() -> None:
    assert not [address for address in own_addresses() if address.startswith("127.")]


def test_the_address_that_is_asked_for_is_the_rewritten_one() -> None:
    spec = world("http://127.0.0.1:9")
    (sample,) = samples_of(spec, spec.upstreams["api"])
    assert sample.path == "/orders/1/1"


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies").mkdir()

    def call(url: str, *words: str) -> tuple[int, str, str]:
        (tmp_path / "routes.yaml").write_text(ROUTES % (url, ""))
        code = main(["doctor", "upstreams", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_the_exit_code_tells_what_was_found(run: Callable[..., tuple[int, str, str]]) -> None:
    with serving(refusing) as upstream:
        assert run(upstream.url)[0] == 0
    with serving(open_to_all) as upstream:
        code, out, _ = run(upstream.url, "--json")
        assert code == 1
        rows = json.loads(out)
        assert {row["check"] for row in rows} == {"around", "forged headers"}
        assert {row["target"] for row in rows} == {upstream.url}
    code, out, _ = run("http://127.0.0.1:9")
    assert code == 3
    assert "nothing answers" in out


def test_wrong_usage_is_told(run: Callable[..., tuple[int, str, str]]) -> None:
    assert run("http://127.0.0.1:9", "nope")[0] == 2
    assert run("http://127.0.0.1:9", "--path", "api")[0] == 2
    assert run("http://127.0.0.1:9", "--path", "nope=/x")[0] == 2
