"""`gateway providers list|check|links|unlink`: by whom people sign in, whether they could now, and
with whom an account is linked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from gateway.access.providers import Provider, ProviderKind
from gateway.access.snapshot import Snapshot
from gateway.audit.log import AuditKind
from gateway.cli.account_names import Email, account_of, named
from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.configurations import compiled, compiled_for_here, read
from gateway.cli.context import CommandContext, run
from gateway.cli.environment import settings
from gateway.cli.notifications import notifications_of
from gateway.cli.output import AsJson, CliError, ExitCode, echo, table, warn, when
from gateway.edge.upstream.resolver import SystemResolver
from gateway.identity.accounts.account_rows import Account
from gateway.identity.issuers.fetching import Fetcher, FetchFailed
from gateway.identity.issuers.jwk_set import SET_BYTES_MAX, DocumentRefused, read_jwk_set
from gateway.identity.providers.asking import ProviderServers
from gateway.identity.providers.client import ProviderClient
from gateway.identity.providers.id_tokens import ProviderUnavailable
from gateway.identity.providers.identities import IdentityRefused
from gateway.identity.providers.key_sets import ProviderKeySets
from gateway.identity.providers.link_rows import LinkedIdentity
from gateway.identity.providers.linked_identities import LinkedIdentities, LinkRefusal
from gateway.model import SystemClock

_TIMES = ("linked_at", "last_used_at")


def register(app: typer.Typer) -> None:
    providers = typer.Typer(
        no_args_is_help=True, help="Providers, by which people sign in besides the gateway itself."
    )
    providers.command("list")(show)
    providers.command("check")(check)
    providers.command("links")(links)
    providers.command("unlink")(unlink)
    app.add_typer(providers, name="providers")


def show(
    config: ConfigPath = CONFIG, policies: PoliciesPath = POLICIES, as_json: AsJson = False
) -> None:
    """List the providers, with the redirect URI that each has to know."""
    rows: list[dict[str, object]] = [
        {
            "name": provider.name,
            "label": provider.label,
            "issuer": provider.issuer.issuer,
            "accounts": provider.accounts.value,
            "redirect_uri": _redirect_uri(provider.name),
        }
        for provider in compiled(config, policies).providers.values()
    ]
    columns = ["name", "label", "issuer", "accounts", "redirect_uri"]
    table(rows, columns, as_json=as_json)


def check(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this provider.", show_default=False)
    ] = None,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Ask the providers for their metadata and keys now, and whether they know our client.

    Exit 1 when something is refused, 3 when a provider does not answer.
    """
    providers = _named(compiled_for_here(config, policies).providers, name)
    checked = asyncio.run(_check_all(list(providers.values())))
    marks = {True: "✓", False: "✗", None: ""}
    rows: list[dict[str, object]] = [
        {
            "provider": one.name,
            "check": what,
            "good": good if as_json else marks[good],
            "detail": detail,
        }
        for one in checked
        for what, good, detail in one.rows
    ]
    table(rows, ["provider", "check", "good", "detail"], as_json=as_json)
    if any(one.is_away for one in checked):
        raise CliError("a provider does not answer", ExitCode.UNREACHABLE)
    if any(good is False for one in checked for _, good, _ in one.rows):
        raise CliError("nobody could sign in by a provider")


def links(
    email: Email,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """List the providers that an account is linked with, by the names that they have now."""
    providers = _providers(config, policies)

    async def work(context: CommandContext) -> list[LinkedIdentity]:
        account = await account_of(context, email)
        return await _identities(context, providers).of_account(account.id)

    rows: list[dict[str, object]] = [asdict(link) for link in run(work)]
    if not as_json:
        for row in rows:
            row |= {name: when(row[name]) for name in _TIMES}  # type: ignore[arg-type]
    columns = ["provider", "issuer", "subject", "email", *_TIMES]
    table(rows, columns, as_json=as_json)


def unlink(
    email: Email,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of the provider, as `links` shows it.")
    ],
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
) -> None:
    """Unlink an account: its sessions by the provider end, the roles and attributes that it gave
    go, and the owner is told by mail.

    It may be the last way in: then the owner asks for a password by mail.  A link that was made
    while the provider of this name was another issuer goes too; by its issuer it goes alone.
    """
    providers = _providers(config, policies)

    async def work(context: CommandContext) -> Account:
        account = await account_of(context, email)
        ended = await _identities(context, providers).unlink(
            account.id, name, session_id=None, may_be_last=True
        )
        if ended is None or isinstance(ended, LinkRefusal):
            raise CliError(f"the account is not linked with {name}")
        context.tell(AuditKind.PROVIDER_UNLINKED, account.id, "unlinked", provider=ended.providers)
        await context.publish(ended.changes)
        return account

    echo(f"unlinked: {named(run(work))}")


