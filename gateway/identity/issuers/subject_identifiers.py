"""Subject identifiers (RFC 9493, and the complex ones of the Shared Signals Framework): whom an
issuer speaks of, by the names that its tokens are known by here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.access.issuers import ClaimError, Issuer
from gateway.identity.issuers.external_ids import is_external_id


class UnknownIdentifier(Exception):
    """The identifier is malformed, or of a format by which nobody is known here."""


@dataclass(frozen=True, slots=True)
class NamedSubject:
    """All three are None where the identifier names somebody of another issuer."""

    subject: str | None = None
    session_id: str | None = None
    opaque: str | None = None
    """What names a subject or a session, and does not say which."""


def known_subject(issuer: Issuer, claims: Mapping[str, Any]) -> str | None:
    """The subject as the issuer's access tokens name it, out of the claims of an event; None
    where they do not hold it."""
    try:
        subject = issuer.subject.read(claims)
    except ClaimError:
        return None
    return subject if is_external_id(subject) else None


def named_subject(issuer: Issuer, identifier: object) -> NamedSubject:
    """Raises UnknownIdentifier."""
    if not isinstance(identifier, dict):
        raise UnknownIdentifier
    match _format(identifier):
        case "iss_sub":
            return NamedSubject(subject=_of_issuer(issuer, identifier))
        case "opaque":
            return NamedSubject(opaque=_id(identifier))
        case "complex":
            return _complex(issuer, identifier)
    raise UnknownIdentifier


def _format(identifier: Mapping[str, Any]) -> object:
    """Earlier drafts wrote `subject_type`, some with a dash, and gave complex ones none."""
    form = identifier.get("format", identifier.get("subject_type"))
    if form is None and ("user" in identifier or "session" in identifier):
        return "complex"
    return form.replace("-", "_") if isinstance(form, str) else form


def _complex(issuer: Issuer, identifier: Mapping[str, Any]) -> NamedSubject:
    """Each member narrows what the others name: a device or a tenant, which no token of ours
    names, would leave more than was meant, so it is left out."""
    session_id = subject = None
    if "session" in identifier:
        session = identifier["session"]
        if not isinstance(session, dict) or _format(session) != "opaque":
            raise UnknownIdentifier
        session_id = _id(session)
    if "user" in identifier:
        user = named_subject(issuer, identifier["user"])
        subject = user.subject or user.opaque
        if subject is None:
            return NamedSubject()
    if subject is None and session_id is None:
        raise UnknownIdentifier
    return NamedSubject(subject, session_id)


def _of_issuer(issuer: Issuer, identifier: Mapping[str, Any]) -> str | None:
    if not isinstance(identifier.get("iss"), str) or not is_external_id(identifier.get("sub")):
        raise UnknownIdentifier
    if identifier["iss"] != issuer.issuer:
        return None
    subject = known_subject(issuer, {"iss": identifier["iss"], "sub": identifier["sub"]})
    if subject is None:
        raise UnknownIdentifier
    return subject


def _id(identifier: Mapping[str, Any]) -> str:
    value = identifier.get("id")
    if not is_external_id(value):
        raise UnknownIdentifier
    return str(value)
