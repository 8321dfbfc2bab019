"""`gateway users attributes|tenants` and `gateway tenants list`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from gateway.access.attributes import Attribute, AttributeType, SetBy, Value, is_tenant_name
from gateway.access.suggestions import suggestion
from gateway.audit.log import AuditKind
from gateway.cli.account_names import Email, account_of, named, warn_unconfirmed
from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.configurations import compiled
from gateway.cli.context import CommandContext, run
from gateway.cli.output import AsJson, CliError, ExitCode, echo, table, warn, when
from gateway.identity.accounts.account_facts import AccountFacts

_TRUTH = {"true": True, "false": False}


def register(app: typer.Typer) -> None:
    tenants = typer.Typer(no_args_is_help=True, help="Tenants; accounts have a role in each.")
    tenants.command("list")(show_tenants)
    app.add_typer(tenants, name="tenants")


def attributes(
    email: Email,
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]...",
            help="Set an attribute; `NAME=` takes it away.  Entries of a list are parted by"
            " commas.  Without any, the attributes are listed.",
        ),
    ] = None,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Show or set the attributes of an account.  Tokens it holds are outdated by a change."""
    if not changes:
        _show_attributes(email, as_json=as_json)
        return
    known = compiled(config, policies).attributes
    values = dict(_change(text, known, str(config)) for text in changes)

    async def work(context: CommandContext) -> str:
        account = await account_of(context, email)
        warn_unconfirmed(context, account, email)
        try:
            made = await AccountFacts(context.database).put_attributes(account.id, values)
        except ValueError as error:
            raise CliError(str(error), ExitCode.USAGE) from error
        if made:
            names = ",".join(sorted(values))
            context.tell(AuditKind.ATTRIBUTES_CHANGED, account.id, "changed", names=names)
            await context.publish(made)
        return f"{'changed' if made else 'as it was'}: {named(account)}"

    echo(run(work))


def tenants(
    email: Email,
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TENANT=ROLE]...",
            help="Give the account a role in a tenant; `TENANT=` takes it out of it.  Without any,"
            " its tenants are listed.",
        ),
    ] = None,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Show or set the tenants of an account.  Tokens it holds are outdated by a change."""
    if not changes:
        _show_tenants_of(email, as_json=as_json)
        return
    rules = compiled(config, policies).tenants
    if rules is None:
        raise CliError(f"{config} has no `tenants:` block, so nobody can be of one")
    wanted = [_membership(text, rules.roles) for text in changes]

    async def work(context: CommandContext) -> str:
        account = await account_of(context, email)
        warn_unconfirmed(context, account, email)
        facts, changed = AccountFacts(context.database), False
        for tenant, role in wanted:
            try:
                made = await facts.put_tenant(account.id, tenant, role)
            except ValueError as error:
                raise CliError(str(error), ExitCode.USAGE) from error
            if made:
                changed = True
                what = "left" if role is None else "granted"
                context.tell(
                    AuditKind.TENANT_CHANGED, account.id, what, tenant=tenant, role=role or ""
                )
                await context.publish(made)
        return f"{'changed' if changed else 'as it was'}: {named(account)}"

    echo(run(work))


def show_tenants(
    tenant: Annotated[
        str | None, typer.Argument(metavar="[TENANT]", help="Who is of this tenant.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the tenants that accounts are of, and how many are; or who is of one."""

    async def work(context: CommandContext) -> list[dict[str, Any]]:
        facts = AccountFacts(context.database)
        if tenant is not None:
            return [dict(row) for row in await facts.members(tenant)]
        return [{"tenant": one, "accounts": n} for one, n in await facts.tenant_counts()]

    rows = run(work)
    if tenant is not None and not as_json:
        rows = [{**row, "granted_at": when(row["granted_at"])} for row in rows]
    columns = ["tenant", "accounts"] if tenant is None else ["email", "role", "granted_at"]
    table(rows, columns, as_json=as_json)


def _show_attributes(email: str, *, as_json: bool) -> None:
    async def work(context: CommandContext) -> list[dict[str, Any]]:
        account = await account_of(context, email)
        stored = await AccountFacts(context.database).attributes(account.id)
        return [
            {
                "attribute": one.name,
                "value": one.value,
                "set_by": one.set_by,
                "set_at": one.set_at,
            }
            for one in stored
        ]

    rows = run(work)
    if not as_json:
        rows = [
            {**row, "value": shown(row["value"]), "set_at": when(row["set_at"])} for row in rows
        ]
    table(rows, ["attribute", "value", "set_by", "set_at"], as_json=as_json)


def _show_tenants_of(email: str, *, as_json: bool) -> None:
    async def work(context: CommandContext) -> list[dict[str, Any]]:
        account = await account_of(context, email)
        return [{"tenant": tenant, "role": role} for tenant, role in account.tenants.items()]

    table(run(work), ["tenant", "role"], as_json=as_json)


def _change(text: str, known: Mapping[str, Attribute], config: str) -> tuple[str, Value | None]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CliError(f"{text!r} is not NAME=VALUE", ExitCode.USAGE)
    attribute = known.get(name)
    if attribute is None:
        hint = suggestion(name, known)
        raise CliError(f"`attributes:` of {config} has no {name!r}{hint}", ExitCode.USAGE)
    if SetBy.OPERATOR not in attribute.set_by:
        warn(f"{name} is set by others ({', '.join(sorted(attribute.set_by))}), who may change it")
    if not value:
        return name, None
    parsed = _parsed(attribute, value)
    if (problem := attribute.problem(parsed)) is not None:
        raise CliError(f"{name} {problem}", ExitCode.USAGE)
    return name, parsed


def _parsed(attribute: Attribute, text: str) -> Any:
    if attribute.type is AttributeType.INTEGER:
        try:
            return int(text)
        except ValueError:
            return text
    if attribute.type is AttributeType.BOOLEAN:
        return _TRUTH.get(text.lower(), text)
    if attribute.type is AttributeType.LIST:
        return [one.strip() for one in text.split(",") if one.strip()]
    return text


def _membership(text: str, roles: Sequence[str]) -> tuple[str, str | None]:
    tenant, equals, role = text.partition("=")
    if not equals or not is_tenant_name(tenant):
        raise CliError(
            f"{text!r} is not TENANT=ROLE: a tenant is 1 to 128 of A-Z a-z 0-9 . _ : @ -",
            ExitCode.USAGE,
        )
    if role and role not in roles:
        hint = suggestion(role, roles)
        raise CliError(f"no account can be {role!r} in a tenant{hint}", ExitCode.USAGE)
    return tenant, role or None


def shown(value: Value) -> str:
    """As a person reads it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
