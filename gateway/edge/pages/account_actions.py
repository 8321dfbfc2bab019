"""What the account page can do by one call of one endpoint, and how each is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
    AccountAction("tenant", "POST", ("tenant",), "tenants", ("tenant",)),
    AccountAction("unlink", "DELETE", ("links",), "links", names="name"),
)
PREFIX = "attribute-"
"""Of the fields of the form that hold attributes."""
_TRUTH = {"true": True, "false": False}


def attributes_of_form(
    form: Mapping[str, str], editable: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What a form says of the attributes that the person may set, each as its type has it; null
    where a field is empty.  What is no such value is left as it is: the endpoint refuses it."""
    values: dict[str, Any] = {}
    for name, kind in editable.items():
        text = form.get(PREFIX + name, "").strip()
        value: Any = text or None
        if kind["type"] == "integer" and re.fullmatch(r"-?[0-9]{1,16}", text):
            value = int(text)
        elif kind["type"] == "boolean":
            value = _TRUTH.get(text, value)
        elif kind["type"] == "list":
            value = [one.strip() for one in text.split(",") if one.strip()] or None
        values[name] = value
    return values


DONE = frozenset(action.name for action in ACTIONS) | {
    "add-passkey",
    "add-totp",
    "link",
    "profile",
    "step-up",
}
"""What has just been done, as `?done=` may say."""
