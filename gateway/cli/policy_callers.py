"""Who `gateway explain` asks for: an account, the bearer of a token, or somebody made up."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway import strict_json
from gateway.access.resource_servers import resource_paths
from gateway.access.roles import is_action_pattern
from gateway.access.simulation import person
from gateway.access.snapshot import Snapshot
from gateway.access.suggestions import suggestion
from gateway.app.data_dir import DataFolder
from gateway.cli.context import CommandContext, run
from gateway.cli.output import CliError, ExitCode, warn
from gateway.identity.accounts.account_claims import AccountClaims
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.role_names import ROLE
from gateway.identity.issuers.kept_keys import KeptKeys
from gateway.identity.issuers.verifier import ForeignToken, IssuerVerifier, read_foreign_token
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.key_ring import KeyRing
from gateway.identity.revocations import every
from gateway.identity.tokens.access_tokens import TokenVerifier, is_name
from gateway.model import CredentialKind, Principal, Reason
from gateway.review.issued import caller_of
from gateway.revocation.revocation_list import RevocationList

MAX_TOKEN_FILE_BYTES = 64 * 1024
_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h|d)\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class CallerOptions:
    """What the options say of the caller; None where they say nothing."""

    user_id: str | None = None
    roles: str | None = None
    email: str | None = None
    verified: bool | None = None
    session_id: str | None = None
    auth_age: str | None = None
    auth_time: str | None = None
    amr: str | None = None
    scopes: str | None = None
    claims: Sequence[str] | None = None
    kind: CredentialKind | None = None

    @property
    def nothing(self) -> bool:
        return all(getattr(self, one.name) is None for one in dataclasses.fields(self))

    @property
    def who_is_made_up(self) -> bool:
        return any(one is not None for one in (self.user_id, self.roles, self.email))

    def check(self) -> None:
        """What could be in no token is a slip of whoever types."""
        if self.auth_age is not None and self.auth_time is not None:
            raise CliError("one of --auth-age and --auth-time", ExitCode.USAGE)
        for option, text in (("--user-id", self.user_id), ("--session-id", self.session_id)):
            if text is not None and not is_name(text):
                raise CliError(f"{option}: {text!r} can be no id", ExitCode.USAGE)
        for role in listed(self.roles) or ():
            if not ROLE.fullmatch(role):
                raise CliError(
                    f"{role!r} can be no role; several are parted by commas", ExitCode.USAGE
                )
        for scope in listed(self.scopes) or ():
            if not is_action_pattern(scope):
                raise CliError(
                    f"--scopes: {scope!r} is no action such as orders:read", ExitCode.USAGE
                )

    def person(self, now: float, account: Principal | None = None) -> Principal:
        """The caller, signed in at `now` unless the options say otherwise.

        `account`: what is not said is as this account has it.
        """
        auth_time = now
        if self.auth_age is not None:
            auth_time = now - _age_s(self.auth_age)
        elif self.auth_time is not None:
            auth_time = moment("--auth-time", self.auth_time)
        email = self.email
        if email is None and account is not None:
            email = account.email
        elif email is None and self.verified is not None:
            email = "someone@example.com"
        verified = self.verified
        if verified is None:
            verified = account.email_verified if account is not None else False
        subject = account.subject if account is not None else "someone"
        roles = account.roles if account is not None else ()
        return person(
            self.user_id or subject,
            roles if self.roles is None else listed(self.roles) or (),
            now=now,
            email=email,
            email_verified=verified,
            session_id=self.session_id or "session",
            auth_time=auth_time,
            amr=listed(self.amr) or ("pwd",),
            scopes=listed(self.scopes),
            claims={
                **({} if account is None else account.claims),
                **dict(map(_claim, self.claims or ())),
            },
        )


def moment(option: str, text: str) -> float:
    """A time with its zone, as seconds since the epoch."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise CliError(
            f"{option}: {text!r} is no time such as 2026-01-05T09:00:00Z", ExitCode.USAGE
        )
    return found.timestamp()


def listed(text: str | None) -> list[str] | None:
    """Words that are parted by commas."""
    if text is None:
        return None
    return [word.strip() for word in text.split(",") if word.strip()]


