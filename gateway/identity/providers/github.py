"""Whom GitHub says that somebody is: asked of its API, as there is no ID token.

docs.github.com, REST API: users, e-mail addresses, organizations.  The number of an account stays
when its name changes hands; of the addresses the primary one counts, where it is verified.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from gateway.access.providers import Provider
from gateway.identity.issuers.jwk_set import DocumentRefused
from gateway.identity.providers.asking import ProviderAnswer
from gateway.identity.providers.metadata import ProviderMetadata

ORGANIZATIONS_SCOPE = "read:org"


async def github_claims(
    provider: Provider,
    metadata: ProviderMetadata,
    get: Callable[[str], Awaitable[ProviderAnswer]],
) -> dict[str, Any]:
    """`sub`, `login`, `name`, `email`, `email_verified`, and `groups`: the names of organizations,
    where the scope lets us ask.  Raises DocumentRefused, and what `get` raises."""
    user_url = metadata.userinfo
    assert user_url is not None
    user = (await get(user_url)).members()
    number = user.get("id")
    if type(number) is not int:
        raise DocumentRefused(f"{user_url} names no id")
    emails = await _listed(get, f"{user_url}/emails")
    primary = next((one for one in emails if one.get("primary") is True), {})
    claims = {
        "sub": str(number),
        "login": user.get("login"),
        "name": user.get("name"),
        "email": primary.get("email"),
        "email_verified": primary.get("verified") is True,
    }
    if ORGANIZATIONS_SCOPE in provider.scopes:
        organizations = await _listed(get, f"{user_url}/orgs?per_page=100")
        claims["groups"] = [one.get("login") for one in organizations]
    return claims


async def _listed(
    get: Callable[[str], Awaitable[ProviderAnswer]], url: str
) -> list[dict[str, Any]]:
    value = (await get(url)).value()
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise DocumentRefused(f"{url} answers no list of objects")
    return value
