"""The lists of the operator's console in a real Chromium, over a real gateway: looked at by axe-core,
and worked as an operator works them.

`make screenshots` writes the pictures of docs/operations/console.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.browser.driving import NEEDS_CHROMIUM, chromium
from tests.browser.looks import Look, axe_script
from tests.contract.running import Running, started

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

PICTURES = {
    ("users", "light", 1280): "users.png",
    ("person", "light", 1280): "person.png",
    ("client", "light", 1280): "client.png",
    ("keys", "light", 1280): "keys.png",
    ("workers", "light", 1280): "workers.png",
    ("audit", "light", 1280): "audit.png",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with started(tmp_path_factory.mktemp("console") / "g") as running:
        yield running


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory, gateway: Running) -> Iterator[Look]:
    """Signed in."""
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as opened:
        looking = Look(
            opened,
            f"http://127.0.0.1:{gateway.admin_port}",
            javascript=True,
            axe=axe_script(),
            pictures=PICTURES,
            folder=os.environ.get("SCREENSHOTS_CONSOLE"),
        )
        looking.open("/admin")
        token = (gateway.folder / "data" / "admin-token").read_text().strip()
        looking.fill(token=token)
        looking.press("Sign in")
        yield looking


def test_a_user_is_found_given_a_role_and_signed_out(look: Look, gateway: Running) -> None:
    email = "ada@example.com"
    gateway.confirmed("users", "create", email, "--role", "viewer", "--verified")
    gateway.confirmed("users", "create", "bob@example.com")
    look.follow("Users")
    look.judge("users")
    look.fill(q="ad")
    look.press("Search")
    assert "bob@example.com" not in look.browser.text("results")
    look.follow(email)
    look.fill(role="auditor")
    look.press("Give")
    assert look.browser.text("notice").startswith("The role was given")
    assert "auditor" in look.browser.text("roles")
    look.press("End all sessions")
    look.press("Disable")
    assert "disabled" in look.browser.text("facts")
    look.judge("person")
    shown = json.loads(gateway.confirmed("users", "show", email, "--json").stdout)
    assert shown["disabled"] is True
    assert shown["roles"] == ["auditor", "viewer"]


def test_a_client_is_made_and_keys_are_rotated(look: Look, gateway: Running) -> None:
    gateway.confirmed("users", "create", "eve@example.com", "--verified")
    look.follow("Clients")
    look.judge("clients")
    look.fill(name="billing", roles="reader")
    look.press("Make it and show its secret, once")
    assert look.browser.text("client_secret")
    look.fill(days="7")
    look.press("Make it and show it, once")
    assert look.browser.text("api_key").startswith("ag_")
    look.follow("Clients")
    look.follow("billing")
    assert look.browser.text("keys").count("key-") == 1
    look.judge("client")
    look.follow("Signing keys")
    look.judge("keys")
    look.press("Rotate")
    assert "next key signs" in look.browser.text("notice")
    look.follow("Sessions")
    look.judge("sessions")


def test_workers_upstreams_limits_and_the_audit_log_are_shown(look: Look, gateway: Running) -> None:
    gateway.call("GET", "/limited")
    look.follow("Workers")
    assert "held" in look.browser.text("workers")
    look.judge("workers")
    look.follow("Upstreams")
    assert "nowhere" in look.browser.text("targets")
    look.follow("Limits")
    assert "1 of 3" in look.browser.text("limits")
    look.judge("limits")
    look.follow("Issuers")
    look.follow("Mail")
    look.judge("mail")
    look.follow("Audit log")
    look.press("Check the chains")
    look.browser.wait_for(
        lambda: "nothing was changed" in look.browser.text("check"), "the end of the check"
    )
    look.judge("audit")
