"""How often one IP address may call each built-in endpoint, one account sign in, and one session be
renewed.

Law: whatever a stranger can ask for has a limit by address (an IPv6 /64 is one), shared by all
workers as the limits of routes are.  They are wide: an office behind one address, or a proxy that
nobody named in GATEWAY_TRUSTED_PROXIES, must not meet them.  What an attempt or a mail costs has
narrower bounds of its own (`sign_in.throttle`, `accounts.hashing_threads`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from gateway.access.definitions import Limit, LimitKey
from gateway.client_networks import holder
from gateway.identity.sign_in.devices import Device
from gateway.model import Call
from gateway.rate_limit.limiter import RateLimiter


def _limit(name: str, per_s: float, burst: int) -> tuple[Limit, ...]:
    # A slash: no limit of `routes.yaml` can have the name.
    return (Limit(f"auth/{name}", LimitKey.ADDRESS, per_s, burst),)


SIGN_IN = _limit("sign-in", 200, 2_000)
REGISTER = _limit("register", 10, 300)
RESEND = _limit("resend", 10, 300)
FORGOT = _limit("forgot", 10, 300)
REFRESH = _limit("refresh", 1_000, 5_000)
CAPTCHA = _limit("captcha", 20, 300)
PROVIDER = _limit("provider", 20, 300)
"""Each may cost a question to a provider (RFC 9126), in the places of all who sign in by it."""
CLIENT = _limit("client", 500, 5_000)
ISSUER = _limit("issuer", 500, 5_000)
"""What an issuer tells, all of whose users may come from one address."""
ACCOUNT = _limit("account", 200, 2_000)
"""What has a credential, and answers a stranger without a store."""
EXPORT = _limit("export", 1, 30)
"""All that is held of one person, sessions of the last day included."""
SESSION = (
    Limit("auth/session", LimitKey.ADDRESS, 1, 100),
    Limit("auth/session-day", LimitKey.ADDRESS, 1_000 / 86_400, 1_000),
)
"""Renewals of one session: each leaves a row until the session is over."""

RENEWALS = (Limit("auth/renewals-day", LimitKey.ADDRESS, 100_000 / 86_400, 100_000),)
"""Renewals of all sessions of one account: a session of its own brings no new thousand.  A thousand
devices that are on all day, each with a token of a quarter of an hour at a time, need as many."""

EVENTS = (Limit("auth/events-day", LimitKey.ADDRESS, 5_000 / 86_400, 5_000),)
"""What one account does, in whichever of its sessions, that leaves an event and nothing that a
limit of its own counts."""

ATTRIBUTES = (Limit("auth/attributes", LimitKey.ADDRESS, 20 / 3_600, 20),)
"""Times that one account changes what it may set of itself: each outdates its tokens, and whoever
has just given the password and is asked for the factor begins anew.  A session that was stolen must
not keep its owner from signing in by it."""

TOLD = (Limit("auth/told-events-day", LimitKey.ADDRESS, 5_000 / 86_400, 5_000),)
"""What is written of an account that is no deed of its session, such as a token that came twice: it
keeps nobody from stepping up."""

SIGN_INS = (Limit("auth/sign-ins-day", LimitKey.ADDRESS, 5_000 / 86_400, 5_000),)
"""Sign-ins of one account: each leaves rows and events, and its end is held by every worker for two
days.  By the account alone: a new password brings no new thousands.  Those with a second factor, or
from a device that has signed in before, are counted apart: who has the password alone is asked for
the factor as often as they like, and must not keep the owner waiting by it."""

PROVIDED_SIGN_INS = (Limit("auth/provided-sign-ins-day", LimitKey.ADDRESS, 5_000 / 86_400, 5_000),)
"""Sign-ins of one person of a provider: what it says of them is written before their account is
known, roles and attributes that change each time, too."""

KEYS = (Limit("auth/keys-day", LimitKey.ADDRESS, 100 / 86_400, 100),)
"""Personal keys that one account makes: each leaves rows for a day after its end."""

PASSKEYS = (Limit("auth/passkeys-day", LimitKey.ADDRESS, 50 / 86_400, 50),)
"""Passkeys that one account adds: each that is removed leaves a tombstone for
as long as the account is there."""

PASSKEY_USES = (Limit("auth/passkey-uses-day", LimitKey.ADDRESS, 10_000 / 86_400, 10_000),)
"""Good answers of one account's passkeys: the challenge of each stays in Redis for an hour, whether
or not a sign-in or a step-up comes of it.  As many as there may be of both."""

GENERATORS = (Limit("auth/generators-day", LimitKey.ADDRESS, 50 / 86_400, 50),)
"""Secrets of an authenticator app that one account is shown: each that counted leaves a tombstone
for as long as the account is there, and an event."""

RECOVERY_CODES = (Limit("auth/recovery-codes-day", LimitKey.ADDRESS, 10 / 86_400, 10),)
"""Times that one account has new recovery codes made: each leaves an event, and all of them
one tombstone."""

CLIENT_TOKENS = (Limit("auth/client-tokens-day", LimitKey.ADDRESS, 100_000 / 86_400, 100_000),)
"""Tokens that one machine client is given: each leaves an event, and what the client revokes every
worker holds for two days.  A thousand programs of one client, each with a token at a time, are
given as many."""

LINKS = (Limit("auth/links-day", LimitKey.ADDRESS, 50 / 86_400, 50),)
"""Times that one account sets out to be linked with a provider: each link leaves an event, and one
more when it is ended, which its owner may always do."""

DEVICE_FEW = _limit("device-few", 1 / 5, 10)
"""Calls of a browser that has signed in before, past what its address has: by the account that it
signed in to last, and the password of then, whatever others at the address use up."""
DEVICE = (*_limit("device", 4 / 5, 20), *_limit("devices-at", 10, 300))
"""Past those few: by the account, one a second and 30 at once with them, and of all at the address.
So each account that somebody has there brings them one call in five seconds more, and each new
password of it one more: ten an hour (`throttle.CHANGES`), and what resets there are mails for."""

BY_ENDPOINT: Mapping[tuple[str, ...], tuple[Limit, ...] | None] = MappingProxyType(
    {
        ("register",): REGISTER,
        ("login",): SIGN_IN,
        ("login", "passkey"): SIGN_IN,
        ("login", "passkey", "options"): SIGN_IN,
        ("refresh",): REFRESH,
        ("logout",): ACCOUNT,
        ("me",): ACCOUNT,
        ("me", "export"): EXPORT,
        ("me", "attributes"): ACCOUNT,
        ("tenant",): ACCOUNT,
        ("sessions",): ACCOUNT,
        ("sessions", "*"): ACCOUNT,
        ("login", "factor"): SIGN_IN,
        ("step-up",): SIGN_IN,
        ("factors",): ACCOUNT,
        ("factors", "totp"): ACCOUNT,
        ("factors", "totp", "confirm"): ACCOUNT,
        ("factors", "recovery-codes"): ACCOUNT,
        ("keys",): ACCOUNT,
        ("keys", "*"): ACCOUNT,
        ("factors", "passkeys"): ACCOUNT,
        ("factors", "passkeys", "options"): ACCOUNT,
        ("factors", "passkeys", "*"): ACCOUNT,
        ("password", "change"): SIGN_IN,
        ("email", "change"): SIGN_IN,
        ("email", "resend"): RESEND,
        ("password", "forgot"): FORGOT,
        # A good link is refused for nobody's tries: what is not good is counted by the throttle.
        ("email", "verify"): None,
        ("password", "reset"): None,
        ("csrf",): ACCOUNT,
        ("hand-over",): ACCOUNT,
        ("hand-over", "start"): ACCOUNT,
        ("hand-over", "accept"): ACCOUNT,
        ("captcha",): CAPTCHA,
        ("token",): CLIENT,
        ("introspect",): CLIENT,
        ("revoke",): CLIENT,
        ("issuers", "*", "backchannel-logout"): ISSUER,
        ("issuers", "*", "events"): ISSUER,
        ("providers",): ACCOUNT,
        ("providers", "*", "start"): PROVIDER,
        ("providers", "*", "callback"): SIGN_IN,
        ("providers", "*", "backchannel-logout"): ISSUER,
        ("links",): ACCOUNT,
        ("links", "*"): ACCOUNT,
    }
)
"""As the endpoints of `/auth` are named; one that is not here is limited like ACCOUNT."""


EventWait = Callable[[str, str], Awaitable[float]]
"""Of a session and its account; as `EndpointLimits.event_wait_s`."""


class EndpointLimits:
    def __init__(
        self, limits: RateLimiter, device_of: Callable[[Call], Device | None] = lambda _: None
    ) -> None:
        """`limits` is for these alone: a reload of the routes leaves them.  `device_of` reads the
        cookie of a browser that has signed in before."""
        self._limits = limits
        self._device_of = device_of

    async def wait_s(self, endpoint: tuple[str, ...], call: Call) -> float:
        """0.0 when the call may go on; else the seconds until it might."""
        limits = BY_ENDPOINT.get(endpoint, ACCOUNT)
        if limits is None:
            return 0.0
        address = holder(call.client_ip)
        wait_s = (await self._limits.take_for(limits, address)).wait_s
        device = self._device_of(call) if wait_s > 0 and limits is not EXPORT else None
        if device is None:
            return wait_s
        tag = device.latest_tag
        if (await self._limits.take_for(DEVICE_FEW, tag)).wait_s == 0:
            return 0.0
        return (await self._limits.take_for(DEVICE, tag, address)).wait_s

    async def session_wait_s(self, session_id: str, account_id: str | None = None) -> float:
        """The same for one more renewal of a session; by its account too, where that is known."""
        wait_s = (await self._limits.take_for(SESSION, session_id)).wait_s
        if wait_s > 0 or account_id is None:
            return wait_s
        return (await self._limits.take_for(RENEWALS, account_id)).wait_s

    async def event_wait_s(self, session_id: str, account_id: str) -> float:
        """The same for what a session does that leaves an event."""
        wait_s = await self.session_wait_s(session_id, account_id)
        return wait_s if wait_s > 0 else await self.account_event_wait_s(account_id)

    async def account_event_wait_s(self, account_id: str) -> float:
        """The same where something else counts by the session."""
        return (await self._limits.take_for(EVENTS, account_id)).wait_s

    async def attributes_wait_s(self, account_id: str) -> float:
        """The same for one more change of an account's own attributes."""
        wait_s = (await self._limits.take_for(ATTRIBUTES, account_id)).wait_s
        return wait_s if wait_s > 0 else await self.account_event_wait_s(account_id)

    async def told_event_wait_s(self, account_id: str) -> float:
        """Past it an event of `TOLD` is counted and not written."""
        return (await self._limits.take_for(TOLD, account_id)).wait_s

    async def account_wait_s(self, account_id: str, proven: bool) -> float:
        """The same for one more sign-in of an account, whose password was right; `proven` by more
        than that."""
        key = f"{account_id} proven" if proven else account_id
        return (await self._limits.take_for(SIGN_INS, key)).wait_s

    async def provided_wait_s(self, issuer: str, subject: str) -> float:
        """The same for one whom a provider names, before what it says of them is written."""
        return (await self._limits.take_for(PROVIDED_SIGN_INS, f"{issuer} {subject}")).wait_s

    async def key_wait_s(self, account_id: str) -> float:
        """The same for one more personal key of an account."""
        return (await self._limits.take_for(KEYS, account_id)).wait_s

    async def passkey_wait_s(self, account_id: str) -> float:
        """The same for one more passkey of an account."""
        return (await self._limits.take_for(PASSKEYS, account_id)).wait_s

    async def passkey_use_wait_s(self, account_id: str) -> float:
        """The same for one more use of a passkey of an account, whose signature was good."""
        return (await self._limits.take_for(PASSKEY_USES, account_id)).wait_s

    async def generator_wait_s(self, account_id: str) -> float:
        """The same for one more secret of an authenticator app."""
        return (await self._limits.take_for(GENERATORS, account_id)).wait_s

    async def recovery_codes_wait_s(self, account_id: str) -> float:
        """The same for new recovery codes of an account."""
        return (await self._limits.take_for(RECOVERY_CODES, account_id)).wait_s

    async def link_wait_s(self, account_id: str) -> float:
        """The same for one more link of an account with a provider."""
        return (await self._limits.take_for(LINKS, account_id)).wait_s

    async def client_wait_s(self, client_id: str) -> float:
        """The same for one more token of a machine client, which was believed."""
        return (await self._limits.take_for(CLIENT_TOKENS, client_id)).wait_s
