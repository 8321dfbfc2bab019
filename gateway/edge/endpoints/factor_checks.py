"""A second factor that came with a call: counted as a guess, then checked.

Law: of one account at most five wrong answers are evaluated in any 15 minutes, whoever gives them,
on however many nodes; each is counted before it is looked at, and given back when it was right.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from gateway.edge.endpoints.endpoint import FieldError, ProblemReply
from gateway.edge.endpoints.json_body import Fields, JsonObject, Text
from gateway.edge.endpoints.passkey_proofs import PasskeyProofs, ProvenAccount
from gateway.identity.factors.challenges import CeremonyPurpose
from gateway.identity.factors.factor_kinds import FactorKind, FactorProof
from gateway.identity.sign_in.throttle import Throttle
from gateway.model import Call, Reason

FACTOR_FIELDS: Fields = {
    "code": Text(longest=64, required=False),
    "passkey": JsonObject(required=False),
}
"""The fields in which a factor's answer may come; a call gives one of them."""
WRONG_CODE = "The code is wrong."


@dataclass(frozen=True, slots=True)
class FactorQuestion:
    """Of whom a factor is asked, and for what."""

    request: web.BaseRequest
    call: Call
    account_id: str
    holder: str
    """The id of the sign-in that waits for it, or of the session that is to step up."""
    stepping_up: bool = False


class SecondFactor(Protocol):
    """A kind of factor, as sign-in and step-up ask it."""

    @property
    def kind(self) -> FactorKind: ...

    @property
    def field(self) -> str:
        """The field of the body in which an answer comes; kinds may share one."""

    def takes(self, answer: Any) -> bool:
        """Whether an answer in this field is of its form: of those that share one, the first."""

    async def verify(
        self, question: FactorQuestion, answer: Any
    ) -> FactorProof | ProblemReply | None:
        """None for a wrong answer, and for one that was taken before; a problem for what is no
        answer to the question.  Raises StoreUnavailable."""

    async def challenge(self, question: FactorQuestion) -> Mapping[str, Any]:
        """What the caller needs for an answer: members of the problem that asks for it."""


@dataclass(frozen=True, slots=True)
class CodeFactor:
    """One that is typed in."""

    kind: FactorKind
    code_of: Callable[[Any], str | None]
    """The code as it counts; None for what is none of this kind."""
    check: Callable[[str, Any], Awaitable[FactorProof | None]]
    field: str = "code"

    def takes(self, answer: Any) -> bool:
        return self.code_of(answer) is not None

    async def verify(self, question: FactorQuestion, answer: Any) -> FactorProof | None:
        return await self.check(question.account_id, answer)

    async def challenge(self, question: FactorQuestion) -> Mapping[str, Any]:
        del question
        return {}


@dataclass(frozen=True, slots=True)
class PasskeyFactor:
    proofs: PasskeyProofs
    kind: FactorKind = FactorKind.PASSKEY
    field: str = "passkey"

    def takes(self, answer: Any) -> bool:
        return isinstance(answer, dict)

    async def verify(self, question: FactorQuestion, answer: Any) -> FactorProof | ProblemReply:
        proven = _proven(question)
        use = await self.proofs.factor(question.request, question.call, proven, answer)
        if isinstance(use, ProblemReply):
            return use
        return FactorProof(self.kind, use.passkey.amr, use.passkey.id)

    async def challenge(self, question: FactorQuestion) -> Mapping[str, Any]:
        options = await self.proofs.options(_proven(question))
        return {} if options is None else {"passkey": options}


class FactorChecks:
    def __init__(self, factors: Sequence[SecondFactor], throttle: Throttle) -> None:
        self._factors = factors
        self._throttle = throttle

    async def challenge(
        self, question: FactorQuestion, kinds: Sequence[FactorKind]
    ) -> dict[str, Any]:
        """The members of a problem that asks for one of these factors: their names, and what each
        of them needs."""
        members: dict[str, Any] = {"factors": [str(kind) for kind in kinds]}
        for factor in self._factors:
            if factor.kind in kinds:
                members.update(await factor.challenge(question))
        return members

    async def check(
        self, question: FactorQuestion, fields: Mapping[str, Any]
    ) -> FactorProof | ProblemReply:
        """What the fields of the body prove: INVALID_CREDENTIALS for a wrong answer, and for one
        that was taken before."""
        given = [name for name in FACTOR_FIELDS if name in fields]
        if len(given) != 1:
            needs = "needs one of " + ", ".join(FACTOR_FIELDS)
            return ProblemReply(Reason.BODY_INVALID, (FieldError("", needs),))
        answer = fields[given[0]]
        reservation = await self._throttle.reserve_factor(
            question.account_id, None if question.stepping_up else question.holder
        )
        if reservation.wait_s > 0:
            return ProblemReply(Reason.TOO_MANY_ATTEMPTS, retry_after_s=reservation.wait_s)
        factor = next((f for f in self._factors if f.field == given[0] and f.takes(answer)), None)
        try:
            proof = None if factor is None else await factor.verify(question, answer)
        except BaseException:
            await self._throttle.give_back(reservation)
            raise
        if proof is None:
            proof = ProblemReply(Reason.INVALID_CREDENTIALS, detail=WRONG_CODE)
        if isinstance(proof, ProblemReply) and proof.reason is Reason.INVALID_CREDENTIALS:
            await self._throttle.failed(reservation)
        else:
            await self._throttle.give_back(reservation)
        return proof


def _proven(question: FactorQuestion) -> ProvenAccount:
    purpose = CeremonyPurpose.STEP_UP if question.stepping_up else CeremonyPurpose.FACTOR
    return ProvenAccount(purpose, question.account_id, question.holder)
