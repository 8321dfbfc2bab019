"""How the gateway proves to a provider which client it is (RFC 6749 section 2.3, RFC 7523 section
2.2), on authlib's classes."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote_plus, urlencode

from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc7523 import private_key_jwt_sign
from authlib.oauth2.rfc7523.assertion import sign_jwt_bearer_assertion
from authlib.oauth2.rfc7523.client import ASSERTION_TYPE
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.jwk import ECKey, OKPKey, RSAKey

from gateway.access.issuers import ClientAssertionKey
from gateway.access.providers import ClientAuthMethod, Provider
from gateway.identity.providers.metadata import ProviderMetadata

ASSERTION_LIFE_S = 120


def prove_client(
    provider: Provider, metadata: ProviderMetadata, url: str, form: str, now: float
) -> tuple[str, dict[str, str]]:
    """The url-encoded form and the header fields of a question to `url`, with the proof."""
    method = provider.client_auth or _method_of(metadata)
    secret = provider.secret.reveal() if provider.secret is not None else ""
    match method:
        case ClientAuthMethod.BASIC:
            # Section 2.3.1: each half is form-urlencoded first, which authlib leaves out.
            return _proven(quote_plus(provider.client_id), quote_plus(secret), method, url, form)
        case ClientAuthMethod.APPLE:
            secret = _apple_secret(provider, int(now))
            method = ClientAuthMethod.POST
        case ClientAuthMethod.KEY:
            assertion = _assertion(provider, metadata.token, int(now))
            form = f"{form}&client_assertion_type={quote_plus(ASSERTION_TYPE)}"
            return f"{form}&client_assertion={assertion}", {}
    # It names the client itself, and no parameter may come twice (RFC 6749 section 3.2).
    words = [(name, value) for name, value in parse_qsl(form) if name != "client_id"]
    form = urlencode(words)
    return _proven(provider.client_id, secret, method, url, form)


def _proven(
    client_id: str, secret: str, method: ClientAuthMethod, url: str, form: str
) -> tuple[str, dict[str, str]]:
    auth = ClientAuth(client_id, secret, auth_method=method.value)
    _, fields, body = auth.prepare("POST", url, {}, form)
    return str(body), dict(fields)


def _method_of(metadata: ProviderMetadata) -> ClientAuthMethod:
    """Of those that the metadata name; `client_secret_basic` where they name none of ours."""
    named = metadata.client_auth_methods
    if ClientAuthMethod.BASIC not in named and ClientAuthMethod.POST in named:
        return ClientAuthMethod.POST
    return ClientAuthMethod.BASIC


def _assertion(provider: Provider, audience: str, now: int) -> str:
    key = provider.key
    assert key is not None
    return str(
        private_key_jwt_sign(
            _signing_key(key),
            provider.client_id,
            audience,
            alg=key.alg,
            header={} if key.kid is None else {"kid": key.kid},
            issued_at=now,
            expires_in=ASSERTION_LIFE_S,
        )
    )


def _apple_secret(provider: Provider, now: int) -> str:
    """developer.apple.com, "Creating a client secret"."""
    key = provider.key
    assert key is not None
    return str(
        sign_jwt_bearer_assertion(
            _signing_key(key),
            issuer=provider.team,
            audience=provider.issuer.issuer,
            subject=provider.client_id,
            alg=key.alg,
            header={"kid": key.kid},
            issued_at=now,
            expires_in=ASSERTION_LIFE_S,
        )
    )


def _signing_key(key: ClientAssertionKey) -> ECKey | OKPKey | RSAKey:
    """The configuration was refused unless the key is a sound one (`config.introspection`): to look
    again would stop the worker for as long as hundreds of signatures take."""
    pem = key.pem.reveal().encode("ascii")
    loaded = load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    if isinstance(loaded, RSAPrivateKey):
        return RSAKey.import_key(loaded)
    kind: type[ECKey] | type[OKPKey] = OKPKey if key.alg == "EdDSA" else ECKey
    return kind.import_key(key.pem.reveal())
