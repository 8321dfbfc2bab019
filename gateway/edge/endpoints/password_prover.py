"""The password of a caller who has a session, asked again."""

from __future__ import annotations

from gateway.edge.endpoints.endpoint import ProblemReply
from gateway.edge.endpoints.login_guard import LoginGuard
from gateway.identity.accounts.accounts import Accounts, Proof
from gateway.identity.accounts.hashing_threads import Lane
from gateway.identity.accounts.passwords import Checked, Passwords
from gateway.model import Call, Principal, Reason


class PasswordProver:
    def __init__(self, accounts: Accounts, guard: LoginGuard, passwords: Passwords) -> None:
        self._accounts = accounts
        self._guard = guard
        self._passwords = passwords

    async def prove(self, principal: Principal, password: str, call: Call) -> Proof | ProblemReply:
        """Check the caller's password, for a change that compares it and the session again.

        Counted as a sign-in is: the device cookie keeps strangers from using up the owner's
        attempts.
        """
        account = await self._accounts.by_id(principal.subject)
        if account is None or principal.session_id is None:
            # The token is of an imported key; there is no password here.
            return ProblemReply(Reason.INVALID_CREDENTIALS)
        admission = await self._guard.admit_holder(call, account.normalized_email)
        if isinstance(admission, ProblemReply):
            return admission
        try:
            checked = await self._passwords.check(
                password,
                account.password_hash,
                Lane.KNOWN,
                holder=account.normalized_email,
                client_ip=call.client_ip,
            )
        except BaseException:
            await self._guard.give_back(admission)
            raise
        if isinstance(checked, Checked) and not checked.good:
            await self._guard.failed(admission)
            return ProblemReply(Reason.INVALID_CREDENTIALS, detail="The password is wrong.")
        await self._guard.give_back(admission)
        if isinstance(checked, Reason):
            return ProblemReply(checked)
        return Proof(principal.session_id, account.password_hash, account.normalized_email)
