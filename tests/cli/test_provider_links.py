"""`gateway providers links|unlink` once the configuration has changed."""

from __future__ import annotations

import json
from pathlib import Path

from gateway.identity.accounts.accounts import Accounts
from gateway.stores.protocols import Database
from tests.cli.installed import GOOD, NO, Gateway
from tests.cli.test_people import inside

EMAIL = "alice@example.com"
OLD, NEW = "https://old.example", "https://new.example"


def configure(folder: Path, **issuers: str) -> None:
    blocks = "".join(
        f"  {name}: {{issuer: '{issuer}', client_id: c, client_secret: {{secret: s}}}}\n"
        for name, issuer in issuers.items()
    )
    (folder / "routes.yaml").write_text(f"version: 1\nroutes: []\nproviders:\n{blocks}")


def link(folder: Path, *issuers: str) -> None:
    """With what was called `corp` then."""

    async def work(database: Database) -> None:
        account = await Accounts(database).by_email(EMAIL)
        assert account is not None
        async with database.transaction() as tx:
            for issuer in issuers:
                await tx.run(
                    "INSERT INTO linked_identities (id, account_id, issuer, subject, provider,"
                    " linked_at, last_used_at) VALUES (:issuer, :id, :issuer, 's', 'corp', 1, 1)",
                    id=account.id,
                    issuer=issuer,
                )

    inside(folder, work)


def linked(gateway: Gateway) -> dict[str, str]:
    code, out = gateway("providers", "links", EMAIL, "--json")
    assert code == GOOD
    return {row["issuer"]: row["provider"] for row in json.loads(out)}


def test_links_are_named_and_end_by_what_their_providers_are_called_now(
    folder: Path, gateway: Gateway
) -> None:
    assert gateway("users", "create", EMAIL)[0] == GOOD
    configure(folder, corp=NEW, before=OLD)
    link(folder, OLD, NEW)
    assert linked(gateway) == {OLD: "before", NEW: "corp"}
    assert gateway("providers", "unlink", EMAIL, "before")[0] == GOOD
    assert linked(gateway) == {NEW: "corp"}
    configure(folder, company=NEW)
    assert linked(gateway) == {NEW: "company"}
    assert gateway("providers", "unlink", EMAIL, "company")[0] == GOOD
    assert linked(gateway) == {}


def test_an_operator_unlinks_every_issuer_that_the_name_has_meant(
    folder: Path, gateway: Gateway
) -> None:
    assert gateway("users", "create", EMAIL)[0] == GOOD
    configure(folder, corp=NEW)
    link(folder, OLD, NEW)
    assert linked(gateway) == {OLD: OLD, NEW: "corp"}
    assert gateway("providers", "unlink", EMAIL, OLD)[0] == GOOD
    assert linked(gateway) == {NEW: "corp"}
    link(folder, OLD)
    assert gateway("providers", "unlink", EMAIL, "corp")[0] == GOOD
    assert linked(gateway) == {}
    assert gateway("providers", "unlink", EMAIL, "corp")[0] == NO


def test_a_configuration_that_is_wrong_keeps_nobody_from_unlinking(
    folder: Path, gateway: Gateway
) -> None:
    assert gateway("users", "create", EMAIL)[0] == GOOD
    (folder / "routes.yaml").write_text("version: what\n")
    link(folder, OLD)
    assert linked(gateway) == {OLD: "corp"}
    assert gateway("providers", "unlink", EMAIL, "corp")[0] == GOOD
    assert linked(gateway) == {}
