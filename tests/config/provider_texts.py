"""Configurations of one provider, as texts, and what is made of them."""

from __future__ import annotations

from textwrap import dedent, indent

from gateway.access.providers import Provider
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.secrets import SecretSource, UnreadSecrets

CLIENT = "client_id: gateway\nclient_secret: {secret: idp}"
MINIMAL = f"issuer: https://id.example.com/realms/main\n{CLIENT}"
EVERY_KEY = """
label: The company
issuer: https://id.example.com/realms/main
client_id: gateway
client_secret: {secret: idp}
client_auth: client_secret_post
scopes: [openid, email, groups]
parameters: {prompt: select_account, hd: example.com}
form_post: true
discovery: https://id.internal/metadata
origins: [https://api.example.com, "http://127.0.0.1:8080"]
algorithms: [ES256]
leeway: 1m
ca: /etc/ssl/idp.pem
userinfo: false
subject: claims.oid
email: claims.mail
email_verified: claims.mail_ok == true
roles: claims.groups.filter(g, g.startsWith('shop-'))
require: {azp: gateway}
groups: [Staff of the shop, admins]
domains: [example.com, shop.example]
accounts: create
trust_email: true
trust_mfa: true
backchannel_logout: true
sign_out: false
after_sign_out: https://www.example.com/bye
"""


def block(keys: str) -> str:
    """A configuration of one provider."""
    return "version: 1\nroutes: []\nproviders:\n  idp:\n" + indent(dedent(keys).strip(), "    ")


def problems(text: str, secrets: SecretSource | None = None) -> list[str]:
    found = compile_snapshot(Sources(("routes.yaml", text)), secrets=secrets or UnreadSecrets())
    assert isinstance(found, list), "the configuration is valid"
    return [str(one) for one in found]


def provider(keys: str, *, secrets: SecretSource | None = None) -> Provider:
    """The only one of a configuration that is valid."""
    text = block(keys)
    found = compile_snapshot(Sources(("routes.yaml", text)), secrets=secrets or UnreadSecrets())
    assert isinstance(found, Snapshot), [str(one) for one in found]
    return found.providers["idp"]


def refused(keys: str, *, secrets: SecretSource | None = None) -> str:
    """The one problem of a provider with these keys."""
    found = problems(block(keys), secrets)
    assert len(found) == 1, found
    return found[0]
