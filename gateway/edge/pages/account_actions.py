"""What the account page can do by one call of one endpoint, and how each is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AccountAction:
    """`<prefix>/ui/account/<name>`: a form, and the call that it stands for."""

    name: str
    method: str
    path: tuple[str, ...]
    section: str
    """Of the page: where a problem is told, and what comes back is shown."""
    fields: tuple[str, ...] = ()
    """Of the form, that become fields of the body."""
    names: str | None = None
    """The field of the form that is the last segment of the path."""


ACTIONS = (
    AccountAction("email", "POST", ("email", "change"), "email", ("email", "password")),
    AccountAction(
        "password", "POST", ("password", "change"), "password", ("password", "new_password")
    ),
    AccountAction("end-session", "DELETE", ("sessions",), "sessions", names="session_id"),
    AccountAction("end-key", "DELETE", ("keys",), "keys", names="key_id"),
    AccountAction("remove-totp", "DELETE", ("factors", "totp"), "factors"),
    AccountAction("rename-passkey", "PATCH", ("factors", "passkeys"), "factors", ("name",), "id"),
    AccountAction("remove-passkey", "DELETE", ("factors", "passkeys"), "factors", names="id"),
    AccountAction("unlink", "DELETE", ("links",), "links", names="name"),
)
DONE = frozenset(action.name for action in ACTIONS) | {"add-passkey", "add-totp", "step-up"}
"""What has just been done, as `?done=` may say."""
