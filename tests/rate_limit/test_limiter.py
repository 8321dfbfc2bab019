from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.conditions.conditions import Condition, ConditionCompiler
from gateway.access.conditions.context import RequestedResource
from gateway.access.definitions import Limit, LimitKey, Scope
from gateway.access.evaluation import UNIDENTIFIED
from gateway.model import Call, Principal
from gateway.rate_limit.keys import CALLER_MAX
from gateway.rate_limit.limiter import LocalCounts, RateLimiter
from tests.databases import Hands


def call(client_ip: str = "192.0.2.1") -> Call:
    return Call(
        "GET", "api.example.com", "/", ("",), "", headers=(), client_ip=client_ip, scheme="https"
    )


def caller(subject: str, *roles: str, client_id: str | None = None) -> Principal:
    return Principal(subject, roles, None, "jti", client_id, kid="kid", issued_at=1, expires_at=2)


def limit(
    key: LimitKey = LimitKey.USER, *, name: str = "calls", per_s: float = 1.0, burst: int = 2
) -> Limit:
    return Limit(name, key, per_s, burst, Scope.LOCAL)


async def passes(
    limits: RateLimiter, asked: Sequence[Limit], who: Call, principal: Principal | None = None
) -> bool:
    return (await limits.take(asked, who, principal)).wait_s == 0.0


class ExactBucket:
    """The same promise in fractions: `burst` tokens, of which `per_s` come back a second."""

    def __init__(self, per_s: Fraction, burst: int, at: Fraction) -> None:
        self.per_s, self.burst, self.tokens, self.at = per_s, burst, Fraction(burst), at

    def take(self, at: Fraction) -> Fraction:
        """Seconds to wait; 0 when a token was there and is gone."""
        self.tokens = min(self.tokens + (at - self.at) * self.per_s, Fraction(self.burst))
        self.at = at
        if self.tokens >= 1:
            self.tokens -= 1
            return Fraction(0)
        return (1 - self.tokens) / self.per_s


# Powers of two and steps of 1/1024 s are exact in binary: the model and the code can be
# compared to the last call, with no tolerance that a defect could hide in.
rates = st.integers(-4, 10).map(lambda exponent: 2.0**exponent)
steps = st.lists(st.integers(0, 4096), min_size=1, max_size=80)


@given(per_s=rates, burst=st.integers(1, 40), gaps=steps)
def test_every_call_is_judged_as_an_exact_token_bucket_would(
    per_s: float, burst: int, gaps: list[int]
) -> None:
    now = 1000.0
    counts = LocalCounts(limit(per_s=per_s, burst=burst))
    exact = ExactBucket(Fraction(per_s), burst, Fraction(now))
    for gap in gaps:
        now += gap / 1024
        left = counts.take("ada", now)
        wait = exact.take(Fraction(now))
        if wait:
            assert left < 0
            assert abs(-left - float(wait)) < 1e-6
        else:
            assert left == int(exact.tokens)


@given(per_s=st.floats(0.01, 10_000), burst=st.integers(1, 200), gaps=steps)
def test_no_rate_lets_more_pass_than_its_burst_and_what_came_back(
    per_s: float, burst: int, gaps: list[int]
) -> None:
    now = start = 5_000_000.0
    counts = LocalCounts(limit(per_s=per_s, burst=burst))
    passed = 0
    for gap in gaps:
        now += gap / 1024
        passed += counts.take("ada", now) >= 0
    assert passed <= burst + (now - start) * per_s + 1e-3


@given(per_s=rates, burst=st.integers(1, 20))
def test_who_waits_as_long_as_told_passes(per_s: float, burst: int) -> None:
    now = 1000.0
    counts = LocalCounts(limit(per_s=per_s, burst=burst))
    while (left := counts.take("ada", now)) >= 0:
        pass
    assert counts.take("ada", now - left + 1e-6) >= 0


