"""What authenticators answer, judged (WebAuthn level 3, sections 7.1 and 7.2).

Law: what is no answer to this challenge, by a page of ours in its own tab, is None, whatever is
wrong with it.  py_webauthn judges; before it the form is read in one way only (`strict_json`,
`base64url`, `ctap_cbor`), and what it does not look at is looked at here: whether another page
framed ours, what keys a registration may bring, and the counter, which counts only in what bears
the signature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from webauthn import verify_authentication_response, verify_registration_response
from webauthn.helpers import (
    decode_credential_public_key,
    decoded_public_key_to_cryptography,
    parse_attestation_object,
    parse_authenticator_data,
    parse_cbor,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AttestationFormat,
    AuthenticationCredential,
    AuthenticatorAssertionResponse,
    AuthenticatorAttestationResponse,
    AuthenticatorTransport,
    CredentialDeviceType,
    RegistrationCredential,
)

from gateway import strict_json
from gateway.identity.base64url import decoded, encoded
from gateway.identity.factors.ctap_cbor import is_authenticator_data, is_one_item
from gateway.identity.factors.passkey_records import CredentialKey, NewCredential, PasskeyAssertion
from gateway.identity.factors.relying_party import RelyingParty

ALGORITHMS = (
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
)
"""What keys may sign with, the one that is liked best first."""
CREDENTIAL_ID_BYTES_MAX = 1_023
"""WebAuthn, section 7.1, step 25."""
_RSA_BITS = range(2_048, 4_097)
_RSA_EXPONENT = 65_537
"""Another one may take long to verify with."""
_FORMATS = frozenset((AttestationFormat.NONE, AttestationFormat.PACKED))
"""None is asked for; an authenticator may vouch for its key by the key itself all the same."""

_MALFORMED = (
    WebAuthnException,
    InvalidSignature,
    UnsupportedAlgorithm,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
)
"""What py_webauthn and `cryptography` raise for answers and keys that are none."""


@dataclass(frozen=True, slots=True)
class PresentedAssertion:
    """What a page sent, whose form is good; nothing is proven by it."""

    credential_id: str
    user_handle: str | None
    credential: AuthenticationCredential


def judged_registration(
    value: Mapping[str, Any], challenge: bytes, party: RelyingParty
) -> NewCredential | None:
    """`value` is what `PublicKeyCredential.toJSON()` gave to the page."""
    try:
        credential = _presented_registration(value)
        if credential is None:
            return None
        attestation = parse_attestation_object(credential.response.attestation_object)
        attested = attestation.auth_data.attested_credential_data
        if (
            attestation.fmt not in _FORMATS
            or attestation.att_stmt.x5c is not None
            or attested is None
            or attested.credential_id != credential.raw_id
            or not _is_usable(attested.credential_public_key)
        ):
            return None
        verified = verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            supported_pub_key_algs=list(ALGORITHMS),
        )
    except _MALFORMED:
        return None
    return NewCredential(
        credential_id=encoded(verified.credential_id),
        public_key=encoded(verified.credential_public_key),
        sign_count=verified.sign_count,
        backup_eligible=verified.credential_device_type is CredentialDeviceType.MULTI_DEVICE,
        backed_up=verified.credential_backed_up,
        discoverable=_discoverable(value),
        transports=tuple(sorted({t.value for t in credential.response.transports or ()})),
        aaguid=verified.aaguid,
    )


def presented_assertion(value: Mapping[str, Any]) -> PresentedAssertion | None:
    """None for what has another form than `PublicKeyCredential.toJSON()` gives."""
    response = value.get("response")
    raw_id = _raw_id(value)
    if raw_id is None or not isinstance(response, dict):
        return None
    client_data = _bytes(response, "clientDataJSON")
    data, signature = _bytes(response, "authenticatorData"), _bytes(response, "signature")
    if client_data is None or data is None or not signature:
        return None
    if not is_authenticator_data(data) or not _is_of_own_tab(client_data):
        return None
    handle = response.get("userHandle")
    if handle is not None and _bytes(response, "userHandle") is None:
        return None
    return PresentedAssertion(
        encoded(raw_id),
        handle,
        AuthenticationCredential(
            id=encoded(raw_id),
            raw_id=raw_id,
            response=AuthenticatorAssertionResponse(client_data, data, signature),
        ),
    )


def judged_assertion(
    presented: PresentedAssertion, key: CredentialKey, challenge: bytes, party: RelyingParty
) -> PasskeyAssertion | None:
    """None where the signature is not that of the key, over this challenge, for this party."""
    if presented.credential_id != key.credential_id:
        return None
    try:
        verified = verify_authentication_response(
            credential=presented.credential,
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            credential_public_key=decoded(key.public_key) or b"",
            # Compared by the caller: here it would count before the signature does.
            credential_current_sign_count=0,
        )
        flags = parse_authenticator_data(presented.credential.response.authenticator_data).flags
    except _MALFORMED:
        return None
    return PasskeyAssertion(
        sign_count=verified.new_sign_count,
        backup_eligible=flags.be,
        backed_up=flags.bs,
        user_verified=verified.user_verified,
    )


def _presented_registration(value: Mapping[str, Any]) -> RegistrationCredential | None:
    response = value.get("response")
    raw_id = _raw_id(value)
    if raw_id is None or not isinstance(response, dict):
        return None
    client_data = _bytes(response, "clientDataJSON")
    attestation = _bytes(response, "attestationObject")
    if client_data is None or attestation is None:
        return None
    if not _is_of_own_tab(client_data) or not _is_attestation(attestation):
        return None
    return RegistrationCredential(
        id=encoded(raw_id),
        raw_id=raw_id,
        response=AuthenticatorAttestationResponse(
            client_data, attestation, list(_transports(response.get("transports")))
        ),
    )


def _raw_id(value: Mapping[str, Any]) -> bytes | None:
    """The credential's id, which stands twice."""
    if value.get("type") != "public-key" or value.get("id") != value.get("rawId"):
        return None
    raw_id = _bytes(value, "id")
    return raw_id if raw_id and len(raw_id) <= CREDENTIAL_ID_BYTES_MAX else None


