"""The key of a call: the text under which a limit counts it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from gateway.access.attributes import tenant_of
from gateway.access.conditions.conditions import Condition
from gateway.access.conditions.context import NO_RESOURCE, EvaluationContext, RequestedResource
from gateway.access.conditions.counted_reads import CountedRead, counted_reads
from gateway.access.counted_endings import (
    counted_inner_text,
    counted_last_text,
    counted_whole_path,
)
from gateway.access.counted_values import LONGEST_IN_ALL, counted_text, counted_value
from gateway.access.definitions import Limit, LimitKey
from gateway.access.evaluation import UNIDENTIFIED
from gateway.access.roles import RoleBook
from gateway.access.routing.request_values import HeaderFields, QueryParameters
from gateway.client_networks import holder
from gateway.model import Call, Clock, Principal

Key = Callable[[Call, Principal | None, RequestedResource], str]

LONGEST = 128
"""A key that an expression gives and that is longer counts under its hash."""
WRITTEN_MAX = 50_000
"""Values that callers may make up as the key of one limit, within the time in which its bucket
fills, in one worker."""
CALLER_MAX = 10_000
"""New ones of what may be asked for (paths, parameters, resources) by one caller, likewise."""
_REMEMBERED = 100_000
HOLDERS_MAX = 8_192
"""IPv6 addresses whose holders are remembered."""


def by_user(call: Call, principal: Principal | None, requested: RequestedResource) -> str:
    """The subject; the address where nobody is signed in."""
    return principal.subject if principal is not None else _anonymous(_address(call.client_ip))


class WrittenKeys:
    """What callers wrote as the key of one limit.

    Each is a bucket, which Redis holds until it is full again: without a bound anybody could fill
    Redis with them.
    """

    __slots__ = ("_asked", "_by_caller", "_fill_s", "_hashes", "_most", "_until")

    def __init__(self, fill_s: float, most: int) -> None:
        self._fill_s = max(fill_s, 1.0)
        self._most = most
        self._hashes: set[int] = set()
        self._asked: set[int] = set()
        """What was asked for lately; forgotten, one counts as new again."""
        self._by_caller: dict[str, int] = {}
        self._until = 0.0

    def _turn(self, now: float) -> None:
        if now >= self._until:
            self._hashes.clear()
            self._asked.clear()
            self._by_caller.clear()
            self._until = now + self._fill_s

    def take_asked(self, text: str, subject: str, now: float) -> bool:
        """As `take`, of what a caller who is known may ask for: there may be any number of those,
        and each caller brings so many new ones."""
        self._turn(now)
        known = hash(text)
        if known in self._asked:
            return True
        count = self._by_caller.get(subject, 0)
        if count >= CALLER_MAX:
            return False
        if len(self._asked) >= _REMEMBERED:
            self._asked.clear()
        if len(self._by_caller) >= _REMEMBERED:
            self._by_caller.clear()
        self._asked.add(known)
        self._by_caller[subject] = count + 1
        return True

    def take(self, text: str, now: float) -> bool:
        """Whether it may have a bucket of its own; `now` is a steady clock's."""
        self._turn(now)
        known = hash(text)
        if known not in self._hashes:
            if len(self._hashes) >= self._most:
                return False
            self._hashes.add(known)
        return True