async def test_one_refusing_limit_charges_none_of_the_others() -> None:
    limits = RateLimiter(Hands())
    wide = limit(name="wide", burst=5)
    narrow = limit(name="narrow", burst=1)
    both = (wide, narrow)
    ada = caller("ada")
    assert await passes(limits, both, call(), ada)
    for _ in range(10):
        assert not await passes(limits, both, call(), ada)
    alone = (wide,)
    assert [await passes(limits, alone, call(), ada) for _ in range(5)] == [True] * 4 + [False]


async def test_the_wait_is_that_of_the_slowest_limit() -> None:
    limits = RateLimiter(Hands())
    both = (limit(name="a", per_s=1, burst=1), limit(name="b", per_s=0.1, burst=1))
    await limits.take(both, call(), caller("ada"))
    assert abs((await limits.take(both, call(), caller("ada"))).wait_s - 10) < 1e-6


async def test_users_do_not_use_up_each_others_calls() -> None:
    limits = RateLimiter(Hands())
    asked = (limit(burst=1),)
    assert await passes(limits, asked, call(), caller("ada"))
    assert not await passes(limits, asked, call(), caller("ada"))
    assert await passes(limits, asked, call(), caller("bob"))


async def test_a_user_limit_counts_a_caller_without_user_by_address() -> None:
    limits = RateLimiter(Hands())
    asked = (limit(burst=1),)
    assert await passes(limits, asked, call("192.0.2.1"))
    assert not await passes(limits, asked, call("192.0.2.1"))
    assert await passes(limits, asked, call("192.0.2.2"))


async def test_a_subject_that_looks_like_an_address_does_not_share_its_bucket() -> None:
    limits = RateLimiter(Hands())
    asked = (limit(burst=1),)
    assert await passes(limits, asked, call("192.0.2.1"), caller("192.0.2.1"))
    assert await passes(limits, asked, call("192.0.2.1"))


async def test_all_addresses_of_an_ipv6_64_are_one() -> None:
    limits = RateLimiter(Hands())
    asked = (limit(LimitKey.ADDRESS, burst=1),)
    assert await passes(limits, asked, call("2001:db8:0:1::1"))
    assert not await passes(limits, asked, call("2001:DB8::1:ffff:ffff:ffff:ffff"))
    assert await passes(limits, asked, call("2001:db8:0:2::1"))


async def test_an_ipv4_address_in_ipv6_clothes_is_the_ipv4_address() -> None:
    limits = RateLimiter(Hands())
    asked = (limit(LimitKey.ADDRESS, burst=1),)
    assert await passes(limits, asked, call("192.0.2.1"))
    assert not await passes(limits, asked, call("::ffff:192.0.2.1"))
    assert await passes(limits, asked, call("::ffff:192.0.2.2"))


async def test_a_role_limit_counts_together_who_has_the_same_roles() -> None:
    limits = RateLimiter(Hands())
    asked = (limit(LimitKey.ROLE, burst=1),)
    assert await passes(limits, asked, call(), caller("ada", "user", "editor"))
    assert not await passes(limits, asked, call(), caller("bob", "editor", "user"))
    assert await passes(limits, asked, call(), caller("eve", "user"))


@pytest.mark.parametrize("by", ["role", "expression"])
async def test_a_key_for_each_set_of_roles_is_no_more_than_its_account(by: str) -> None:
    limits = RateLimiter(Hands())
    by_role = limit(LimitKey.ROLE, burst=1)
    asked = (by_role if by == "role" else by_expression("user.roles"),)
    held = ("user", "editor")
    assert await passes(limits, asked, call(), caller("ada", *held))
    for roles in ((), ("user",), ("editor",)):
        key = replace(caller("ada", *roles), held_roles=held)
        assert not await passes(limits, asked, call(), key)


