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
    """Whom the lines register; another one at each start, so that they work every time."""

    email: str
    password: str

    @classmethod
    def new(cls) -> DemoUser:
        return cls(f"ada-{secrets.token_hex(3)}@example.com", f"violet-{secrets.token_hex(6)}")


def steps(base: str, guest: DemoUser, own_paths: OwnPaths | None = None) -> list[QuickstartStep]:
    """A first five minutes with the shipped `routes.yaml`; `base` is the public URL."""
    auth = base + (own_paths or OwnPaths()).prefix
    json_type = "-H 'Content-Type: application/json'"
    who = f'{{"email":"{guest.email}","password":"{guest.password}"}}'
    bearer = '-H "Authorization: Bearer $TOKEN"'
    return [
        QuickstartStep(
            "make an account",
            f"curl -sw '\\n' {json_type} -d '{who}' {auth}/register",
            '"user_id"',
        ),
        QuickstartStep(
            "a helper that takes one field out of JSON",
            'field() { sed -n \'s/.*"\'"$1"\'": *"\\([^"]*\\)".*/\\1/p\'; }',
        ),
        QuickstartStep(
            "sign in, and keep the tokens",
            f"LOGIN=$(curl -s {json_type} -d '{who}' {auth}/login)",
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
        QuickstartStep(
            "an order of someone else: 403, and why",
            f"curl -sw '\\n' {bearer} {base}/v1/users/someone-else/orders/42",
            '"reason": "not_your_order"',
        ),
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
    guest: DemoUser,
    *,
    own_paths: OwnPaths | None = None,
) -> str:
    """The whole welcome."""
    lines = [
        "",
        f"authgate serves {base} (routes.yaml and policies/ are read again when they change)",
        "",
        "Try it; each line works as it stands, in this order, in another terminal:",
        "",
    ]
    for step in steps(base, guest, own_paths):
        if step.about:
            lines.append(f"# {step.about}")
        lines.append(step.command)
        lines.append("")
    lines += [
        f"Demo user     {demo.email}  {demo.password}  (role: manager, sees every order)",
        f"Admin page    {admin}/admin#token={admin_token}",
        f"Admin token   {admin_token}",
        "Stop          Ctrl-C",
        "",
    ]
    return "\n".join(lines)
