"""`gateway issuers list|check`: whose tokens are taken, and whether one of theirs would be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from gateway.access.issuers import Issuer
from gateway.access.resource_servers import resource_paths
from gateway.access.snapshot import Snapshot
from gateway.app.data_dir import DataFolder
from gateway.cli.configurations import compiled, read_for_here
from gateway.cli.context import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.environment import settings
from gateway.cli.output import AsJson, CliError, ExitCode, data, table, warn, when
from gateway.cli.policy_callers import read_token
from gateway.edge.upstream.resolver import SystemResolver
from gateway.identity.issuers.discovery import discovery_url
from gateway.identity.issuers.fetching import Fetcher, FetchFailed
from gateway.identity.issuers.jwk_set import SET_BYTES_MAX, DocumentRefused, JwkSet, read_jwk_set
from gateway.identity.issuers.kept_keys import KeptKeys
from gateway.identity.issuers.key_sets import Documents, fetch_endpoints
from gateway.identity.issuers.verifier import ForeignToken, IssuerVerifier, read_foreign_token
from gateway.model import Principal, SystemClock


def register(app: typer.Typer) -> None:
    issuers = typer.Typer(
        no_args_is_help=True, help="Other issuers, whose tokens the configuration takes."
    )
    issuers.command("list")(show)
    issuers.command("check")(check)
    app.add_typer(issuers, name="issuers")


def show(
    config: ConfigPath = CONFIG, policies: PoliciesPath = POLICIES, as_json: AsJson = False
) -> None:
    """List the issuers, and how old the keys of each are that this machine keeps."""
    kept = KeptKeys(DataFolder(settings().data_dir).issuers)
    rows = [_listed(issuer, kept) for issuer in compiled(config, policies).issuers.values()]
    if not as_json:
        for row in rows:
            row["fetched_at"] = when(row["fetched_at"])  # type: ignore[arg-type]
    table(rows, ["name", "issuer", "keys", "age_s", "fetched_at"], as_json=as_json)


def check(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this issuer.", show_default=False)
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", metavar="F", help="Judge this token, claim by claim; `-` reads stdin."
        ),
    ] = None,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Fetch the discovery and the keys of the issuers now, and show what came; judge a token.

    Exit 1 when something is refused, 3 when an issuer does not answer.
    """
    snapshot = _valid(config, policies)
    issuers = dict(_named(snapshot, name))
    token = None
    if token_file is not None:
        token = _token(read_token(token_file), issuers.values(), name)
        issuers = {token.issuer: issuers[token.issuer]}
    fetcher = Fetcher(SystemResolver().addresses)
    looked = asyncio.run(_look(issuers.values(), fetcher))
    rows = [row for one in looked for row in one.rows]
    if token is not None:
        paths = resource_paths(snapshot.routes).get(token.issuer, frozenset())
        verifier = IssuerVerifier(
            issuers[token.issuer],
            max_life_s=settings().max_token_life_s,
            now=SystemClock.now,
            resource_paths=paths,
        )
        rows += list(_judged(token, verifier, looked[0].keys))
    _tell(rows, as_json=as_json)
    if any(one.is_away for one in looked):
        raise CliError("an issuer does not answer", ExitCode.UNREACHABLE)
    if any(row.good is False for row in rows):
        raise CliError("the token is refused" if token else "an issuer is not to be believed")


@dataclass(frozen=True, slots=True)
class CheckedRow:
    issuer: str
    check: str
    good: bool | None
    """None for what is only told."""
    detail: str


@dataclass(slots=True)
class LookedAt:
    """What came of one issuer."""

    rows: list[CheckedRow]
    keys: JwkSet | None = None
    is_away: bool = False


def _valid(config: Path, policies: Path) -> Snapshot:
    found = read_for_here(config, policies)
    if isinstance(found, Snapshot):
        return found
    for problem in found:
        warn(str(problem))
    raise CliError("the configuration is not valid")


def _named(snapshot: Snapshot, name: str | None) -> Mapping[str, Issuer]:
    if name is None:
        return snapshot.issuers
    if name not in snapshot.issuers:
        there = ", ".join(snapshot.issuers) or "none"
        raise CliError(f"unknown issuer {name}; there are: {there}", ExitCode.USAGE)
    return {name: snapshot.issuers[name]}