async def test_a_client_limit_counts_by_client_and_else_by_address() -> None:
    limits = RateLimiter(Hands())
    asked = (limit(LimitKey.CLIENT, burst=1),)
    assert await passes(limits, asked, call(), caller("ada", client_id="cron"))
    assert not await passes(limits, asked, call(), caller("bob", client_id="cron"))
    assert await passes(limits, asked, call(), caller("ada"))
    assert not await passes(limits, asked, call(), caller("bob"))


async def test_a_route_limit_counts_each_route_for_itself() -> None:
    limits = RateLimiter(Hands())
    first = (Limit("calls", LimitKey.ROUTE, 1, 1, Scope.LOCAL, route_id="orders.read"),)
    second = (Limit("calls", LimitKey.ROUTE, 1, 1, Scope.LOCAL, route_id="orders.write"),)
    assert await passes(limits, first, call(), caller("ada"))
    assert not await passes(limits, first, call(), caller("bob"))
    assert await passes(limits, second, call(), caller("bob"))


async def test_a_limit_that_several_routes_name_is_one_bucket_for_a_user() -> None:
    limits = RateLimiter(Hands())
    assert await passes(limits, (limit(burst=1),), call(), caller("ada"))
    assert not await passes(limits, (limit(burst=1),), call(), caller("ada"))


async def test_a_reload_that_leaves_a_limit_as_it_was_keeps_its_counters() -> None:
    limits = RateLimiter(Hands())
    await limits.take((limit(burst=1),), call(), caller("ada"))
    limits.adopt([limit(burst=1)])
    assert not await passes(limits, (limit(burst=1),), call(), caller("ada"))


async def test_a_reload_that_changes_a_limit_begins_anew() -> None:
    limits = RateLimiter(Hands())
    await limits.take((limit(burst=1),), call(), caller("ada"))
    limits.adopt([limit(burst=3)])
    assert await passes(limits, (limit(burst=3),), call(), caller("ada"))


async def test_a_stranger_with_many_addresses_fills_only_so_much_memory() -> None:
    counts = LocalCounts(limit(LimitKey.ADDRESS, per_s=0.001), capacity=1000)
    for number in range(20_000):
        counts.take(str(number), 1000.0)
    assert len(counts) <= 1000


async def test_a_busy_key_stays_counted_while_strangers_come_and_go() -> None:
    counts = LocalCounts(limit(LimitKey.ADDRESS, per_s=0.001, burst=1), capacity=1000)
    counts.take("busy", 1000.0)
    for number in range(20_000):
        counts.take(str(number), 1000.0)
        if number % 100 == 0:
            assert counts.take("busy", 1000.0) < 0


async def test_what_nobody_used_for_its_whole_window_is_forgotten() -> None:
    counts = LocalCounts(limit(per_s=1, burst=10))
    for number in range(100):
        counts.take(str(number), 1000.0)
    for later, newcomer in ((1011.0, "ada"), (1022.0, "bob")):
        counts.take(newcomer, later)
    assert len(counts) == 2


async def test_the_policy_field_says_the_burst_and_the_time_in_which_it_fills() -> None:
    limits = RateLimiter(Hands())
    asked = (limit(name="per-user", per_s=10, burst=100),)
    state = await limits.take(asked, call(), caller("ada"))
    assert state.policy == '"per-user";q=100;w=10'


async def test_the_limit_field_says_what_is_left_and_when_it_has_come_back() -> None:
    limits = RateLimiter(Hands())
    asked = (limit(name="per-user", per_s=10, burst=100),)
    state = await limits.take(asked, call(), caller("ada"))
    assert state.standing() == '"per-user";r=99;t=10'


async def test_both_fields_list_every_limit() -> None:
    limits = RateLimiter(Hands())
    both = (limit(name="a", burst=3), limit(name="b", burst=1))
    state = await limits.take(both, call(), caller("ada"))
    assert state.policy == '"a";q=3;w=3, "b";q=1;w=1'
    assert state.standing() == '"a";r=2;t=2, "b";r=0;t=1'


