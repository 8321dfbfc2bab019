"""What is said to somebody who does not get in by a provider, and what they can do instead."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.edge.endpoints.endpoint import ProblemReply
from gateway.identity.providers.linked_identities import LinkRefusal
from gateway.model import Reason

OVER = ProblemReply(
    Reason.INVALID_TOKEN,
    detail="This sign-in was begun in another browser, was completed, or is over: begin it anew.",
    told="provider.over",
)
CANCELLED = ProblemReply(
    Reason.INVALID_CREDENTIALS,
    detail="The provider says that the sign-in was not completed: try again, or another way.",
    told="provider.cancelled",
)
NOT_BELIEVED = ProblemReply(
    Reason.INVALID_CREDENTIALS,
    detail="What the provider answered cannot be believed: try again, or another way.",
    told="provider.not_believed",
)
AWAY = ProblemReply(
    Reason.ISSUER_UNAVAILABLE,
    detail="The provider does not answer: try another way, or again later.",
    retry_after_s=5.0,
    told="provider.away",
)
NOT_ADMITTED = ProblemReply(
    Reason.REGISTRATION_CLOSED,
    detail="The provider does not count you among those who may sign in here.",
    told="provider.not_admitted",
)

REFUSALS: Mapping[LinkRefusal, ProblemReply] = MappingProxyType(
    {
        LinkRefusal.NOT_LINKED: ProblemReply(
            Reason.REGISTRATION_CLOSED,
            detail="No account is linked with you there: sign in another way, and link it then.",
            told="provider.not_linked",
        ),
        LinkRefusal.EMAIL_UNVERIFIED: ProblemReply(
            Reason.EMAIL_UNVERIFIED,
            detail="The provider has not verified your address: verify it there, or sign in"
            " another way.",
            told="provider.email_unverified",
        ),
        LinkRefusal.ADDRESS_TAKEN: ProblemReply(
            Reason.EMAIL_TAKEN,
            detail="Your address has an account here: sign in to it as you did before, or set a new"
            " password by mail, and link the provider then.",
            told="provider.address_taken",
        ),
        LinkRefusal.ACCOUNT_DISABLED: ProblemReply(Reason.ACCOUNT_DISABLED),
        LinkRefusal.OWN_ADDRESS_UNVERIFIED: ProblemReply(
            Reason.EMAIL_UNVERIFIED,
            detail="The address of your account has not been verified: verify it first.",
            told="provider.own_address_unverified",
        ),
        LinkRefusal.LINKED_ELSEWHERE: ProblemReply(
            Reason.EMAIL_TAKEN,
            detail="Another account is linked with you there.",
            told="provider.linked_elsewhere",
        ),
        LinkRefusal.LINKED_ALREADY: ProblemReply(
            Reason.EMAIL_TAKEN,
            detail="Your account is linked with somebody else there: unlink that first.",
            told="provider.linked_already",
        ),
        LinkRefusal.SESSION_ENDED: ProblemReply(Reason.SESSION_UNKNOWN),
        LinkRefusal.LAST_WAY_IN: ProblemReply(
            Reason.EMAIL_TAKEN,
            detail="It is the only way into your account: set a password first.",
            told="provider.last_way_in",
        ),
        LinkRefusal.BARRED: ProblemReply(
            Reason.NO_RULE,
            detail="A role of your account keeps it away from something: only whoever runs this"
            " service may unlink it.",
            told="provider.barred",
        ),
        LinkRefusal.ENDED_THERE: ProblemReply(
            Reason.INVALID_CREDENTIALS,
            detail="The provider has ended your session there: try again, or another way.",
            told="provider.cancelled",
        ),
        LinkRefusal.TOO_SOON: ProblemReply(Reason.RATE_LIMITED, retry_after_s=1.0),
    }
)
