"""What a person does in front of every page application: sign in, once, at the sample page."""

from __future__ import annotations

from tests.applications.recipe import EMAIL, PASSWORD, Recipe
from tests.browser.driving import Browser


def sign_in(browser: Browser, recipe: Recipe) -> None:
    """At the page of `examples/spa`, which every recipe with pages has at `/`."""
    browser.open(f"{recipe.url}/")
    browser.wait_for(lambda: browser.text("status") == "Signed out", "the sign-in form")
    browser.fill_in("email", EMAIL)
    browser.fill_in("password", PASSWORD)
    browser.press("Sign in")
    browser.wait_for(lambda: browser.text("status") == f"Signed in as {EMAIL}", "the sign-in")