async def test_retry_after_never_comes_before_the_end_of_the_window_of_what_is_used_up() -> None:
    limits = RateLimiter(Hands())
    asked = (limit(name="slow", per_s=0.4, burst=1),)
    await limits.take(asked, call(), caller("ada"))
    state = await limits.take(asked, call(), caller("ada"))
    assert state.standing() == '"slow";r=0;t=3'
    assert state.retry_after_s == 3


def by_expression(source: str) -> Limit:
    condition = ConditionCompiler().compile(source, truth=False)
    assert isinstance(condition, Condition)
    return Limit("calls", LimitKey.EXPRESSION, 1, 1, Scope.LOCAL, expression=condition)


def from_tenant(name: bytes) -> Call:
    asking = call()
    asking.headers = ((b"X-Tenant", name),)
    return asking


async def test_an_expression_says_whose_calls_are_counted_together() -> None:
    limits = RateLimiter(Hands())
    asked = (by_expression("request.headers['x-tenant']"),)
    assert await passes(limits, asked, from_tenant(b"acme"), caller("ada"))
    assert not await passes(limits, asked, from_tenant(b"acme"), caller("bob"))
    assert await passes(limits, asked, from_tenant(b"umbrella"), caller("bob"))


async def test_an_expression_reads_the_parameters_of_the_path() -> None:
    limits = RateLimiter(Hands())
    asked = (by_expression("request.params.shop"),)
    states = [
        await limits.take(asked, call(), None, RequestedResource({"shop": shop}, {}))
        for shop in "aab"
    ]
    assert [state.wait_s == 0.0 for state in states] == [True, False, True]


async def test_an_expression_reads_the_resource() -> None:
    limits = RateLimiter(Hands())
    asked = (by_expression("resource.tenant"),)
    states = [
        await limits.take(asked, call(), None, RequestedResource({}, {"tenant": t})) for t in "aab"
    ]
    assert [state.wait_s == 0.0 for state in states] == [True, False, True]


@pytest.mark.parametrize("value", [7, "7", 7.0, 7.5, [7], {"eq": 7}])
async def test_what_the_resource_says_is_counted_from_wherever_it_is_asked(value: object) -> None:
    limits = RateLimiter(Hands())
    asked = (by_expression("resource.account"),)
    waits_s = []
    for number, account in enumerate((value, value, 8)):
        requested = RequestedResource({}, {"account": account})
        state = await limits.take(asked, call(f"192.0.2.{number}"), None, requested)
        waits_s.append(state.wait_s)
    assert [wait_s == 0.0 for wait_s in waits_s] == [True, False, True]


async def test_a_number_is_the_same_with_a_point_in_it() -> None:
    limits = RateLimiter(Hands())
    asked = (by_expression("resource.account"),)
    for value, wait_s in ((7, 0.0), (7.0, 1.0), ("7", 1.0)):
        state = await limits.take(asked, call(), None, RequestedResource({}, {"account": value}))
        assert (state.wait_s > 0.0) is (wait_s > 0.0)


def about(**resource: object) -> RequestedResource:
    return RequestedResource({}, resource)


@pytest.mark.parametrize(
    "key",
    [
        "resource.email",
        "'login ' + resource.email",
        "'login:' + string(resource.email)",
        "has(resource.email) ? resource.email : client.ip",
        "resource.email == null ? client.ip : 'mail ' + resource.email",
        "resource.email != '' ? resource.email : client.ip",
        "resource.email.endsWith('example.org') ? 'ours' : resource.email",
        "resource['email'] != '' ? ('mail ' + (resource['email'])) : client.ip",
    ],
)
async def test_all_spellings_of_what_a_caller_writes_are_one(key: str) -> None:
    limits, asked = RateLimiter(Hands()), (by_expression(key),)
    passed = [
        (await limits.take(asked, call(), None, about(email=email))).wait_s == 0.0
        for email in ("Victim@example.com", "victim@example.com", " victim@EXAMPLE.com", "b@c.de")
    ]
    assert passed == [True, False, False, True]