def _listed(issuer: Issuer, kept: KeptKeys) -> dict[str, object]:
    row: dict[str, object] = {"name": issuer.name, "issuer": issuer.issuer}
    found = kept.read(issuer)
    try:
        keys = list(read_jwk_set(found.body).keys) if found is not None else []
    except DocumentRefused:
        keys = []
    at = found.fetched_at if found is not None and keys else None
    return {
        **row,
        "keys": keys,
        "age_s": None if at is None else max(round(time.time() - at), 0),
        "fetched_at": at,
    }


def _token(text: str, issuers: Iterable[Issuer], name: str | None) -> ForeignToken:
    token = read_foreign_token(text, {issuer.issuer: issuer.name for issuer in issuers})
    if token is None:
        whose = f"of {name}" if name is not None else "of any issuer of the configuration"
        raise CliError(
            f"this is no signed token {whose}: its iss must be theirs to the byte, and its header"
            " have alg and kid, and neither a key nor an extension"
        )
    return token


async def _look(issuers: Iterable[Issuer], documents: Documents) -> list[LookedAt]:
    return await asyncio.gather(*(_looked_at(issuer, documents) for issuer in issuers))


async def _looked_at(issuer: Issuer, documents: Documents) -> LookedAt:
    found = LookedAt([])

    def tell(check: str, good: bool | None, detail: str) -> None:
        found.rows.append(CheckedRow(issuer.name, check, good, detail))

    asked = "discovery"
    try:
        url = issuer.jwks_uri
        if url is None:
            endpoints, _ = await fetch_endpoints(issuer, documents)
            tell("discovery", True, discovery_url(issuer))
            url = endpoints.jwks_uri
        asked = "keys"
        if url is None:
            raise DocumentRefused("the discovery names no jwks_uri")
        document = await documents.get(url, issuer.ca, SET_BYTES_MAX)
        found.keys = read_jwk_set(document.body)
        tell("keys", True, f"{url}, to be kept for {document.fresh_s:.0f} s")
    except FetchFailed as error:
        found.is_away = True
        tell(asked, False, str(error))
    except DocumentRefused as error:
        tell(asked, False, str(error))
    if found.keys is not None:
        for key in found.keys.keys.values():
            usable = [alg for alg in key.algorithms if alg in issuer.algorithms]
            detail = f"{key.kind}, for {', '.join(usable)}" if usable else f"{key.kind}, for no alg"
            tell(f"key {key.kid}", bool(usable) or None, detail)
        for left_out in found.keys.left_out:
            tell("left out", None, left_out)
    return found


def _judged(
    token: ForeignToken, verifier: IssuerVerifier, keys: JwkSet | None
) -> Iterator[CheckedRow]:
    name, kid = token.issuer, token.parsed.kid
    key = None if keys is None else keys.keys.get(kid)
    if key is None:
        yield CheckedRow(name, "kid", False, f"it is {kid}; the issuer publishes no such key")
    else:
        yield CheckedRow(name, "kid", True, kid)
        alg, wanted = token.parsed.alg, " or ".join(verifier.issuer.algorithms)
        if verifier.is_signed(token, key):
            yield CheckedRow(name, "signature", True, alg)
        else:
            told = f"it is none of this key with {alg}; {wanted} would be right"
            yield CheckedRow(name, "signature", False, told)
    problems = {one.what: one.problem(token) for one in verifier.checks}
    for what, problem in problems.items():
        yield CheckedRow(name, what, problem is None, problem or "")
    if not any(problems.values()):
        yield from _speaks_of(verifier.principal(token), verifier, token)


def _speaks_of(
    principal: Principal, verifier: IssuerVerifier, token: ForeignToken
) -> Iterator[CheckedRow]:
    left_out = verifier.roles_of(token.claims)[1]
    told = {
        "user.id": principal.subject,
        "user.roles": ", ".join(principal.roles),
        "roles left out": ", ".join(left_out),
        "user.email": principal.email or "",
        "user.session_id": principal.session_id or "",
        "client": principal.client_id or "",
        "user.scopes": ", ".join(principal.granted_scopes),
        "only for": "the resources that it names" if principal.resource_only else "",
    }
    for what, text in told.items():
        if text or what == "user.roles":
            yield CheckedRow(token.issuer, what, None, text or "none")


def _tell(rows: list[CheckedRow], *, as_json: bool) -> None:
    marks = {True: "✓", False: "✗", None: ""}
    listed = [
        {"issuer": row.issuer, "check": row.check, "good": row.good, "detail": row.detail}
        for row in rows
    ]
    if as_json:
        data(listed)
        return
    shown = [{**row, "good": marks[row["good"]]} for row in listed]  # type: ignore[index]
    table(shown, ["issuer", "check", "good", "detail"], as_json=False)
