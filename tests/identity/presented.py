"""A call that presents a credential, whom it proves, and a replica that refuses what it is told."""

from __future__ import annotations

from gateway.model import Call, Credential, CredentialKind, Principal, Reason

BEARER = frozenset({CredentialKind.BEARER})


class Replica:
    """Refuses what it is told to, and counts how often it was asked."""

    def __init__(self) -> None:
        self.refused: dict[str, Reason] = {}
        self.stale = False
        self.asked = 0

    def refusal(self, principal: Principal) -> Reason | None:
        self.asked += 1
        if self.stale:
            return Reason.REPLICA_STALE
        return self.refused.get(principal.token_id) or self.refused.get(principal.kid)


def call_with(credential: Credential | Reason | str | None) -> Call:
    if isinstance(credential, str) and not isinstance(credential, Reason):
        credential = Credential(CredentialKind.BEARER, credential)
    return Call(
        method="GET",
        host="gate.example",
        path="/",
        segments=("",),
        query="",
        headers=(),
        client_ip="127.0.0.1",
        scheme="https",
        credential=credential,
    )


def someone() -> Principal:
    return Principal("u", (), None, "t", None, kid="k", issued_at=0, expires_at=10)
