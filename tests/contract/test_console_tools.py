"""Explain, playground, who-can-reach-what and the check of an issuer, through the real process."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.cli.test_issuers import KEY, Provider
from tests.contract.running import ROUTES, Running, started
from tests.contract.test_console_live import bearer, post, sign_in


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        server.publish(KEY)
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Running]:
    issuers = f"issuers: {{{{company: {{{{issuer: {provider.url}, audience: api}}}}}}}}"
    routes = ROUTES.replace("version: 1\n", f"version: 1\n{issuers}\n", 1)
    with started(tmp_path_factory.mktemp("tools") / "g", routes=routes) as running:
        running.sign_in("ada@example.com")
        yield running


@pytest.fixture(scope="module")
def signed_in(gateway: Running) -> tuple[str, str]:
    return sign_in(gateway)


def files_of(gateway: Running) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in gateway.folder.rglob("*.yaml")}


def shown(gateway: Running, path: str) -> str:
    answer = gateway.admin(path, bearer(gateway))
    assert answer.status == 200, answer.text
    return answer.text


# --- explain ---


def test_a_call_is_explained_with_file_line_and_smallest_change(gateway: Running) -> None:
    text = shown(gateway, "/admin/explain?method=GET&url=/v1/users/u2/orders/1&id=u1")
    assert "Denied" in text
    assert "policies/orders.yaml:" in text
    assert "Smallest change" in text
    text = shown(gateway, "/admin/explain?method=GET&url=/v1/users/u1/orders/1&id=u1")
    assert "Allowed" in text


def test_an_account_is_the_caller_by_its_address(gateway: Running) -> None:
    assert "Allowed" in shown(gateway, "/admin/explain?url=/me&who=ada@example.com")
    answer = gateway.admin("/admin/explain?url=/me&who=no@example.com", bearer(gateway))
    assert (answer.status, "no account has that address" in answer.text) == (422, True)


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("url=me", "begins with /"),
        ("url=/me&method=G+T", "no method"),
        ("url=/me&ip=300.1.1.1", "no address"),
        ("url=/me&header=x", "NAME: VALUE"),
    ],
)
def test_a_slip_is_told_beside_its_field(gateway: Running, query: str, wrong: str) -> None:
    answer = gateway.admin(f"/admin/explain?{query}", bearer(gateway))
    assert (answer.status, wrong in answer.text) == (422, True), answer.text


def test_what_is_typed_is_shown_as_text(gateway: Running) -> None:
    text = shown(gateway, f"/admin/explain?url={quote('/<script>alert(1)</script>')}")
    assert "<script>alert" not in text


# --- who can reach what ---


def test_roles_and_a_person_stand_beside_the_routes(gateway: Running) -> None:
    text = shown(gateway, "/admin/reach?q=orders&person=ada@example.com")
    assert "ada@example.com" in text
    rows = re.findall(r'<th scope="row">(.*?)</th>', text)
    assert rows
    assert all("orders" in row.lower() for row in rows)
    assert "No route matches." in shown(gateway, "/admin/reach?q=zzz")
    assert "No account has that address." in shown(gateway, "/admin/reach?person=no@example.com")


# --- issuers ---


def test_an_issuer_is_asked_now(
    gateway: Running, signed_in: tuple[str, str], provider: Provider
) -> None:
    cookie, csrf = signed_in
    form = {"csrf": csrf, "do": "check", "issuer": "company"}
    answer = post(gateway, "/admin/issuers", form, cookie)
    assert answer.status == 200, answer.text
    assert f"{provider.url}/keys, to be kept for 300 s" in answer.text
    assert "EC P-256, for no alg that is taken" in answer.text


def test_a_gateway_that_is_interrupted_waits_for_no_issuer_that_it_asks(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(2) as pool:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        issuers = f"issuers: {{{{silent: {{{{issuer: {url}, audience: api}}}}}}}}"
        routes = ROUTES.replace("version: 1\n", f"version: 1\n{issuers}\n", 1)
        with started(tmp_path / "g", routes=routes, GATEWAY_WORKERS="1") as running:
            cookie, csrf = sign_in(running)
            form = {"csrf": csrf, "do": "check", "issuer": "silent"}
            both = [pool.submit(post, running, "/admin/issuers", form, cookie) for _ in range(2)]
            # One of them is told that the other is under way.
            [second], [first] = wait(both, return_when=FIRST_COMPLETED)
            assert second.result().status == 409
            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(60) == 0
            assert first.exception(60) is not None
            lines = running.cli("audit", "tail", "--json").stdout.splitlines()
    [event] = [one for one in map(json.loads, lines) if one["event"] == "issuers_checked"]
    assert event["detail"] == {"change": "left", "issuers": "silent", "by": "console"}


# --- playground ---


def attempt(
    gateway: Running,
    signed_in: tuple[str, str],
    name: str,
    text: str,
    query: str = "",
    **edits: str,
) -> str:
    cookie, csrf = signed_in
    form = {"csrf": csrf, "do": "try", "file": name, "text": text, **edits}
    answer = post(gateway, f"/admin/playground{query}", form, cookie)
    assert answer.status in (200, 422), answer.text
    return answer.text


def test_the_playground_shows_a_copy_of_the_files(
    gateway: Running, signed_in: tuple[str, str]
) -> None:
    text = shown(gateway, "/admin/playground")
    assert "policies/orders.yaml" in text
    assert "version: 1" in text


def test_a_wrong_edit_is_told_with_its_place_and_nothing_is_written(
    gateway: Running, signed_in: tuple[str, str]
) -> None:
    before = files_of(gateway)
    text = attempt(gateway, signed_in, "routes.yaml", "version: 1\r\nroutez: []\r\n")
    assert "routes.yaml:2:1: unknown key `routez`" in text.replace("&#39;", "'")
    assert files_of(gateway) == before
    assert not list((gateway.folder / "data").glob("trial-*"))


def test_who_gains_access_is_told_before_anything_is_saved(
    gateway: Running, signed_in: tuple[str, str]
) -> None:
    before = files_of(gateway)
    name = "policies/orders.yaml"
    text = before[str(gateway.folder / name)].decode()
    told = attempt(gateway, signed_in, name, text + "  - {id: all, allow: ['*']}\n")
    assert "Somebody gains access." in told
    assert "gains" in told
    assert "+  - {id: all, allow: [&#39;*&#39;]}" in told
    assert files_of(gateway) == before


def test_the_patch_is_offered_as_a_file(gateway: Running, signed_in: tuple[str, str]) -> None:
    patch = attempt(gateway, signed_in, "policies/new.yaml", "version: 1\r\n", "?as=patch")
    assert patch.startswith("--- /dev/null\n+++ b/policies/new.yaml\n@@ ")
    assert patch.endswith("+version: 1\n")


def test_edits_of_another_file_are_carried_along(
    gateway: Running, signed_in: tuple[str, str]
) -> None:
    text = attempt(
        gateway, signed_in, "routes.yaml", "version: 2\n", "?as=open", open="policies/orders.yaml"
    )
    assert "<option selected>policies/orders.yaml" in text
    assert 'name="edit:routes.yaml" value="version: 2' in text


@pytest.mark.parametrize(
    "name",
    ["../routes.yaml", "/etc/passwd", "policies/../../x.yaml", "policies/x.sh", "policies/.y.yaml"],
)
def test_no_other_file_can_be_named(
    gateway: Running, signed_in: tuple[str, str], name: str
) -> None:
    text = attempt(gateway, signed_in, name, "x")
    assert "is no file of a configuration" in text
    assert "root:" not in text


def test_a_file_that_is_too_long_is_refused(gateway: Running, signed_in: tuple[str, str]) -> None:
    cookie, csrf = signed_in
    form = {"csrf": csrf, "do": "try", "file": "routes.yaml", "text": "x" * 2_100_000}
    assert post(gateway, "/admin/playground", form, cookie).status == 413


def test_a_trial_asks_for_the_proof_of_the_page(
    gateway: Running, signed_in: tuple[str, str]
) -> None:
    form = {"csrf": "x", "do": "try", "file": "routes.yaml", "text": "version: 1\n"}
    assert post(gateway, "/admin/playground", form, signed_in[0]).status == 403
