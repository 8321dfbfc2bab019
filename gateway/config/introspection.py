"""`introspection:` of an issuer read: who asks it, with what, and how long an answer is good."""

from __future__ import annotations

import yaml

from gateway.access.issuers import ClientAssertionKey, Introspection
from gateway.access.secret_text import SecretText
from gateway.config.secrets import SECRET_NAME, SecretSource
from gateway.config.urls import read_url
from gateway.config.yaml_reader import Node, Reader

INTROSPECTION_KEYS = ("client_id", "client_secret", "private_key", "endpoint", "cache")
CLIENT_SECRET_KEYS = ("secret",)
PRIVATE_KEY_KEYS = ("secret", "alg", "kid")
MAX_CACHE_S = 30

SIGNING_ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip


def read_introspection(
    reader: Reader, node: Node | None, secrets: SecretSource
) -> Introspection | None:
    if node is None:
        return None
    fields = reader.block(node, "`introspection`", INTROSPECTION_KEYS)
    client_id = reader.text(fields.get("client_id"), "`client_id`")
    at = reader.name_of(node)
    if "client_id" not in fields:
        reader.error(at, "`introspection` has no `client_id:`, by which the issuer knows us")
    both = "client_secret" in fields and "private_key" in fields
    if both or not ("client_secret" in fields or "private_key" in fields):
        reader.error(
            at, "`introspection` has one of `client_secret: {secret: NAME}` and `private_key:`"
        )
    return Introspection(
        client_id or "",
        read_client_secret(reader, fields.get("client_secret"), secrets),
        read_private_key(reader, fields.get("private_key"), secrets),
        read_url(reader, fields.get("endpoint"), "`endpoint`", query=True),
        _cache_s(reader, fields.get("cache")),
    )


def read_client_secret(
    reader: Reader, node: Node | None, secrets: SecretSource
) -> SecretText | None:
    if node is None:
        return None
    fields = reader.block(node, "`client_secret`", CLIENT_SECRET_KEYS)
    name = _secret_name(reader, node, fields.get("secret"), "`client_secret`")
    if name is None:
        return None
    secret = secrets.read(name)
    if isinstance(secret, SecretText):
        return secret
    reader.error(fields["secret"], secret)
    return None


def read_private_key(
    reader: Reader, node: Node | None, secrets: SecretSource, *, only_alg: str | None = None
) -> ClientAssertionKey | None:
    """`only_alg`: what it signs with where there is no choice, and then it need not be said."""
    if node is None:
        return None
    fields = reader.block(node, "`private_key`", PRIVATE_KEY_KEYS)
    name = _secret_name(reader, node, fields.get("secret"), "`private_key`")
    known = SIGNING_ALGORITHMS if only_alg is None else (only_alg,)
    alg = reader.choice(fields.get("alg"), "`alg`", known) or only_alg
    kid = reader.text(fields.get("kid"), "`kid`")
    if "alg" not in fields and fields and only_alg is None:
        reader.error(reader.name_of(node), "`private_key` has no `alg: RS256`")
    if name is None or alg is None:
        return None
    pem = secrets.read_pem(name)
    if not isinstance(pem, SecretText):
        reader.error(fields["secret"], pem)
        return None
    if pem.reveal():
        # Few configurations have such a key; who reads another need not wait for `cryptography`.
        from gateway.config.assertion_key import assertion_key_problem

        problem = assertion_key_problem(pem.reveal(), alg)
        if problem is not None:
            reader.error(fields["secret"], f"the secret `{name}` {problem}")
            return None
    return ClientAssertionKey(pem, alg, kid)


def _secret_name(reader: Reader, node: Node, named: Node | None, what: str) -> str | None:
    name = reader.text(named, "`secret`")
    if named is None and isinstance(node, yaml.MappingNode):
        reader.error(node, f"{what} has no `secret: NAME`")
    if name is None or named is None:
        return None
    if not SECRET_NAME.match(name):
        reader.error(named, "the name of a secret is a letter, then letters, digits and any of ._-")
        return None
    return name


def _cache_s(reader: Reader, node: Node | None) -> int:
    seconds = reader.duration_s(node, "`cache`", least=0)
    if seconds is None or node is None:
        return 0
    if seconds > MAX_CACHE_S or seconds != int(seconds):
        reader.error(
            node,
            f"`cache` is whole seconds, `{MAX_CACHE_S}s` at most: for so long a token that the "
            "issuer has taken back is still good",
        )
        return 0
    return int(seconds)
