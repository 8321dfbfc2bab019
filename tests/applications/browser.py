"""What a person does in front of every page application: sign in, once, at the gateway's page."""

from __future__ import annotations

from collections.abc import Callable

from tests.applications.recipe import EMAIL, PASSWORD, Recipe
from tests.browser.driving import Browser

SIGN_IN = "Sign in –"
"""How the title of the page begins."""


def sign_in(browser: Browser, recipe: Recipe) -> None:
    """Without a program that has led there: then it leads to the host's start page, and on."""
    browser.open(f"{recipe.url}/auth/ui/sign-in")
    fill_in(browser)
    browser.wait_for(lambda: "/auth/ui/" not in browser.driver.current_url, "the sign-in")


def fill_in(browser: Browser) -> None:
    assert_led_to_sign_in(browser)
    browser.fill_in("email", EMAIL)
    browser.fill_in("password", PASSWORD)
    browser.press("Sign in")


def assert_led_to_sign_in(browser: Browser) -> None:
    browser.wait_for(lambda: browser.driver.title.startswith(SIGN_IN), "the sign-in page")


def sign_in_and_out(
    browser: Browser, recipe: Recipe, path: str, names_the_person: Callable[[], bool]
) -> None:
    """The whole way of a person who was given the program's address and knows nothing else."""
    there = f"{recipe.url}{path}"

    def is_there() -> bool:
        return browser.driver.current_url == there

    browser.open(there)
    fill_in(browser)
    browser.wait_for(is_there, "the page that was asked for")
    browser.wait_for(names_the_person, "the person's name")
    sign_out(browser, recipe)
    browser.open(there)
    fill_in(browser)
    browser.wait_for(is_there, "the same page again")
    browser.wait_for(names_the_person, "the person's name again")
    sign_out(browser, recipe)
    fill_in(browser)
    prefix = "/".join(path.split("/")[:2])
    browser.wait_for(
        lambda: browser.driver.current_url.startswith(f"{recipe.url}{prefix}/"), "the program"
    )


def sign_out(browser: Browser, recipe: Recipe) -> None:
    """At the gateway's page, which then asks who comes next."""
    browser.open(f"{recipe.url}/auth/ui/sign-out")
    browser.press("Sign out")
    browser.wait_for(lambda: "You have signed out." in browser.page(), "the sign-out")


def change_person(browser: Browser, recipe: Recipe, email: str) -> None:
    """Somebody else, made like the page's account, signs in in the same browser; pages stay open."""
    recipe.blocks["another account"] = recipe.blocks["account"].replace(EMAIL, email)
    recipe.run("another account")
    status = browser.run(
        """const [email, password] = args;
           const answer = await fetch('/auth/login', {
             method: 'POST', headers: {'Content-Type': 'application/json'},
             body: JSON.stringify({email, password, transport: 'cookie'})});
           return answer.status;""",
        email,
        PASSWORD,
    )
    assert status == 200