@pytest.mark.parametrize(
    "key", ["'a-' + resource.account", "string(resource.account)", "user.id + resource.account"]
)
async def test_a_number_within_a_key_is_counted_by_its_value(key: str) -> None:
    limits, asked = RateLimiter(Hands()), (by_expression(key),)
    passed = [
        (await limits.take(asked, call(), caller("u1"), about(account=account))).wait_s == 0.0
        for account in ("7", "07", 7, 7.0, [7], "8")
    ]
    assert passed == [True, False, False, False, False, True]


async def test_who_calls_is_counted_as_they_are() -> None:
    limits = RateLimiter(Hands())
    for key in ("user.id", "user.id + ' ' + resource.email"):
        asked = (by_expression(key),)
        for subject in ("company:Ann", "company:ann", "company:07", "company:7"):
            state = await limits.take(asked, call(), caller(subject), about(email="A"))
            assert state.wait_s == 0.0
        state = await limits.take(asked, call(), caller("company:Ann"), about(email="a"))
        assert state.wait_s > 0.0


async def test_what_a_key_compares_is_what_was_written() -> None:
    """Names of the configuration have capitals, too."""
    limits = RateLimiter(Hands())
    asked = (by_expression("request.params.plan == 'Gold' ? 'Gold' : client.ip"),)
    for number, (plan, passes_by) in enumerate((("Gold", True), ("Gold", False), ("gold", True))):
        requested = RequestedResource({"plan": plan}, {})
        state = await limits.take(asked, call(f"192.0.2.{number}"), None, requested)
        assert (state.wait_s == 0.0) is passes_by


async def test_a_path_is_counted_in_one_spelling() -> None:
    limits, asked = RateLimiter(Hands()), (by_expression("request.path"),)
    passed = []
    for segments in (("unlock", "victim"), ("unlock", "Victim"), ("unlock", "victim "), ("a", "b")):
        asking = call()
        asking.segments = segments
        passed.append(await passes(limits, asked, asking))
    assert passed == [True, False, False, True]


async def test_a_header_is_counted_in_one_spelling() -> None:
    limits, asked = RateLimiter(Hands()), (by_expression("request.headers['x-tenant']"),)
    assert await passes(limits, asked, from_tenant(b"Acme"), caller("ada"))
    assert not await passes(limits, asked, from_tenant(b"ACME"), caller("bob"))
    assert not await passes(limits, asked, from_tenant(b"acme "), caller("bob"))


async def test_a_caller_without_what_the_expression_reads_counts_by_address() -> None:
    limits = RateLimiter(Hands())
    asked = (by_expression("request.headers['x-tenant']"),)
    assert await passes(limits, asked, call("192.0.2.1"))
    assert not await passes(limits, asked, call("192.0.2.1"))
    assert await passes(limits, asked, call("192.0.2.2"))


async def test_a_tenant_with_an_endless_name_costs_no_more_memory_than_another() -> None:
    limits = RateLimiter(Hands())
    asked = (by_expression("request.headers['x-tenant']"),)
    assert await passes(limits, asked, from_tenant(b"t" * 9_000))
    assert not await passes(limits, asked, from_tenant(b"t" * 9_000))
    assert await passes(limits, asked, from_tenant(b"t" * 9_001))


async def test_who_guesses_tokens_gets_no_new_bucket_by_another_header() -> None:
    limits = RateLimiter(Hands())
    asked = (by_expression("request.headers['x-tenant']"),)
    states = [
        await limits.take(asked, from_tenant(name), None, UNIDENTIFIED) for name in (b"a", b"b")
    ]
    assert [state.wait_s == 0.0 for state in states] == [True, False]
    # Nor does it spend what others may.
    assert await passes(limits, asked, from_tenant(b"a"), caller("ada"))


