"""Chromium's virtual authenticator, and what a page's script does with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selenium.webdriver.common.virtual_authenticator import (
    Protocol,
    Transport,
    VirtualAuthenticatorOptions,
)

from tests.browser.driving import Browser

CALL = """
const call = async (path, body) => {
  const answer = await fetch(path, {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify(body),
  });
  return {status: answer.status, ...(await answer.json())};
};
"""
REGISTER = (
    CALL
    + """
const asked = await call("/auth/factors/passkeys/options", {});
if (asked.status !== 200) return asked;
const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(asked.public_key);
const credential = await navigator.credentials.create({publicKey});
return call("/auth/factors/passkeys", {
  challenge_token: asked.challenge_token,
  credential: credential.toJSON(),
  name: args[0],
});
"""
)
SIGN_IN = (
    CALL
    + """
const asked = await call("/auth/login/passkey/options", {});
const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(asked.public_key);
const credential = await navigator.credentials.get({publicKey, mediation: args[0]});
return call("/auth/login/passkey", {
  challenge_token: asked.challenge_token,
  credential: credential.toJSON(),
  transport: "cookie",
});
"""
)


@contextmanager
def virtual_authenticator(browser: Browser, **wanted: Any) -> Iterator[None]:
    """A platform authenticator whose person is there and is verified, where `wanted` says nothing
    else."""
    options = VirtualAuthenticatorOptions(
        protocol=Protocol.CTAP2,
        transport=Transport.INTERNAL,
        has_resident_key=True,
        has_user_verification=True,
        is_user_consenting=True,
        is_user_verified=True,
    )
    for name, value in wanted.items():
        setattr(options, name, value)
    browser.driver.add_virtual_authenticator(options)
    try:
        yield
    finally:
        browser.driver.remove_virtual_authenticator()
