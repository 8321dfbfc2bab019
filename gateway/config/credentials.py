"""`accept`, `challenge` and `realm`: what counts as a credential, and how a 401 asks."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from gateway.access.definitions import Challenge, ChallengeScheme
from gateway.access.suggestions import suggestion
from gateway.config.yaml_reader import Node, Reader
from gateway.model import DEFAULT_ACCEPT, OWN_ISSUER, CredentialKind

_LONGEST_REALM = 128


def read_accept(reader: Reader, node: Node | None) -> frozenset[CredentialKind]:
    if node is None:
        return DEFAULT_ACCEPT
    known = tuple(CredentialKind)
    kinds: set[CredentialKind] = set()
    for text, item in reader.texts(node, "`accept`") or []:
        if text in known:
            kinds.add(CredentialKind(text))
        else:
            reader.error(item, f"`accept` cannot hold `{text}`{suggestion(text, known)}")
    if isinstance(node, yaml.SequenceNode) and not node.value:
        reader.error(node, "`accept` is empty: nobody could call; use `auth: public`?")
    return frozenset(kinds)


def accept_of_issuers(
    reader: Reader,
    route: Node,
    accept: frozenset[CredentialKind],
    issuers: frozenset[str],
) -> frozenset[CredentialKind]:
    """What of `accept` counts where these issuers' credentials do: others give tokens alone."""
    if OWN_ISSUER in issuers:
        return accept
    if CredentialKind.BEARER not in accept:
        reader.error(
            route,
            "the tokens of its issuers come as `bearer`, which `accept` does not hold: nobody "
            "could call",
        )
    return accept & {CredentialKind.BEARER}


def check_accept_of_issuers(reader: Reader, node: Node | None, issuers: frozenset[str]) -> None:
    """`node` is the `accept` that a block itself says: nothing in it is without an issuer."""
    if node is None or OWN_ISSUER in issuers:
        return
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    for item in items:
        kind = getattr(item, "value", None)
        if kind in tuple(CredentialKind) and kind != CredentialKind.BEARER:
            reader.error(
                item,
                f"`{kind}` is a credential of our own, and `issuers` does not hold `own`: leave "
                f"`{kind}` out, or add `own`",
            )


def read_challenge(reader: Reader, fields: Mapping[str, Node], base: Challenge) -> Challenge:
    """`base` with what the block says otherwise."""
    scheme, realm = base.scheme, base.realm
    if "challenge" in fields:
        text = reader.choice(fields["challenge"], "`challenge`", tuple(ChallengeScheme))
        scheme = ChallengeScheme(text) if text is not None else scheme
    if "realm" in fields:
        text = reader.text(fields["realm"], "`realm`")
        if text is not None and not _is_realm(text):
            reader.error(
                fields["realm"],
                f"a `realm` is 1 to {_LONGEST_REALM} printable ASCII characters: clients show it, "
                "and not every one reads others",
            )
        realm = text if text is not None else realm
    # One object for all routes that say the same.
    return base if (scheme, realm) == (base.scheme, base.realm) else Challenge(scheme, realm)


def check_challenge(
    reader: Reader, node: Node, challenge: Challenge, accept: frozenset[CredentialKind]
) -> None:
    """`node` is the `challenge` of the route, or the route that takes it from `defaults`."""
    if challenge.scheme is ChallengeScheme.BASIC and CredentialKind.BASIC not in accept:
        reader.error(
            node,
            "`challenge: basic` has clients send what the route does not accept: add `basic` to "
            "`accept`, or say `challenge: bearer`",
        )


def _is_realm(text: str) -> bool:
    return len(text) <= _LONGEST_REALM and text.isascii() and text.isprintable()