def _age_s(text: str) -> float:
    match = _AGE.match(text)
    if match is None:
        raise CliError(f"--auth-age: {text!r} is no time such as 90s, 20m or 8h", ExitCode.USAGE)
    return float(match.group(1)) * _SECONDS[match.group(2)]


def _claim(text: str) -> tuple[str, Any]:
    """`tier=gold`: JSON where it is some, else text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CliError(f"--claim takes NAME=VALUE, not {text!r}", ExitCode.USAGE)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def issued_to(name: str, path: Path, snapshot: Snapshot, now: float) -> Principal | Reason:
    """Whom a token of the issuer would speak of that has the claims of this file; `-` is stdin."""
    issuer = snapshot.issuers.get(name)
    if issuer is None:
        raise CliError(f"--issuer: no issuer `{name}`{suggestion(name, snapshot.issuers)}")
    held = _held("--claims", path)
    try:
        claims = strict_json.loads(held)
    except ValueError as error:
        raise CliError(f"--claims: {path} is not JSON: {error}", ExitCode.USAGE) from error
    if isinstance(claims, dict) and isinstance(claims.get("claims"), dict):
        claims = claims["claims"]  # beside the `header`, as the examples have them
    if not isinstance(claims, dict):
        raise CliError(f"--claims: {path} holds no object of claims", ExitCode.USAGE)
    return caller_of(issuer, claims, snapshot, now)


def read_token(path: Path) -> str:
    text = _held("--token-file", path).decode("ascii", "replace").strip()
    return text.removeprefix("Bearer ").strip()


def _held(option: str, path: Path) -> bytes:
    """What the file holds, as far as a token may be long."""
    try:
        held = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise CliError(f"{option} {path}: {error.strerror}", ExitCode.USAGE) from error
    return held[:MAX_TOKEN_FILE_BYTES]


def account_of(email: str, snapshot: Snapshot) -> Principal:
    claims = AccountClaims(lambda: snapshot.attributes, lambda: snapshot.tenants)

    async def work(context: CommandContext) -> Principal:
        account = await Accounts(context.database).by_email(email)
        if account is None:
            raise CliError(f"no account has the address {email}")
        if account.disabled:
            warn("the account is disabled: it could not sign in")
        return person(
            account.id,
            account.roles,
            now=context.clock.now(),
            email=account.email,
            email_verified=account.email_verified,
            claims=claims.of(account, None),
        )

    return run(work)


def bearer_of(text: str, snapshot: Snapshot) -> Principal | Reason:
    """Who the token speaks of, or why the gateway would refuse it: signature, claims, expiry
    and revocation, as SQL has them now.  Another issuer's is judged by the keys that are kept."""
    foreign = read_foreign_token(text, {one.issuer: one.name for one in snapshot.issuers.values()})

    async def work(context: CommandContext) -> Principal | Reason:
        chosen = context.settings
        if foreign is not None:
            found = _verdict_on_foreign(foreign, snapshot, context)
        else:
            ring = KeyRing(context.database, Sealer(context.key_secret), context.clock)
            await ring.refresh()
            verifier = TokenVerifier(
                ring,
                issuer=chosen.token_issuer,
                audience=chosen.token_audience,
                max_life_s=chosen.max_token_life_s,
                clock=context.clock,
            )
            found = verifier.verify(text)
        if isinstance(found, Reason):
            return found
        revoked = RevocationList()
        async for change, keep_s in every(context.database, 2 * chosen.max_token_life_s):
            revoked.apply(change, context.clock.steady() + keep_s)
        return revoked.refusal(found) or found

    return run(work)


def _verdict_on_foreign(
    token: ForeignToken, snapshot: Snapshot, context: CommandContext
) -> Principal | Reason:
    issuer, settings = snapshot.issuers[token.issuer], context.settings
    kept = KeptKeys(DataFolder(settings.data_dir).issuers).read(issuer)
    keys = {} if kept is None else kept.keys()
    if not keys:
        raise CliError(
            f"no keys of `{issuer.name}` are kept here yet: "
            f"`gateway issuers check {issuer.name} --token-file F` asks for them"
        )
    key = keys.get(token.kid)
    if key is None:
        return Reason.KEY_UNKNOWN
    verifier = IssuerVerifier(
        issuer,
        max_life_s=settings.max_token_life_s,
        now=context.clock.now,
        resource_paths=resource_paths(snapshot.routes),
    )
    return verifier.verify(token, key)