def _identities(context: CommandContext, providers: Mapping[str, Provider]) -> LinkedIdentities:
    notifications = notifications_of(context)
    return LinkedIdentities(context.database, notifications, providers=lambda: providers)


def _providers(config: Path, policies: Path) -> Mapping[str, Provider]:
    """None where the configuration is wrong: that must not keep an operator from unlinking."""
    found = read(config, policies)
    if isinstance(found, Snapshot):
        return found.providers
    warn(f"{config} is not there or not valid: providers are named as when somebody last used them")
    return {}


@dataclass(slots=True)
class CheckedProvider:
    """What came of one provider."""

    name: str
    rows: list[tuple[str, bool | None, str]] = field(default_factory=list)
    """What was looked at, whether it is good (None: only told), and a sentence."""
    is_away: bool = False

    def tell(self, what: str, good: bool | None, detail: str) -> None:
        self.rows.append((what, good, detail))


async def _check_all(providers: Sequence[Provider]) -> list[CheckedProvider]:
    addresses, clock = SystemResolver().addresses, SystemClock()
    fetcher = Fetcher(addresses)
    keys = ProviderKeySets(fetcher, clock, lambda _name, _outcome: None)
    client = ProviderClient(
        fetcher, ProviderServers(addresses), keys, clock, redirect_uri=_redirect_uri
    )
    return await asyncio.gather(*(_checked(provider, client, fetcher) for provider in providers))


async def _checked(provider: Provider, client: ProviderClient, fetcher: Fetcher) -> CheckedProvider:
    checked, asked = CheckedProvider(provider.name), "metadata"
    try:
        metadata = await client.metadata(provider)
        offers = {
            "pushed requests": metadata.pushed_authorization,
            "its sign-out": metadata.end_session,
            "iss in answers": metadata.names_iss,
        }
        offered = ", ".join(what for what, there in offers.items() if there)
        checked.tell("metadata", True, f"it offers {offered}" if offered else "")
        if provider.kind is ProviderKind.OPENID:
            asked = "keys"
            document = await fetcher.get(metadata.jwks_uri, provider.issuer.ca, SET_BYTES_MAX)
            algorithms = provider.issuer.algorithms
            usable = [
                key.kid
                for key in read_jwk_set(document.body).keys.values()
                if any(alg in algorithms for alg in key.algorithms)
            ]
            told = f"{len(usable)} for {', '.join(algorithms)}"
            checked.tell("keys", bool(usable), told)
        asked = "client"
        refusal = await client.check_client(provider)
        checked.tell("client", refusal is None, refusal or f"it knows {provider.client_id}")
    except (ProviderUnavailable, FetchFailed) as error:
        checked.is_away = True
        checked.tell(asked, False, str(error))
    except (IdentityRefused, DocumentRefused) as error:
        checked.tell(asked, False, str(error))
    checked.tell("redirect URI", None, _redirect_uri(provider.name))
    return checked


def _redirect_uri(name: str) -> str:
    here = settings()
    return here.public_url + here.own_paths.endpoint("providers", name, "callback")


def _named(providers: Mapping[str, Provider], name: str | None) -> Mapping[str, Provider]:
    if name is None:
        return providers
    if name not in providers:
        there = ", ".join(providers) or "none"
        raise CliError(f"unknown provider {name}; there are: {there}", ExitCode.USAGE)
    return {name: providers[name]}
