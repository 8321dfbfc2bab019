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