def _bytes(members: Mapping[str, Any], name: str) -> bytes | None:
    text = members.get(name)
    return decoded(text) if isinstance(text, str) else None


def _is_of_own_tab(client_data: bytes) -> bool:
    """Whether the page that asked stood in a tab of its own (section 7.1 steps 10 and 11).

    A page of another origin that frames ours would choose when its visitor is asked.
    """
    try:
        members = strict_json.loads(client_data)
    except ValueError:
        return False
    return (
        isinstance(members, dict)
        and members.get("crossOrigin", False) is False
        and "topOrigin" not in members
    )


def _is_attestation(attestation: bytes) -> bool:
    """Whether every part of it is CBOR as authenticators write it."""
    if not is_one_item(attestation):
        return False
    data = _authenticator_data(attestation)
    return data is not None and is_authenticator_data(data)


def _authenticator_data(attestation: bytes) -> bytes | None:
    members = parse_cbor(attestation)
    data = members.get("authData") if isinstance(members, dict) else None
    return data if isinstance(data, bytes) else None


def _transports(values: object) -> Sequence[AuthenticatorTransport]:
    known = {transport.value: transport for transport in AuthenticatorTransport}
    if not isinstance(values, list):
        return ()
    return [known[value] for value in values if isinstance(value, str) and value in known]


def _discoverable(value: Mapping[str, Any]) -> bool | None:
    """What the browser says of it in its extension `credProps` (section 10.1.3)."""
    results = value.get("clientExtensionResults")
    props = results.get("credProps") if isinstance(results, dict) else None
    said = props.get("rk") if isinstance(props, dict) else None
    return said if isinstance(said, bool) else None


def _is_usable(public_key: bytes) -> bool:
    """Whether the key is of the kind that its algorithm names, and of a size that costs little."""
    decoded_key = decode_credential_public_key(public_key)
    key = decoded_public_key_to_cryptography(decoded_key)
    match key:
        case EllipticCurvePublicKey():
            return decoded_key.alg == COSEAlgorithmIdentifier.ECDSA_SHA_256 and isinstance(
                key.curve, SECP256R1
            )
        case Ed25519PublicKey():
            return decoded_key.alg == COSEAlgorithmIdentifier.EDDSA
        case RSAPublicKey():
            return (
                decoded_key.alg == COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256
                and key.key_size in _RSA_BITS
                and key.public_numbers().e == _RSA_EXPONENT
            )
    return False