class LimitKeys:
    """Builds the key function of each limit of one limiter.

    It remembers the holders of recent IPv6 addresses, since most calls come again.
    """

    def __init__(self, clock: Clock, written_max: int = WRITTEN_MAX) -> None:
        self._clock = clock
        self._written_max = written_max
        self._written: dict[Limit, WrittenKeys] = {}
        self._holders: dict[str, str] = {}
        self._keys: dict[LimitKey, Key] = {
            LimitKey.USER: self._by_user,
            LimitKey.ADDRESS: self._by_address,
            LimitKey.CLIENT: self._by_client,
            LimitKey.ROLE: self._by_roles,
            LimitKey.TENANT: self._by_tenant,
        }

    def of(self, limit: Limit) -> Key:
        if limit.expression is not None:
            return self._by_expression(limit, limit.expression)
        return self._keys.get(limit.key, self._all_together)

    def forget(self) -> None:
        """For a reload: the functions that were built before are used no more."""
        self._written.clear()

    def _by_user(
        self, call: Call, principal: Principal | None, requested: RequestedResource
    ) -> str:
        return principal.subject if principal is not None else self._by_caller(call)

    def _by_address(
        self, call: Call, principal: Principal | None, requested: RequestedResource
    ) -> str:
        client_ip = call.client_ip
        if ":" not in client_ip:
            return client_ip
        known = self._holders.get(client_ip)
        if known is None:
            if len(self._holders) >= HOLDERS_MAX:
                self._holders.clear()
            known = self._holders[client_ip] = holder(client_ip)
        return known

    def _by_client(
        self, call: Call, principal: Principal | None, requested: RequestedResource
    ) -> str:
        if principal is None or principal.client_id is None:
            return self._by_caller(call)
        return principal.client_id

    def _by_roles(
        self, call: Call, principal: Principal | None, requested: RequestedResource
    ) -> str:
        if principal is None:
            return self._by_caller(call)
        # All that the account has: a key may be made for each set of them.
        roles = principal.roles if principal.held_roles is None else principal.held_roles
        return ",".join(sorted(set(roles)))

    def _by_tenant(
        self, call: Call, principal: Principal | None, requested: RequestedResource
    ) -> str:
        tenant = None if principal is None else tenant_of(principal)
        # Marked by a space, so that no tenant counts with a subject of its name.
        return self._by_user(call, principal, requested) if tenant is None else f"tenant {tenant}"

    def _by_expression(self, limit: Limit, expression: Condition) -> Key:
        """What the expression gives; where it gives nothing to count by, the address.

        So it is for a caller whom nobody knows, and the caller, where too many values were
        written: a header, and all that a call without a principal says, may be made up; of
        anything else a caller may ask for much, such as paths.

        All spellings of what a caller writes are one, where it is what is given or a part of it,
        and so are all addresses of one holder.
        """
        written = self._written.get(limit)
        if written is None:
            written = WrittenKeys(limit.burst / limit.per_s, self._written_max)
            self._written[limit] = written
        by_header = bool(expression.reads.headers)
        roles = RoleBook()
        query = QueryParameters(expression.reads.query)
        headers = HeaderFields(expression.reads.headers)
        given, counted = counted_reads(expression)

        def key(call: Call, principal: Principal | None, requested: RequestedResource) -> str:
            if requested is UNIDENTIFIED:
                return self._by_caller(call)
            # A key that is limited to some roles of its account counts as the account does.
            caller = principal if principal is None else principal.with_held_roles()
            context = EvaluationContext(
                call, caller, roles, self._clock.now, requested.params, requested.resource
            )
            if query.names:
                context.query = query.read(call.query) or {}
            if headers.names:
                context.headers = headers.read(call.headers) or {}
            variables = self._counted_variables(counted, context, requested) if counted else {}
            text = _text_of(given.value(context, variables))
            if not text:
                return self._by_caller(call)
            if len(text) > LONGEST:
                text = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
            now = self._clock.steady()
            if by_header or principal is None:
                has_bucket = written.take(text, now)
            else:
                has_bucket = written.take_asked(text, principal.subject, now)
            return "is " + text if has_bucket else self._by_user(call, principal, requested)

        return key

    def _counted_variables(
        self,
        reads: tuple[CountedRead, ...],
        context: EvaluationContext,
        requested: RequestedResource,
    ) -> dict[str, Any]:
        """What is read of the call, as it is counted.  What is not there, or cannot be told, has no
        variable, so that nothing is given by it."""
        counted: dict[str, Any] = {}
        left = LONGEST_IN_ALL
        for read in reads:
            name = read.name
            value: Any
            if read.kind == "path":
                call = context.call
                value = counted_whole_path("/" + "/".join(call.segments), call.path)
            elif read.kind == "client":
                value = self._by_address(context.call, None, NO_RESOURCE)
            elif read.kind == "resource" and name in requested.joined:
                value = requested.joined[name]()
            else:
                values: Mapping[str, Any] = getattr(context, read.kind)
                if name not in values:
                    continue
                value = values[name]
                if isinstance(value, str):
                    left -= 0 if value.isascii() else len(value)
                    if left < 0:
                        value = None
                    elif read.kind == "params" and name == requested.last_param:
                        value = counted_last_text(value, context.call.path)
                    elif read.kind == "params":
                        value = counted_inner_text(value)
                    else:
                        value = counted_text(value)
                elif read.is_text:
                    value = counted_value(value)
            if value is not None:
                counted[read.variable] = value
        return counted

    def _all_together(
        self, call: Call, principal: Principal | None, requested: RequestedResource
    ) -> str:
        """One for all of a route, or of all routes; whoever is not known has none of theirs."""
        return self._by_caller(call) if requested is UNIDENTIFIED else ""

    def _by_caller(self, call: Call) -> str:
        return _anonymous(self._by_address(call, None, NO_RESOURCE))


def _address(client_ip: str) -> str:
    return holder(client_ip) if ":" in client_ip else client_ip


def _anonymous(address: str) -> str:
    """The address, marked by a space: no subject, client or role can hold one."""
    return "address " + address


def _text_of(value: object) -> str:
    """What is counted of it; empty for nothing.

    To many backends a body's `7.0` is 7, and `[7]` may be: they count by what they are, and not by
    the address of whoever writes them so.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, float | list | Mapping):
        return json.dumps(value, sort_keys=True, default=str)
    return str(value) if isinstance(value, str | int) else ""
