"""`accept`, `challenge`, `realm` and `sign_in`: what counts as a credential, and how one is asked
for."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from gateway.access.definitions import Challenge, ChallengeScheme
from gateway.access.routing.routes import Auth
from gateway.access.suggestions import suggestion
from gateway.config.route_options import RouteOptions
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


def read_sign_in(reader: Reader, fields: Mapping[str, Node], base: bool) -> bool:
    """Whether browsers are led to the pages of the gateway."""
    if "sign_in" not in fields:
        return base
    return reader.choice(fields["sign_in"], "`sign_in`", ("page", "off")) == "page"


def signs_in(
    reader: Reader,
    fields: Mapping[str, Node],
    options: RouteOptions,
    accept: frozenset[CredentialKind],
) -> bool:
    """Whether the route has its browsers signed in.  What `defaults` say is for the routes that
    can: a route that says it itself and cannot is a mistake."""
    if not options.sign_in_page:
        return False
    why = None
    if options.auth is Auth.PUBLIC:
        why = "`auth: public` asks nobody who they are"
    elif CredentialKind.COOKIE not in accept:
        why = "the page signs a browser in by cookie, which does not count here: add it to `accept`"
        if OWN_ISSUER not in options.issuers:
            why = "the page signs in at this gateway, whose sessions do not count without `own`"
    if why is not None and "sign_in" in fields:
        reader.error(fields["sign_in"], f"`sign_in: page`: {why}, or say `sign_in: off`")
    return why is None


def _is_realm(text: str) -> bool:
    return len(text) <= _LONGEST_REALM and text.isascii() and text.isprintable()
