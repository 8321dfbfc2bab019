"""`X-Auth-Assertion` on its way to an upstream that asks for it, and to no other."""

from __future__ import annotations

from gateway.access.authorizer import Decision
from gateway.model import Principal, Reason
from tests.edge.rig import principal, running

FORGED = b"X-Auth-Assertion: forged\r\nx_auth_assertion: forged\r\n"


class AssertionSigner:
    ready = True

    def assertion(self, who: Principal, audience: str, method: str, path: str) -> str | None:
        return f"{who.subject}.{audience}.{method}.{path}" if self.ready else None


def request(target: bytes, method: bytes = b"GET") -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (method, target, FORGED)


async def test_an_upstream_that_asks_is_given_one_for_method_and_path() -> None:
    async with running(assertion_signer=AssertionSigner()) as rig:
        rig.spec(assertion_audience="orders")
        rig.gate.principal = principal()
        await rig.ask(request(b"/a/b?c=d"))
        await rig.ask(request(b"/a/b", b"DELETE"))
        found = [received.values("x-auth-assertion") for received in rig.upstream.requests]
        assert found == [[b"u-1.orders.GET./a/b"], [b"u-1.orders.DELETE./a/b"]]


async def test_the_path_is_the_one_that_the_upstream_sees() -> None:
    async with running(assertion_signer=AssertionSigner()) as rig:
        rig.spec(assertion_audience="orders")
        rig.gate.decision = Decision(
            True,
            Reason.SIGNED_IN,
            route=rig.gate.route,
            principal=principal(),
            target="/b?c=d",
        )
        await rig.ask(request(b"/a/b?c=d"))
        assert rig.upstream.requests[0].values("x-auth-assertion") == [b"u-1.orders.GET./b"]


async def test_an_upstream_that_does_not_ask_is_given_none() -> None:
    async with running(assertion_signer=AssertionSigner()) as rig:
        rig.gate.principal = principal()
        await rig.ask(request(b"/a"))
        assert not rig.upstream.requests[0].values("x-auth-assertion")


async def test_an_anonymous_call_has_none_whatever_the_client_sends() -> None:
    async with running(assertion_signer=AssertionSigner()) as rig:
        rig.spec(assertion_audience="orders")
        await rig.ask(request(b"/a"))
        assert b"forged" not in rig.upstream.requests[0].head


async def test_without_the_key_the_upstream_is_not_asked() -> None:
    assertion_signer = AssertionSigner()
    assertion_signer.ready = False
    async with running(assertion_signer=assertion_signer) as rig:
        rig.spec(assertion_audience="orders")
        rig.gate.principal = principal()
        answer = await rig.ask(request(b"/a"))
        assert answer.status == 503
        assert b"store_unavailable" in answer.body
        assert not rig.upstream.requests
