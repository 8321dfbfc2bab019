"""What opens an account, in words for the mail that tells of a new password.

Who resets a password may have an account that somebody else moved to their mailbox, and whatever
that one enrolled or linked outlives the reset (docs/factors.md): so the mail names it.
"""

from __future__ import annotations

from gateway.stores.protocols import Transaction


async def ways_in(tx: Transaction, account_id: str) -> str:
    """Such as `its password, 2 passkeys, a sign-in by company`."""
    held = await tx.one(
        "SELECT (SELECT COUNT(*) FROM passkeys WHERE account_id = :id) AS passkeys,"
        " (SELECT COUNT(*) FROM totp_factors"
        "  WHERE account_id = :id AND confirmed_at IS NOT NULL) AS apps",
        id=account_id,
    )
    links = await tx.all(
        "SELECT provider FROM linked_identities WHERE account_id = :id ORDER BY linked_at, id",
        id=account_id,
    )
    ways = ["its password"]
    if held is not None and held["apps"]:
        ways = ["its password with an authenticator app"]
    if held is not None and held["passkeys"]:
        ways.append("a passkey" if held["passkeys"] == 1 else f"{held['passkeys']} passkeys")
    return ", ".join([*ways, *(f"a sign-in by {link['provider']}" for link in links)])
