"""By whom people may sign in besides ourselves, and what of it counts here.

Definitions alone: `config/providers.py` reads them, `identity/providers/` signs people in by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.access.attributes import Attribute
from gateway.access.issuers import ClaimReader, ClientAssertionKey, Issuer
from gateway.access.secret_text import SecretText
from gateway.model import NOWHERE, SourceLocation


class ProviderKind(StrEnum):
    """What is spoken with a provider."""

    OPENID = "openid"
    """OpenID Connect Core, the code flow."""
    GITHUB = "github"
    """OAuth 2.0 and GitHub's own API: there is no ID token."""


class ClientAuthMethod(StrEnum):
    """How we prove to a provider who asks (RFC 6749 section 2.3, RFC 7523 section 2.2)."""

    BASIC = "client_secret_basic"
    POST = "client_secret_post"
    KEY = "private_key_jwt"
    APPLE = "apple"
    """`client_secret_post` with a JWT of our key in the place of the secret."""


class AccountRule(StrEnum):
    """What becomes of somebody whom nobody here is linked with; `accounts:`."""

    LINK = "link"
    """They are refused: who has an account links it while signed in."""
    CREATE = "create"
    """An account is made for them."""


@dataclass(frozen=True, slots=True)
class Provider:
    """An identity provider by which people sign in to accounts of ours."""

    name: str
    label: str
    """For people: what the button says."""
    kind: ProviderKind
    issuer: Issuer
    """How its ID tokens and logout tokens are judged: for our `client_id` alone."""
    client_id: str
    client_auth: ClientAuthMethod | None
    """None: what its metadata names, `client_secret_basic` first."""
    secret: SecretText | None
    key: ClientAssertionKey | None = None
    team: str | None = None
    """Of the developer's account at Apple, which its keys belong to."""
    scopes: tuple[str, ...] = ("openid", "email")
    origins: tuple[str, ...] = ()
    """Where the provider's endpoints may be besides the origin of its issuer."""
    userinfo: bool = True
    """Whether its userinfo endpoint is asked too; what the ID token says stands."""
    form_post: bool = False
    """Whether it answers by a form that the browser posts."""
    parameters: tuple[tuple[str, str], ...] = ()
    """Further ones of the authorization request."""
    accounts: AccountRule = AccountRule.LINK
    trust_email: bool = False
    """Whether an address that it says is verified belongs to whoever signs in by it."""
    trust_mfa: bool = False
    """Whether a second factor that it says it asked for counts as ours."""
    attributes: tuple[tuple[Attribute, ClaimReader], ...] = ()
    """What it says of accounts, and where."""
    domains: tuple[str, ...] = ()
    """Of the verified addresses of those who may sign in by it; empty: any."""
    backchannel_logout: bool = False
    sign_out: bool = True
    """Whether our sign-out offers the provider's, where it has one."""
    after_sign_out: str | None = None
    """Where the provider leads who has signed out there."""
    location: SourceLocation = field(default=NOWHERE, compare=False)

    @property
    def name_and_issuer(self) -> str:
        """What was begun with it goes on with no other that has its name by then."""
        return f"{self.name} {self.issuer.issuer}"

    @property
    def roles(self) -> ClaimReader | None:
        """None where the provider gives no roles."""
        return self.issuer.roles


def provider_of(providers: Mapping[str, Provider], issuer: str) -> Provider | None:
    """The one that is this issuer: what it is called here may change, and be said of another."""
    return next((one for one in providers.values() if one.issuer.issuer == issuer), None)


def trusted_for_factors(providers: Mapping[str, Provider]) -> frozenset[str]:
    """The issuers of those that are believed to have asked for a second factor."""
    return frozenset(one.issuer.issuer for one in providers.values() if one.trust_mfa)
