"""What the real Envoy does with ext_authz over gRPC beside what it does with every proxy (test_proxies)."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.certificates import self_signed
from tests.contract.running import Running
from tests.deploy.proxies import Site, envoy_grpc_changed, require, running, site
from tests.deploy.test_proxies import SPELLINGS, received
from tests.servers import wait_until

pytestmark = pytest.mark.slow

EMAIL = "ada@example.com"
NOTES = """\
  - id: notes
    match: {path: /notes, methods: [POST]}
    policy: notes
    action: notes:write
    resource: {type: note, draft: "{body.draft}"}
    upstream: shop
"""
NOTES_POLICY = """\
version: 1
policy: notes
rules:
  - id: whole
    allow: [notes:write]
    when: "!has(resource.draft)"
"""


@contextmanager
def house_of(folder: Path, **settings: str) -> Iterator[Site]:
    (folder / "policies").mkdir(parents=True)
    (folder / "policies" / "notes.yaml").write_text(NOTES_POLICY)
    with site(folder, NOTES, **settings) as found:
        yield found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require("envoy-grpc")
    with house_of(tmp_path_factory.mktemp("grpc") / "site") as found:
        yield found


def as_shipped(text: str) -> str:
    return text


@contextmanager
def envoy_before(
    house: Site, change: Callable[[str], str] = as_shipped, concurrency: int = 1
) -> Iterator[Running]:
    ports = house.ports()
    command = envoy_grpc_changed(change, concurrency=concurrency)
    with running(command, ports, house.folder / f"envoy-{ports.proxy}"):
        yield house.seen_at(ports.proxy)


@pytest.fixture(scope="module")
def envoy(house: Site) -> Iterator[Running]:
    with envoy_before(house) as found:
        yield found


def taken_out(text: str, begin: str, before: str) -> str:
    """Without the lines from `begin` to the one with `before`."""
    cut = re.sub(rf"(?ms)^[^\n]*{re.escape(begin)}.*?(?=^[^\n]*{re.escape(before)})", "", text)
    assert cut != text
    return cut


JSON = ("Content-Type", "application/json")


def test_a_policy_reads_the_body_and_the_backend_is_sent_it_whole(envoy: Running) -> None:
    token = str(envoy.sign_in(EMAIL)["access_token"])
    body = b'{"text": "%b"}' % (b"a" * 60_000)
    answer = envoy.call("POST", "/notes", JSON, body=body, token=token)
    assert received(answer)["x-auth-email"] == [EMAIL]
    assert answer.json["body"] == body.decode()
    refused = envoy.call("POST", "/notes", JSON, body=b'{"draft": true}', token=token)
    assert (refused.status, refused.reason) == (403, "no_rule")
    broken = envoy.call("POST", "/notes", JSON, body=b'{"draft', token=token)
    assert (broken.status, broken.reason) == (400, "body_malformed")
    too_large = envoy.call("POST", "/notes", JSON, body=b'"%b"' % (b"a" * 70_000), token=token)
    assert too_large.status == 413


def test_a_body_that_is_not_shown_whole_allows_nothing(house: Site) -> None:
    def not_shown(text: str) -> str:
        return re.sub(r".*with_request_body:.*\n", "", text)

    def partly(text: str) -> str:
        return text.replace(
            "max_request_bytes: 65536", "max_request_bytes: 16, allow_partial_message: true"
        )

    def as_text(text: str) -> str:
        return text.replace(", pack_as_bytes: true", "")

    lie = ("x-envoy-auth-partial-body", "false")
    for change in (not_shown, partly, as_text):
        with envoy_before(house, change) as front:
            token = str(front.sign_in(EMAIL)["access_token"])
            for lies in ((), (lie,)):
                body = b'{"text": "a long one, which is cut off"}'
                answer = front.call("POST", "/notes", JSON, *lies, body=body, token=token)
                assert (answer.status, answer.reason) == (403, "no_rule"), change
                assert "body" in answer.json["detail"]


def bare(text: str) -> str:
    """As what generates Envoy's configuration has it: nothing is taken away beforehand."""
    text = taken_out(
        text, "# Every spelling of an identity header", "name: envoy.filters.http.ext_authz"
    )
    return taken_out(text, "common_http_protocol_options:", "route_config:")


