"""docs/applications/django-admin.md, with the real Django in a real Chromium."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By

from tests.applications.browser import (
    assert_led_to_sign_in,
    change_person,
    sign_in,
    sign_in_and_out,
)
from tests.applications.recipe import EMAIL, Recipe, recipe_fixture
from tests.browser.driving import NEEDS_CHROMIUM, Browser

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

django = recipe_fixture("django-admin", "database", "program:8000", "gateway", "account")


def test_one_sign_in_is_enough_and_an_object_can_be_saved(browser: Browser, django: Recipe) -> None:
    sign_in(browser, django)
    browser.open(f"{django.url}/admin")
    assert f"WELCOME, {EMAIL.upper()}" in browser.page()
    browser.open(f"{django.url}/admin/auth/group/add/")
    browser.fill_in("id_name", "Translators")
    browser.driver.find_element(By.NAME, "_save").click()
    browser.wait_for(lambda: "was added successfully" in browser.page(), "Django's answer")
    assert "Translators" in browser.page()


def test_who_was_given_the_address_signs_in_and_out(browser: Browser, django: Recipe) -> None:
    def names_the_person() -> bool:
        return f"WELCOME, {EMAIL.upper()}" in browser.page()

    sign_in_and_out(browser, django, "/admin/auth/group/?o=1", names_the_person)


def test_the_admins_own_log_out_leads_to_the_gateways(browser: Browser, django: Recipe) -> None:
    sign_in(browser, django)
    browser.open(f"{django.url}/admin/")
    browser.press("Log out")
    browser.wait_for(lambda: browser.driver.title.startswith("Sign out –"), "the gateway's page")
    browser.press("Sign out")
    browser.wait_for(lambda: "You have signed out." in browser.page(), "the sign-out")
    browser.open(f"{django.url}/admin/")
    assert_led_to_sign_in(browser)


def test_a_role_that_is_taken_is_gone_from_djangos_session_too(
    browser: Browser, django: Recipe
) -> None:
    sign_in(browser, django)
    browser.open(f"{django.url}/admin/auth/group/")
    assert "Select group to change" in browser.page()
    django.run("demote")
    browser.open(f"{django.url}/admin/auth/group/")
    assert "403 Forbidden" in browser.page()
    browser.open(f"{django.url}/admin/")
    assert "You don’t have permission to view or edit anything." in browser.page()


def test_djangos_session_ends_when_another_person_signs_in(
    browser: Browser, django: Recipe
) -> None:
    sign_in(browser, django)
    browser.open(f"{django.url}/admin/")
    assert f"WELCOME, {EMAIL.upper()}" in browser.page()
    change_person(browser, django, "eve@example.com")
    browser.open(f"{django.url}/admin/")
    assert "WELCOME, EVE@EXAMPLE.COM" in browser.page()


def test_who_has_not_signed_in_is_led_to_the_page(browser: Browser, django: Recipe) -> None:
    browser.open(f"{django.url}/admin/")
    assert_led_to_sign_in(browser)
