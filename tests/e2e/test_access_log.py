"""What a started gateway tells of its answers, and what it costs to tell nothing."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.telemetry.access_record import fields_of_line
from tests.contract.running import ROUTES, Running, started
from tests.e2e.processes import until, workers

pytestmark = pytest.mark.slow


def access_lines(path: Path) -> list[dict[str, Any]]:
    """The access log among whatever else stands on standard output."""
    found = [fields_of_line(line) for line in path.read_text().splitlines()]
    return [line for line in found if line is not None]


def line_of(path: Path, request_id: object) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def there() -> bool:
        if not path.exists():
            return False
        found[:] = [one for one in access_lines(path) if one["http.request.id"] == request_id]
        return bool(found)

    until(there, 5)
    (line,) = found
    return line


def too_large(running: Running) -> dict[str, Any]:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.port), 5) as client:
        client.sendall(head)
        answered = client.makefile("rb").read()
    return dict(json.loads(answered.partition(b"\r\n\r\n")[2]))


def test_each_refusal_of_a_default_gateway_is_found_by_its_request_id(tmp_path: Path) -> None:
    with started(tmp_path / "g", "--workers", "2") as one:
        out = one.folder / "out"
        until(lambda: len(workers(one)) == 2, 20)
        pids = set(workers(one))
        token = one.sign_in("mine@example.com")["access_token"]
        for answer, route in (
            (one.call("GET", "/me?hidden=secret-value"), "me"),
            (one.call("GET", "/hidden", token=token), "hidden"),
            (one.call("GET", "/nowhere"), None),
            (one.call("GET", "/down"), "down"),
            (one.call("GET", "/public/../me"), None),
            (one.call("POST", "/auth/login", json_body={"email": 1}), None),
            (one.call("GET", "/auth/nothing"), None),
            (one.admin("/nothing"), None),
            (one.admin("/admin/api/state"), None),
            (one.admin("/decide/traefik"), None),
        ):
            assert isinstance(answer.json, dict)
            line = line_of(out, answer.json["request_id"])
            assert line.get("authgate.route") == route
            assert line["http.response.status_code"] == answer.status
            assert line["process.pid"] in pids
            assert line["client.ip"] == "127.0.0.1"
            shown = answer.json["reason"]
            # What is concealed from the client is not from the operator.
            assert line["event.reason"] == shown or (route, shown) == ("hidden", "route_unknown")
        shell = one.admin("/admin")
        assert shell.status == 401
        assert line_of(out, shell.get("x-request-id"))["event.reason"] == "no_credential"
        problem = too_large(one)
        assert line_of(out, problem["request_id"])["event.reason"] == "header_too_large"
        good = one.call("GET", "/me", ("X-Request-Id", "a-good-call"), token=token)
        assert good.status == 200
    text = out.read_text()
    assert "a-good-call" not in text
    assert "secret-value" not in text
    assert token not in text


def test_good_answers_are_lines_where_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    settings = {"GATEWAY_ACCESS_LOG": "all", "GATEWAY_ACCESS_LOG_FILE": str(path)}
    with started(tmp_path / "g", "--workers", "2", **settings) as one:
        token = one.sign_in("mine@example.com")["access_token"]
        for target, status in (("/me", 200), ("/public/x", 200), ("/auth/me", 200), ("/app", 308)):
            request_id = f"good{target.replace('/', '-')}"
            answer = one.call("GET", target, ("X-Request-Id", request_id), token=token)
            assert answer.status == status
            line = line_of(path, request_id)
            assert (line["event.outcome"], line["url.path"]) == ("success", target)
            assert line["http.response.status_code"] == status
        assert line_of(path, "good-me")["event.duration"] > 0
        path.rename(tmp_path / "moved.log")
        one.call("GET", "/public/x", ("X-Request-Id", "after-it-was-moved"))
        line_of(path, "after-it-was-moved")
    assert "@timestamp" not in (tmp_path / "g" / "out").read_text()
    assert token not in (tmp_path / "moved.log").read_text()


@contextmanager
def cutting() -> Iterator[int]:
    """A backend that promises more than it sends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    with client:
                        client.recv(4096)
                        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def test_an_answer_that_was_cut_off_is_found(tmp_path: Path) -> None:
    with cutting() as port:
        routes = ROUTES.replace("{dead}", str(port))
        with started(tmp_path / "g", routes=routes) as one:
            with socket.create_connection(("127.0.0.1", one.port), 5) as client:
                client.sendall(b"GET /down HTTP/1.1\r\nHost: a\r\nX-Request-Id: cut-off\r\n\r\n")
                with suppress(ConnectionResetError):
                    client.makefile("rb").read()
            line = line_of(one.folder / "out", "cut-off")
    assert (line["event.reason"], line["http.response.status_code"]) == ("upstream_malformed", 200)
    assert (line["authgate.route"], line["url.path"]) == ("down", "/down")


def test_off_writes_nothing(tmp_path: Path) -> None:
    with started(tmp_path / "g", GATEWAY_ACCESS_LOG="off") as one:
        assert one.call("GET", "/nowhere").status == 404
    # Whatever waited was written when it ended.
    assert access_lines(tmp_path / "g" / "out") == []
