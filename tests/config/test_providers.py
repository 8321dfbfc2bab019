"""`providers:` of routes.yaml: what is read of it, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema_rs
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from gateway.access.issuers import ABSENT, RequiredClaim, TokenUse
from gateway.access.providers import AccountRule, ClientAuthMethod, ProviderKind
from gateway.access.secret_text import SecretText
from gateway.config import provider_presets, providers
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.secrets import SecretFiles
from tests.config.provider_texts import (
    CLIENT,
    EVERY_KEY,
    MINIMAL,
    block,
    problems,
    provider,
    refused,
)
from tests.config.test_schemas import ROUTES, keys, loaded

TENANT = "0f9a7c1e-0000-4000-8000-0123456789ab"
PAGE = Path(__file__).parents[2] / "docs" / "providers.md"


def test_a_provider_needs_its_issuer_and_a_client(tmp_path: Path) -> None:
    (tmp_path / "idp").write_text("s3cr3t\n")
    one = provider(MINIMAL, secrets=SecretFiles(tmp_path))
    assert (one.name, one.label, one.kind) == ("idp", "idp", ProviderKind.OPENID)
    assert one.issuer.issuer == "https://id.example.com/realms/main"
    assert one.issuer.audience == ("gateway",)
    assert (one.issuer.use, one.issuer.typ) == (TokenUse.ID, ("jwt", ABSENT))
    assert one.secret == SecretText("s3cr3t")
    assert one.client_auth is None
    assert one.scopes == ("openid", "email")
    assert one.accounts is AccountRule.LINK
    assert (one.trust_email, one.trust_mfa, one.backchannel_logout) == (False, False, False)
    assert one.issuer.email is not None
    assert one.issuer.email.read({"email": "a@b.example"}) == "a@b.example"
    assert "s3cr3t" not in repr(one)


def test_every_key_of_a_provider_is_read() -> None:
    one = provider(EVERY_KEY)
    assert one.label == "The company"
    assert one.client_auth is ClientAuthMethod.POST
    assert one.scopes == ("openid", "email", "groups")
    assert one.parameters == (("prompt", "select_account"), ("hd", "example.com"))
    assert one.form_post
    assert one.origins == ("https://api.example.com", "http://127.0.0.1:8080")
    assert one.issuer.discovery == "https://id.internal/metadata"
    assert one.issuer.algorithms == ("ES256",)
    assert (one.issuer.leeway_s, one.issuer.ca) == (60, "/etc/ssl/idp.pem")
    assert not one.userinfo
    assert one.issuer.subject.read({"oid": "7"}) == "7"
    assert one.issuer.email_verified is not None
    assert one.issuer.email_verified.read({"mail_ok": True}) is True
    assert one.roles is not None
    assert one.roles.read({"groups": ["shop-a", "b"]}) == ["shop-a"]
    assert [claim.path.keys for claim in one.issuer.require] == [("azp",), ("groups",)]
    assert one.issuer.require[1] == RequiredClaim(
        one.issuer.require[1].path, ("Staff of the shop", "admins")
    )
    assert one.domains == ("example.com", "shop.example")
    assert one.accounts is AccountRule.CREATE
    assert one.trust_email
    assert one.trust_mfa
    assert one.backchannel_logout
    assert not one.sign_out
    assert one.after_sign_out == "https://www.example.com/bye"


def test_each_preset_knows_its_issuer() -> None:
    known = {
        "google": "https://accounts.google.com",
        "github": "https://github.com",
        "gitlab": "https://gitlab.com",
    }
    for name, issuer in known.items():
        one = provider(f"preset: {name}\n{CLIENT}")
        assert one.issuer.issuer == issuer
    microsoft = provider(f"preset: microsoft\ntenant: {TENANT}\n{CLIENT}")
    assert microsoft.issuer.issuer == f"https://login.microsoftonline.com/{TENANT}/v2.0"
    company = provider(f"preset: gitlab\nissuer: https://git.example.com\n{CLIENT}")
    assert (company.issuer.issuer, company.label) == ("https://git.example.com", "GitLab")


def test_google_vouches_for_addresses_of_gmail_and_workspace_alone() -> None:
    reader = provider(f"preset: google\n{CLIENT}").issuer.email_verified
    assert reader is not None
    verified = {"email_verified": True}
    assert reader.read({**verified, "email": "ada@gmail.com"}) is True
    assert reader.read({**verified, "email": "ada@corp.example", "hd": "corp.example"}) is True
    assert reader.read({**verified, "email": "ada@corp.example"}) is False
    assert reader.read({"email_verified": False, "email": "ada@gmail.com"}) is False
    assert reader.read({"email_verified": "true", "email": "ada@gmail.com"}) is False
    assert reader.read({}) is False


def test_microsoft_vouches_for_addresses_whose_domain_was_proven() -> None:
    one = provider(f"preset: microsoft\ntenant: {TENANT}\n{CLIENT}").issuer
    assert one.email_verified is not None
    assert one.email_verified.read({"email_verified": True}) is None
    assert one.email_verified.read({"xms_edov": True}) is True


def apple(folder: Path, more: str = "") -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name in ("apple", "company-key"):
        (folder / name).write_bytes(pem)
    return f"preset: apple\nclient_id: com.example.web\nteam: ABCDE12345\n{more}"


def test_apple_has_a_key_in_the_place_of_a_secret(tmp_path: Path) -> None:
    text = apple(tmp_path, "private_key: {secret: apple, kid: K123}")
    one = provider(text, secrets=SecretFiles(tmp_path))
    assert one.client_auth is ClientAuthMethod.APPLE
    assert one.key is not None
    assert (one.key.alg, one.key.kid, one.team) == ("ES256", "K123", "ABCDE12345")
    assert one.form_post


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("", "needs `team:` and `private_key: {secret: NAME, kid: ID}`"),
        ("private_key: {secret: apple}", "`private_key` has no `kid:`"),
        ("private_key: {secret: apple, kid: K, alg: RS256}", "`alg` cannot be `RS256`"),
        (
            "private_key: {secret: apple, kid: K}\nclient_secret: {secret: apple-2}",
            "Apple knows no `client_secret`",
        ),
    ],
)
def test_what_apple_does_not_know_is_refused(more: str, told: str, tmp_path: Path) -> None:
    text = apple(tmp_path, more)
    (tmp_path / "apple-2").write_text("x")
    assert told in refused(text, secrets=SecretFiles(tmp_path))


@pytest.mark.parametrize(
    ("keys_", "told"),
    [
        (CLIENT, "provider `idp` has no `issuer: https://…`"),
        ("issuer: https://i.example\nclient_secret: {secret: a}", "has no `client_id:`"),
        ("issuer: https://i.example\nclient_id: a", "has one of `client_secret: {secret: NAME}`"),
        (f"{MINIMAL}\nprivate_key: {{secret: k, alg: RS256}}", "has one of `client_secret:"),
        (f"issuer: http://i.example\n{CLIENT}", "begins with `http://`"),
        (f"preset: gogle\nissuer: https://i.example\n{CLIENT}", "google"),
        (f"preset: microsoft\n{CLIENT}", "has no `tenant:`"),
        (f"preset: microsoft\ntenant: common\n{CLIENT}", "anybody's directory"),
        (f"{MINIMAL}\ntenant: {TENANT}", "`tenant` is of `preset: microsoft`"),
        (f"{MINIMAL}\nteam: ABCDE12345", "`team` is of `preset: apple`"),
        (f"{MINIMAL}\naccounts: create", "`accounts: create` needs `trust_email: true`"),
        (f"{MINIMAL}\naccounts: make", "create"),
        (f"{MINIMAL}\nscopes: [email]", "`scopes` lacks `openid`"),
        (f"{MINIMAL}\nscopes: [openid, 'a b']", "a scope is visible ASCII"),
        (f"{MINIMAL}\nparameters: {{state: a}}", "`state` is what the gateway itself says"),
        (f"{MINIMAL}\nparameters: {{'a b': a}}", "is no name of a parameter"),
        (f"{MINIMAL}\ndomains: [Example.com]", "is no domain such as"),
        (f"{MINIMAL}\ndomains: []", "nobody could sign in"),
        (f"{MINIMAL}\ngroups: []", "nobody could sign in"),
        (f"{MINIMAL}\norigins: [https://a.example/b]", "is no origin"),
        (f"{MINIMAL}\nalgorithms: [HS256]", "is symmetric"),
        (f"{MINIMAL}\nlabel: ' '", "`label` is 1 to 64 printable characters"),
        (f"{MINIMAL}\nroles: user.roles", "is not known here"),
        (f"{MINIMAL}\nclient_auth: none", "client_secret_basic"),
        (f"preset: github\n{CLIENT}\ntrust_mfa: true", "`trust_mfa` is of OpenID Connect"),
    ],
)
def test_what_is_wrong_with_a_provider_is_told(keys_: str, told: str) -> None:
    assert told in refused(keys_)


def test_two_providers_are_two_issuers() -> None:
    text = block(MINIMAL) + "\n  other:\n    issuer: https://id.example.com/realms/main\n"
    text += "    client_id: b\n    client_secret: {secret: b}\n"
    assert "is the `issuer` of `idp` already" in "".join(problems(text))


def test_the_name_of_a_provider_stands_in_urls() -> None:
    text = block(MINIMAL).replace("  idp:", "  Idp:")
    assert "it stands in the URLs that the provider knows" in "".join(problems(text))


def test_a_secret_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "there is no secret `idp`" in refused(MINIMAL, secrets=SecretFiles(tmp_path))


PROVIDERS = ROUTES["properties"]["providers"]


def test_the_schema_has_the_keys_of_a_provider() -> None:
    assert keys(PROVIDERS["additionalProperties"]) == set(providers.PROVIDER_KEYS)
    known = PROVIDERS["additionalProperties"]["properties"]["preset"]["enum"]
    assert known == list(provider_presets.PRESETS)


@pytest.mark.parametrize("text", [EVERY_KEY, MINIMAL, f"preset: github\n{CLIENT}"])
def test_a_provider_meets_the_schema(text: str) -> None:
    jsonschema_rs.validate(ROUTES, loaded(block(text)))


def test_the_page_tells_of_every_key_and_preset() -> None:
    page = PAGE.read_text("utf-8")
    told = set(re.findall(r"`([a-z_]+)`", page))
    assert set(providers.PROVIDER_KEYS) <= told
    for name in provider_presets.PRESETS:
        assert f"preset: {name}" in page


def test_the_lines_to_copy_are_good_configurations(tmp_path: Path) -> None:
    apple(tmp_path)
    blocks = re.findall(r"```yaml\n(providers:\n.*?)```", PAGE.read_text("utf-8"), re.S)
    assert len(blocks) >= 7
    for text in blocks:
        names = set(re.findall(r"secret: ([a-z-]+)", text)) - {"apple", "company-key"}
        for name in names:
            (tmp_path / name).write_text("s")
        whole = "version: 1\nroutes: []\n" + text
        found = compile_snapshot(Sources(("r.yaml", whole)), secrets=SecretFiles(tmp_path))
        assert not isinstance(found, list), json.dumps([str(one) for one in found])
        assert found.providers
