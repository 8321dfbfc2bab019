"""What one build makes of a case: a program that reads cases, a line of JSON each, and answers.

    AUTHGATE_COMPILE=always python -m tests.compiled.answers <cases

Bytes are latin-1 text.  An exception that is none of a parser's own is an answer too: its name.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from gateway import compiled
from gateway.access.identity_headers import IdentityField
from gateway.access.routing.body_fields import BodyFields, engine_takes, field_at, reads_alike
from gateway.access.routing.paths import canonical, split_target
from gateway.access.routing.request_values import HeaderFields, QueryParameters
from gateway.edge.http1.chunked import ChunkReader
from gateway.edge.http1.grammar import Malformed
from gateway.edge.http1.request_head import RequestHead, RequestHeadReader
from gateway.edge.http1.request_parser import RequestParser
from gateway.edge.http1.response_head import Head, ResponseHeadReader, body_length
from gateway.identity.tokens.authenticator import RequestAuthenticator
from gateway.model import Reason
from tests.access.test_others import EXAMPLES, METHODS, WORLDS
from tests.access.worlds import decide, who
from tests.identity.keyring import Gate, HandClock, opened
from tests.identity.presented import BEARER, call_with
from tests.slots import slots_of

Case = dict[str, Any]
NAMES = ("a", "id", "user", "x-auth-user-id", "b[c]")


def pieces(case: Case) -> Iterator[bytes]:
    data = case["data"].encode("latin-1")
    edges = [0, *sorted(cut % (len(data) + 1) for cut in case.get("cuts", ())), len(data)]
    for start, end in itertools.pairwise(edges):
        yield data[start:end]


def told(value: object) -> object:
    if isinstance(value, RequestHead | Head):
        fields = {name: getattr(value, name, None) for name in slots_of(type(value))}
        fields.pop("reader", None)
        start = fields["start"]
        if not isinstance(start, bytes):
            fields["start"] = [getattr(start, name) for name in sorted(slots_of(type(start)))]
        return {name: repr(one) for name, one in sorted(fields.items())}
    return repr(value)


HEADS = RequestHeadReader()
ANSWERS = ResponseHeadReader()


def request(case: Case) -> object:
    """Twice: what is remembered of the first must not change the second."""
    out: list[object] = []
    for reader in (RequestHeadReader(), HEADS):
        parser = RequestParser(reader)
        for piece in pieces(case):
            out.append(told(parser.whole_head(piece)))
            parser.feed(piece)
            while (event := parser.next_event()) is not None:
                out.append(told(event))
                if isinstance(event, Reason):
                    break
        state = (parser.broken, parser.in_body, parser.unread, parser.head_bytes)
        out.append([*state, parser.body_bytes, parser.head_begun, parser.cost])
    return out


def response(case: Case) -> object:
    out: list[object] = []
    for reader in (ResponseHeadReader(), ANSWERS):
        head = reader.read(case["data"].encode("latin-1"))
        out += [told(head), body_length(head, is_head=False), body_length(head, is_head=True)]
    return out


def chunks(case: Case) -> object:
    reader, out, taken = ChunkReader(), list[bytes](), list[int]()
    for piece in pieces(case):
        taken.append(0 if reader.done else reader.feed(piece, out))
    return repr((b"".join(out), taken, reader.trailers, reader.done))


def target(case: Case) -> object:
    text = case["data"]
    split = split_target(text)
    out = [repr(split)]
    for files in (False, True):
        out.append(repr(canonical(text.partition("?")[0], files=files)))
    out.append(repr(QueryParameters(NAMES).read(text.partition("?")[2])))
    lines = [line.encode("latin-1") for line in text.split("&")]
    fields = [(name, value) for name, _, value in (line.partition(b"=") for line in lines)]
    out.append(repr(HeaderFields(("a", "x-auth-user-id")).read(fields)))
    return out


def body(case: Case) -> object:
    value = json.loads(case["data"])
    paths = ("a", "a.b", "meta.owner")
    found = [repr(field_at(value, path)) for path in paths]
    return [reads_alike(value, BodyFields(paths)), engine_takes([value], 50), *found]


def identity(case: Case) -> object:
    principal = who(case["data"] or "u", *case.get("roles", ()))
    fields = (
        IdentityField("X-Roles", lambda one: one.roles),
        IdentityField("X-Roles", lambda one: list(one.roles), separator="json"),
        IdentityField("X-User", lambda one: one.subject, separator=";"),
        IdentityField("X-Mail", lambda one: one.email),
    )
    return [field.text(principal) for field in fields]


def policy(case: Case) -> object:
    name, _, decision = case["data"].partition(": ")
    subject, verb, thing = decision.split()[:3]
    roles = EXAMPLES[name]["roles"].get(subject, [])
    decided = decide(WORLDS[name], f"{METHODS[verb]} /data/{thing}", who(subject, *roles))
    return [decided.allowed, repr(decided.reason)]


KINDS: dict[str, Callable[[Case], object]] = {
    "request": request,
    "response": response,
    "chunks": chunks,
    "target": target,
    "body": body,
    "identity": identity,
    "policy": policy,
}


class NothingRevoked:
    def refusal(self, principal: object) -> Reason | None:
        del principal
        return None


class Tokens:
    """`{good}` in a case is a token that is good; both builds sign with one key."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.good = gate.token()
        self.authenticator = RequestAuthenticator(
            gate.verifier,
            gate.ring,
            NothingRevoked(),
            gate.clock,
        )

    async def verdict(self, case: Case) -> object:
        header, claims, signature = self.good.split(".")
        text = case["data"].format(
            good=self.good, header=header, claims=claims, signature=signature
        )
        call = call_with(text)
        out = [self.authenticator.authenticate_now(call, BEARER)]
        out.append(await self.authenticator.authenticate(call, BEARER))
        out.append(self.authenticator.authenticate_now(call, BEARER))
        return [
            repr(one) if isinstance(one, Reason) or one is None else sorted_fields(one)
            for one in out
        ]


def sorted_fields(principal: object) -> object:
    """What a verified caller is, but for what is drawn at random for each token."""
    unlike = ("token_id", "session_id", "kid", "key_id")
    fields = {
        name: repr(getattr(principal, name))
        for name in slots_of(type(principal))
        if name not in unlike
    }
    return fields | {"claims": repr(list(getattr(principal, "claims", ())))}


async def main() -> None:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        clock = HandClock()
        database = await stack.enter_async_context(opened(Path(folder), clock))
        tokens = Tokens(await Gate(database, clock).start())
        sys.stdout.write(json.dumps(compiled.build()) + "\n")
        sys.stdout.flush()
        for line in sys.stdin:
            case = json.loads(line)
            try:
                if case["kind"] == "token":
                    answer = await tokens.verdict(case)
                else:
                    answer = KINDS[case["kind"]](case)
            except Malformed:
                answer = "malformed"
            except Exception as error:
                answer = f"raised {type(error).__name__}"
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
