"""What is known of providers beforehand: `preset: google`.

Each line is what the provider's own documentation says; a key of the configuration says otherwise
where it stands.  Addresses: Google vouches for those of Gmail and of Workspace alone
(developers.google.com/identity/gsi/web/guides/verify-google-id-token), Microsoft for those whose
domain the tenant has proven (`xms_edov`).
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.access.providers import ClientAuthMethod, ProviderKind


@dataclass(frozen=True, slots=True)
class Preset:
    label: str
    issuer: str | None = None
    """None: the configuration names it."""
    kind: ProviderKind = ProviderKind.OPENID
    client_auth: ClientAuthMethod | None = None
    scopes: tuple[str, ...] = ("openid", "email")
    origins: tuple[str, ...] = ()
    form_post: bool = False
    email_verified: str = "claims.email_verified"
    userinfo: bool = True


MICROSOFT_ISSUER = "https://login.microsoftonline.com/{tenant}/v2.0"
GITHUB_SCOPES = ("read:user", "user:email")

PRESETS: dict[str, Preset] = {
    "google": Preset(
        "Google",
        "https://accounts.google.com",
        origins=(
            "https://oauth2.googleapis.com",
            "https://www.googleapis.com",
            "https://openidconnect.googleapis.com",
        ),
        email_verified=(
            "has(claims.email) && has(claims.email_verified) && claims.email_verified == true"
            " && (has(claims.hd) || claims.email.endsWith('@gmail.com'))"
        ),
        userinfo=False,
    ),
    "microsoft": Preset(
        "Microsoft",
        origins=("https://graph.microsoft.com",),
        email_verified="claims.xms_edov",
        userinfo=False,
    ),
    "apple": Preset(
        "Apple",
        "https://appleid.apple.com",
        client_auth=ClientAuthMethod.APPLE,
        form_post=True,
        userinfo=False,
    ),
    "github": Preset(
        "GitHub",
        "https://github.com",
        kind=ProviderKind.GITHUB,
        client_auth=ClientAuthMethod.POST,
        scopes=GITHUB_SCOPES,
        origins=("https://api.github.com",),
    ),
    "gitlab": Preset("GitLab", "https://gitlab.com"),
    "keycloak": Preset("Keycloak"),
}
