"""What `gateway revoke` may be given as an id.

Law: an id is kept, told to every worker and shown.  A secret is none of these: what has the form of
one is refused before anything is opened, and never repeated.
"""

from __future__ import annotations

import re
from typing import Annotated

import typer

from gateway.cli.output import CliError, ExitCode
from gateway.email_address import normalize_email
from gateway.identity.base64url import decoded
from gateway.identity.clients.key_form import key_in, may_be_part_of_key
from gateway.identity.sessions.sessions import SESSION_ID
from gateway.strict_json import loads

Unknown = Annotated[
    bool,
    typer.Option(
        "--unknown",
        help="Take the id as it is: one that only tokens of an imported key carry.",
    ),
]
# Refresh tokens, links and client secrets; the cookies of sessions; an API key without its prefix.
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}|[A-Za-z0-9_-]{54}|[A-Za-z0-9_-]{65}|[A-Za-z0-9]{49}")
_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*){2,4}")
CLAIMS = {"user": "sub", "session": "sid", "token": "jti", "client": "client_id"}
"""What names each in a token."""


def checked_id(kind: str, text: str, *, unknown: bool = False) -> str:
    """The text, if it may be the id of a session, a token or a client (`kind`); CliError (exit 2)
    with what would be right.  `unknown`: whoever says so has an id of this form, which is no
    secret."""
    check_no_credential(kind, text)
    is_address = "@" in text and kind != "client" and normalize_email(text) is not None
    if is_address and not unknown:
        raise CliError(
            f"an id of a {kind} is asked for; `gateway revoke user EMAIL` ends every session and"
            " token of an account, `gateway sessions list EMAIL` shows them",
            ExitCode.USAGE,
        )
    if text == "-h" or not SESSION_ID.fullmatch(text):
        raise CliError("an id is 1 to 128 of A-Z a-z 0-9 . _ : @ -", ExitCode.USAGE)
    if may_be_part_of_key(text) and not unknown:
        raise CliError(
            "this begins as an API key does, and an id is kept as it is: `gateway revoke token`"
            " takes a whole key.  --unknown, if it is an id all the same",
            ExitCode.USAGE,
        )
    if _SECRET.fullmatch(text.rpartition(":")[2]) and not unknown:
        raise CliError(
            "this has the form of a refresh token, a cookie or a secret, and an id is kept as it"
            f" is: the `{CLAIMS[kind]}` of a token is asked for (`gateway clients rotate NAME"
            " --at-once` ends a secret).  --unknown, if it is one all the same",
            ExitCode.USAGE,
        )
    return text


def check_no_credential(kind: str, text: str) -> None:
    """CliError (exit 2) for a whole token or API key in the place of an id, of ours or of another
    issuer, whatever stands before it."""
    token = _TOKEN.search(text)
    if token is not None:
        raise CliError(_whole_token(kind, token[0]), ExitCode.USAGE)
    if key_in(text) is not None:
        raise CliError(
            "this is an API key, not an id; `gateway revoke token` ends the one whose text it is",
            ExitCode.USAGE,
        )


def _whole_token(kind: str, text: str) -> str:
    """Nothing of it is believed: whoever reads this chooses what to revoke."""
    claim = CLAIMS[kind]
    said = f"this is a whole token, which is never kept; its claim `{claim}` is asked for"
    try:
        claims = loads(decoded(text.split(".")[1]) or b"")
    except ValueError:
        return said
    name = claims.get(claim) if isinstance(claims, dict) else None
    if not isinstance(name, str) or not SESSION_ID.fullmatch(name) or _SECRET.fullmatch(name):
        return said
    return f"{said}: `gateway revoke {kind} {name}` (of another issuer `NAME:{name}`)"