@pytest.mark.parametrize("raw", [True, False])
def test_no_forged_field_arrives_where_envoy_takes_nothing_away_itself(
    house: Site, raw: bool
) -> None:
    def change(text: str) -> str:
        return (
            bare(text)
            if raw
            else bare(text).replace("encode_raw_headers: true", "encode_raw_headers: false")
        )

    with envoy_before(house, change) as front:
        token = str(front.sign_in(EMAIL)["access_token"])
        names = ("Proxy", "X-Real-IP", "X_Real_IP", "X-Original-URL", "X-HTTP-Method-Override")
        more = [*SPELLINGS, *((name, "forged") for name in names)]
        for who in (None, token):
            fields = received(front.call("GET", "/me" if who else "/catalogue/a", *more, token=who))
            assert not [name for name, values in fields.items() if "forged" in values], fields
            assert ("x-auth-user-id" in fields) == (who is not None)
            assert "authorization" not in fields


@pytest.mark.parametrize("raw", [True, False])
def test_a_credential_that_came_twice_does_not_pass(house: Site, raw: bool) -> None:
    def change(text: str) -> str:
        return (
            text if raw else text.replace("encode_raw_headers: true", "encode_raw_headers: false")
        )

    with envoy_before(house, change) as front:
        token = str(front.sign_in(EMAIL)["access_token"])
        for other in ("Bearer bad", f"Bearer {token}"):
            answer = front.call("GET", "/me", ("Authorization", other), token=token)
            # Envoy itself joins the two with a comma, which is no token.
            assert (answer.status, answer.reason) == (401, "token_malformed")
        before = len(house.echo.seen)
        # No spelling of bytes that are not UTF-8 is judged as something else than is sent.
        for target in ("/catalogue/\xff", "/catalogue/a?\xff", "/users/\xff/orders"):
            assert front.raw(
                f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1")
            ).status in (400, 404)
        assert len(house.echo.seen) == before


def test_envoys_log_says_who_called_and_why(house: Site) -> None:
    log = house.folder / "envoy-access.log"
    told = "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:"
    entry = f"""stat_prefix: public
                access_log:
                  - name: envoy.access_loggers.file
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
                      path: {log}
                      log_format: {{text_format_source: {{inline_string: "{told}reason)% {told}route)% {told}subject)% {told}request_id)%\\n"}}}}
"""
    with envoy_before(house, lambda text: text.replace("stat_prefix: public\n", entry)) as front:
        token = str(front.sign_in(EMAIL)["access_token"])
        front.call("GET", "/me", token=token)
        refused = front.call("GET", "/me")
        user = front.users[EMAIL]["user_id"]
    lines = log.read_text().splitlines()
    assert any(line.startswith(f"signed_in me {user} ") for line in lines), lines
    assert f"no_credential me - {refused.json['request_id']}" in lines, lines


def test_workers_share_the_port_and_a_sign_out_holds_at_each(tmp_path: Path) -> None:
    with (
        house_of(tmp_path / "site", GATEWAY_WORKERS="2") as house,
        envoy_before(house, concurrency=4) as front,
    ):
        before = len(house.echo.seen)
        for n in range(4):
            token = str(front.sign_in(f"user{n}@example.com")["access_token"])
            assert {front.call("GET", "/me", token=token).status for _ in range(12)} == {200}
            assert front.call("POST", "/auth/logout", token=token).status == 204
            answers = [front.call("GET", "/me", token=token) for _ in range(12)]
            assert {(one.status, one.reason) for one in answers} == {(401, "token_revoked")}
        assert len(house.echo.seen) == before + 48
        # A worker that dies takes the calls it had with it; no other is refused or let through.
        state = front.admin("/readyz").json
        pids = [worker["worker"] for worker in state["workers"]]
        assert len(pids) == 2
        os.kill(pids[0], signal.SIGKILL)
        wait_until(lambda: front.call("GET", "/catalogue/a").status == 200, 20, "the other worker")
        known = {"email": "user0@example.com", "password": "correct horse 7 battery"}
        answers = []

        def signs_in() -> bool:
            answers.append(front.call("POST", "/auth/login", json_body=known))
            return answers[-1].status == 200

        # Envoy sends no POST again whose connection ended with the worker.
        wait_until(signs_in, 20, "a sign-in")
        token = str(answers[-1].json["access_token"])
        statuses = [front.call("GET", "/me").status for _ in range(30)]
        assert set(statuses) <= {401, 503}
        wait_until(
            lambda: {front.call("GET", "/me", token=token).status for _ in range(12)} == {200},
            20,
            "both workers",
        )


