"""A new password: what is stored of it, or why it is refused."""

from __future__ import annotations

from gateway.edge.endpoints.endpoint import FieldError, ProblemReply
from gateway.identity.accounts.hashing_threads import Lane
from gateway.identity.accounts.passwords import Passwords, WeakPassword
from gateway.identity.opaque_tokens import hash_token
from gateway.identity.sign_in.throttle import Throttle
from gateway.model import Reason


def hash_or_refusal(
    hashed: str | WeakPassword | Reason, field: str = "password"
) -> str | ProblemReply:
    """What `Passwords.hash` gave; 422 with the hint of what would make the password stronger."""
    if isinstance(hashed, Reason):  # a str too: what is stored must be a hash
        return ProblemReply(hashed)
    if isinstance(hashed, WeakPassword):
        return ProblemReply(
            Reason.WEAK_PASSWORD, (FieldError(field, hashed.hint),), detail=hashed.hint
        )
    return hashed


async def hash_for_link(
    passwords: Passwords,
    throttle: Throttle,
    password: str,
    *,
    token: str,
    email: str,
    client_ip: str,
) -> str | ProblemReply:
    """The same of a password that came with a good link, or a good invitation.

    Counted by the link: with one of their own anybody could keep the threads busy.
    """
    wait_s = await throttle.count_reset(token)
    if wait_s > 0:
        return ProblemReply(Reason.TOO_MANY_ATTEMPTS, retry_after_s=wait_s)
    return hash_or_refusal(
        await passwords.hash(
            password,
            words=(email,),
            lane=Lane.KNOWN,
            holder=hash_token(token),
            client_ip=client_ip,
        )
    )
