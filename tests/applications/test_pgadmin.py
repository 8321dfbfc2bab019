"""docs/applications/pgadmin.md, with the real pgAdmin in a real Chromium."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.applications.browser import (
    assert_led_to_sign_in,
    change_person,
    sign_in,
    sign_in_and_out,
)
from tests.applications.recipe import EMAIL, Recipe, recipe_fixture
from tests.browser.driving import NEEDS_CHROMIUM, Browser

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

pgadmin = recipe_fixture("pgadmin", "secret", "program:5050", "gateway", "account")


def test_the_page_shows_the_person_and_its_socket_is_open(
    browser: Browser, pgadmin: Recipe
) -> None:
    sign_in(browser, pgadmin)
    browser.open(f"{pgadmin.url}/pgadmin")
    browser.wait_for(lambda: EMAIL in browser.page(), "the person's address")
    browser.wait_for(lambda: "Object Explorer" in browser.page(), "the page")
    opened = browser.run(
        """return await new Promise((resolve) => {
             const at = `ws://${location.host}/pgadmin/socket.io/?EIO=4&transport=websocket`;
             const socket = new WebSocket(at);
             socket.onmessage = (event) => resolve(event.data.slice(0, 6));
             socket.onerror = () => resolve('refused');
           });"""
    )
    assert opened == '0{"sid'


def test_who_was_given_the_address_signs_in_and_out(browser: Browser, pgadmin: Recipe) -> None:
    sign_in_and_out(browser, pgadmin, "/pgadmin/browser/", lambda: EMAIL in browser.page())


def test_a_server_is_added_and_asked_for_its_databases(
    browser: Browser, pgadmin: Recipe, postgres_database_url: str
) -> None:
    """By the calls that the page's own dialogs make."""
    database = urlsplit(postgres_database_url)
    sign_in(browser, pgadmin)
    browser.open(f"{pgadmin.url}/pgadmin/browser/")
    label, databases = browser.run(
        """const [server] = args;
           const at = '/pgadmin/browser';
           const script = await (await fetch(`${at}/js/utils.js`)).text();
           const token = /csrf_token'\\] = '([^']+)'/.exec(script)[1];
           const headers = {'Content-Type': 'application/json', 'X-pgA-CSRFToken': token};
           const added = await fetch(
             `${at}/server/obj/1/`, {method: 'POST', body: JSON.stringify(server), headers});
           const {node} = await added.json();
           const nodes = await fetch(`${at}/database/nodes/1/${node._id}/`, {headers});
           return [node.label, JSON.stringify(await nodes.json())];""",
        {
            "name": "test",
            "host": database.hostname,
            "port": database.port,
            "db": database.path.removeprefix("/"),
            "username": database.username,
            "password": database.password or "",
            "connect_now": True,
            "connection_params": {"sslmode": "prefer"},
        },
    )
    assert label == "test"
    assert database.path.removeprefix("/") in databases


def test_pgadmin_follows_when_another_person_signs_in(browser: Browser, pgadmin: Recipe) -> None:
    sign_in(browser, pgadmin)
    browser.open(f"{pgadmin.url}/pgadmin/browser/")
    browser.wait_for(lambda: EMAIL in browser.page(), "the person's address")
    change_person(browser, pgadmin, "eve@example.com")
    browser.open(f"{pgadmin.url}/pgadmin/")
    browser.wait_for(lambda: "eve@example.com" in browser.page(), "the other person's address")
    assert EMAIL not in browser.page()


def test_who_has_not_signed_in_is_led_to_the_page(browser: Browser, pgadmin: Recipe) -> None:
    browser.open(f"{pgadmin.url}/pgadmin/")
    assert_led_to_sign_in(browser)
