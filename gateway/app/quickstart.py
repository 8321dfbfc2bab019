"""What `gateway dev` prints: lines to copy and paste, one after the other, into a plain sh.

The lines are kept here as data, so that the test, the smoke run and the README use the very
same ones.  `expect` is what the answer must hold.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from gateway.access.routing.own_paths import OwnPaths


@dataclass(frozen=True, slots=True)
class QuickstartStep:
    about: str
    command: str
    expect: str = ""
    """A piece of what the command prints; empty where it prints nothing."""


@dataclass(frozen=True, slots=True)
class DemoUser:
    """Whom the lines sign in: one that they register, another at each start, so that they
    work every time; or the one that is there."""

    email: str
    password: str

    @classmethod
    def new(cls, domain: str = "example.com") -> DemoUser:
        return cls(f"ada-{secrets.token_hex(3)}@{domain}", f"violet-{secrets.token_hex(6)}")


def steps(
    base: str, who: DemoUser, own_paths: OwnPaths | None = None, *, registers: bool = True
) -> list[QuickstartStep]:
    """A first five minutes with the shipped `routes.yaml`; `base` is the public URL.

    Without `registers` they are those of an account that is there, a manager: who sees every
    order is refused none.
    """
    auth = base + (own_paths or OwnPaths()).prefix
    json_type = "-H 'Content-Type: application/json'"
    name = f'{{"email":"{who.email}","password":"{who.password}"}}'
    bearer = '-H "Authorization: Bearer $TOKEN"'
    account = QuickstartStep(
        "make an account",
        f"curl -sw '\\n' {json_type} -d '{name}' {auth}/register",
        '"user_id"',
    )
    refusal = QuickstartStep(
        "an order of someone else: 403, and why",
        f"curl -sw '\\n' {bearer} {base}/v1/users/someone-else/orders/42",
        '"reason": "not_your_order"',
    )
    return [
        *([account] if registers else []),
        QuickstartStep(
            "a helper that takes one field out of JSON",
            'field() { sed -n \'s/.*"\'"$1"\'": *"\\([^"]*\\)".*/\\1/p\'; }',
        ),
        QuickstartStep(
            "sign in, and keep the tokens",
            f"LOGIN=$(curl -s {json_type} -d '{name}' {auth}/login)",
        ),
        QuickstartStep(
            "",
            'TOKEN=$(echo "$LOGIN" | field access_token);'
            ' REFRESH=$(echo "$LOGIN" | field refresh_token);'
            ' ID=$(echo "$LOGIN" | field user_id); echo "signed in as $ID"',
            "signed in as ",
        ),
        QuickstartStep(
            "an order of your own: see the X-Auth-* headers that the backend received",
            f"curl -s {bearer} {base}/v1/users/$ID/orders/42",
            "X-Auth-User-Id",
        ),
        *([refusal] if registers else []),
        QuickstartStep(
            "refresh: new tokens for the old ones, and what the new one says of you",
            f'LOGIN=$(curl -s {json_type} -d "{{\\"refresh_token\\":\\"$REFRESH\\"}}"'
            f" {auth}/refresh);"
            ' TOKEN=$(echo "$LOGIN" | field access_token);'
            f" curl -sw '\\n' {bearer} {auth}/me",
            '"session_id"',
        ),
        QuickstartStep(
            "sign out: 204 once no worker takes the token any more",
            f"curl -s -o /dev/null -w '%{{http_code}}\\n' -X POST {bearer} {auth}/logout",
            "204",
        ),
        QuickstartStep(
            "the old token is refused at once",
            f"curl -sw '\\n' {bearer} {base}/v1/users/$ID/orders/42",
            '"reason": "token_revoked"',
        ),
    ]


def text(
    base: str,
    admin: str,
    admin_token: str,
    demo: DemoUser,
    guest: DemoUser | None,
    *,
    own_paths: OwnPaths | None = None,
) -> str:
    """The whole welcome; without a guest nobody can register and sign in at once."""
    lines = [
        "",
        f"authgate serves {base} (routes.yaml and policies/ are read again when they change)",
        "",
        f"Open          {base}/  (sign in as the demo user below{_or_register(guest)})",
        "",
        "Try it; each line works as it stands, in this order, in another terminal:",
        "",
    ]
    for step in steps(base, guest or demo, own_paths, registers=guest is not None):
        if step.about:
            lines.append(f"# {step.about}")
        lines.append(step.command)
        lines.append("")
    lines += [
        f"Demo user     {demo.email}  {demo.password}  (role: manager, sees every order)",
        f"Console       {admin}/admin/sign-in#token={admin_token}",
        f"Admin token   {admin_token}",
        "Stop          Ctrl-C",
        "",
    ]
    return "\n".join(lines)


def _or_register(guest: DemoUser | None) -> str:
    return "" if guest is None else ", or create an account"