def test_a_gateway_that_ends_drops_no_call_that_it_was_asked_about(tmp_path: Path) -> None:
    with house_of(tmp_path / "site", GATEWAY_DRAIN_S="1") as house, envoy_before(house) as front:
        token = str(front.sign_in(EMAIL)["access_token"])
        statuses: list[int] = []
        ended = threading.Event()

        def asking() -> None:
            while not ended.is_set():
                statuses.append(front.call("GET", "/me", token=token).status)

        asks = threading.Thread(target=asking)
        asks.start()
        wait_until(lambda: len(statuses) > 20, 20, "calls")
        house.gateway.send_signal(signal.SIGTERM)
        house.gateway.wait(40)
        ended.set()
        asks.join(20)
        # 503 once nobody listens, and nothing else.
        first = statuses.index(503) if 503 in statuses else len(statuses)
        assert first > 20
        assert set(statuses[:first]) == {200}
        assert set(statuses[first:]) <= {503}


def test_the_listener_shows_the_certificate_of_the_public_one(tmp_path: Path) -> None:
    certificate = self_signed("localhost", "127.0.0.1")
    pair = certificate.write(tmp_path)
    folder = tmp_path / "site"

    def with_tls(text: str) -> str:
        cluster = """- name: {name}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          sni: localhost
          common_tls_context: {{validation_context: {{trusted_ca: {{filename: {ca}}}}}}}
"""
        for name in ("authgate_decisions", "authgate_public"):
            made = cluster.format(name=name, ca=pair[0])
            text = text.replace(f"- name: {name}\n", made)
        return text

    settings = {
        "GATEWAY_TLS_CERT": str(pair[0]),
        "GATEWAY_TLS_KEY": str(pair[1]),
    }
    with house_of(folder, **settings) as house:
        with envoy_before(house, with_tls) as front:
            token = str(front.sign_in(EMAIL)["access_token"])
            assert received(front.call("GET", "/me", token=token))["x-auth-email"] == [EMAIL]
        with envoy_before(house) as front:  # in the clear
            assert front.call("GET", "/catalogue/a").status == 503
        # No stranger's handshake writes a line of the library's.
        assert "ssl_transport_security" not in (folder / "log").read_text()


def test_the_client_of_an_allowed_call_is_told_of_its_limits(envoy: Running) -> None:
    token = str(envoy.sign_in("limited@example.com")["access_token"])
    answer = envoy.call("GET", "/export", ("X-Request-Id", "not an id"), token=token)
    fields = received(answer)
    assert answer.get("ratelimit-policy")
    assert answer.get("ratelimit")
    assert "ratelimit" not in fields
    assert fields["x-auth-email"] == ["limited@example.com"]
    assert len(fields["x-request-id"]) == 1


def test_a_refusal_is_in_the_gateways_own_log(house: Site, envoy: Running) -> None:
    answer = envoy.call(
        "GET", "/users/somebody/orders", token=str(envoy.sign_in(EMAIL)["access_token"])
    )
    request_id = answer.json["request_id"]
    log = house.folder / "log"
    wait_until(lambda: request_id in log.read_text(), 10, "a line of the refusal")
    line = next(json.loads(one) for one in log.read_text().splitlines() if f'"{request_id}"' in one)
    assert (line["event.reason"], line["authgate.route"]) == ("no_rule", "orders")
    counted = [
        one
        for one in envoy.admin("/metrics").body.decode().splitlines()
        if one.startswith("authgate_requests_total{") and '"no_rule"' in one and '"orders"' in one
    ]
    assert len(counted) == 1