@pytest.mark.parametrize("key", [LimitKey.ROUTE, LimitKey.GLOBAL])
async def test_who_guesses_tokens_spends_nothing_of_what_all_share(key: LimitKey) -> None:
    limits = RateLimiter(Hands())
    asked = (limit(key=key, burst=1),)
    states = [await limits.take(asked, call(), None, UNIDENTIFIED) for _ in range(2)]
    assert [state.wait_s == 0.0 for state in states] == [True, False]
    assert await passes(limits, asked, call(), caller("ada"))


async def test_what_callers_write_as_keys_is_bounded() -> None:
    hands = Hands()
    limits = RateLimiter(hands, capacity=8)
    asked = (by_expression("request.headers['x-tenant']"),)

    async def made_up(*names: int) -> list[bool]:
        return [await passes(limits, asked, from_tenant(b"%d" % name)) for name in names]

    assert await made_up(1, 2, 3, 4) == [True] * 4
    # From here on new ones count by the address, or the caller, and not as many times as there are.
    assert await made_up(5, 6, 7) == [True, False, False]
    assert await passes(limits, asked, from_tenant(b"8"), caller("ada"))
    assert not await passes(limits, asked, from_tenant(b"9"), caller("ada"))
    # A known one goes on, and so do new ones once the buckets are full again.
    hands.move(1)
    assert await made_up(4, 5, 6, 7, 8) == [True] * 5


async def test_what_is_asked_for_by_who_may_see_it_is_bounded_for_each_caller() -> None:
    hands = Hands()
    limits = RateLimiter(hands)
    asked = (by_expression("resource.tenant"),)

    async def passed(subject: str, names: range) -> int:
        count = 0
        for number in names:
            about = RequestedResource({}, {"tenant": f"t{number}"})
            state = await limits.take(asked, call(), caller(subject), about)
            count += state.wait_s == 0.0
        return count

    # Whoever may see many tenants makes a bucket of each; who goes on and on counts alone.
    most = CALLER_MAX
    assert await passed("ada", range(most)) == most
    assert await passed("ada", range(most, most + 20)) == 1
    # Nobody else is concerned, nor what others have asked for.
    assert await passed("bob", range(most, most + 20)) == 20
    hands.move(0.5)
    assert await passed("ada", range(most + 20, most + 40)) == 0
    hands.move(1)
    assert await passed("ada", range(most + 40, most + 60)) == 20


async def test_a_caller_who_asks_for_many_paths_fills_no_store() -> None:
    limits = RateLimiter(Hands())
    asked = (by_expression("user.id + ' ' + request.path"),)

    async def passes_at(number: int) -> bool:
        asking = call()
        asking.path, asking.segments = f"/made-up/{number}", ("made-up", f"{number}")
        return await passes(limits, asked, asking, caller("ada"))

    assert all([await passes_at(number) for number in range(CALLER_MAX)])
    assert [await passes_at(CALLER_MAX + number) for number in range(3)] == [True, False, False]


async def test_the_calls_of_a_tenant_count_together() -> None:
    limits, by_tenant = RateLimiter(Hands()), [limit(LimitKey.TENANT)]
    first, second, other, none = (caller(name) for name in ("u1", "u2", "u3", "acme"))
    for principal, tenant in ((first, "acme"), (second, "acme"), (other, "globex")):
        principal.claims = {"tenants": {tenant: "owner"}, "tenant": tenant}
    assert await passes(limits, by_tenant, call(), first)
    assert await passes(limits, by_tenant, call(), second)
    assert not await passes(limits, by_tenant, call(), first)
    assert await passes(limits, by_tenant, call(), other)
    # Who has none counts alone, also under the name of a tenant; whoever is nobody, by address.
    assert await passes(limits, by_tenant, call(), none)
    assert await passes(limits, by_tenant, call())
