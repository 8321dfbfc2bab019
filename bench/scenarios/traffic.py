"""Scenarios of plain requests: public, with a body, by policy, of other issuers."""

from __future__ import annotations

from pathlib import Path

from bench.load import Case, ask, check, usual_cases
from bench.peers import PEERS, Peer, Shape, shaped
from bench.rig import BASE_PORT, Rig
from bench.scenarios.loads import by_wrk
from bench.scenarios.model import Entry, Scenario

ORDER = "/api/orders/user-000001/whoami?lang=en"
ISSUERS = 10


def named(names: str, shape: Shape, first_port: int = 1) -> list[Peer]:
    return [
        shaped(name, BASE_PORT + first_port + number, shape)
        for number, name in enumerate(names.split())
    ]


# --- a public route -------------------------------------------------------------------------------


def carries(rig: Rig, peer: Peer) -> list[str]:
    """Nobody is asked who they are: all that can be seen is that the backend answers."""
    del rig
    status, told = ask(peer, "/public/users/1", None)
    return [] if status == 200 and "Grace Hopper" in told else [f"a stranger got {status}"]


def public(rig: Rig) -> list[Entry]:
    del rig
    peers = [peer for peer in PEERS if not peer.judges]
    peers.insert(0, shaped("gateway", BASE_PORT + 1, Shape()))
    load = by_wrk("public=1", path="/public/users/")
    return [Entry(peer, load, carries) for peer in peers]


PUBLIC = Scenario(
    "public",
    "A public route",
    "Nobody is asked for a token: `auth: public` here, and proxies that judge nothing. The "
    "gateway still refuses what is ambiguous, takes away the header fields that are its own, "
    "counts, and gives each request an id.",
    public,
    takes_s=45,
)


# --- a body of 4 KiB ------------------------------------------------------------------------------


def posted(rig: Rig) -> list[Entry]:
    del rig
    peers = named("gateway haproxy nginx-lua-cache envoy envoy-cache naive", Shape())
    return [Entry(peer, by_wrk("method=POST", "body=4096"), check) for peer in peers]


POST = Scenario(
    "post",
    "POST of 4 KiB",
    "As the main table, with a JSON body of 4,096 bytes on each request, which the backend reads.",
    posted,
    takes_s=50,
)


# --- a policy -------------------------------------------------------------------------------------


def refuses_strangers(rig: Rig, peer: Peer) -> list[str]:
    """An order is for its owner, who signed in today and reads English."""
    tokens = rig.signed(peer.shape.algorithm)
    other = ORDER.replace("user-000001", "user-000002")
    long = ORDER.replace("user-000001", "user-0000012")
    cases = [
        *usual_cases(rig, peer, ORDER),
        Case("somebody else's order", other, tokens.good, 403),
        Case("an order of who is named alike", long, tokens.good, 403),
        Case("an order in another language", ORDER.replace("lang=en", "lang=de"), tokens.good, 403),
        Case("who signed in long ago", ORDER, tokens.signed_in_long_ago, 403),
    ]
    return check(rig, peer, cases, ORDER)


def policy(rig: Rig) -> list[Entry]:
    del rig
    peers = named("gateway haproxy nginx-lua-cache envoy envoy-cache naive", Shape(ownership=True))
    load = by_wrk("owners=1")
    return [Entry(peer, load, refuses_strangers) for peer in peers]


POLICY = Scenario(
    "policy",
    "A policy with ownership and CEL",
    "`GET /api/orders/OWNER/ID?lang=en` is for the owner alone, who holds the role `user` and "
    "signed in within a day. The gateway judges by a CEL condition, Envoy by one of its rbac "
    "filter, HAProxy by ACLs, nginx by Lua.",
    policy,
    takes_s=50,
)


# --- other issuers --------------------------------------------------------------------------------


def foreign_tokens(rig: Rig, count: int) -> Path:
    """As many as the rig has, each issuer with its share."""
    signers = rig.issuers(count)
    kids = [signer.jwk["kid"] for signer in signers]
    users = len(rig.credentials.tokens.read_text().split())
    lines = []
    for number in range(users):
        signer, kid = signers[number % count], kids[number % count]
        lines.append(signer.sign(signer.claims(number), kid))
    path = rig.folder / "keys" / "foreign.tokens.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def knows_issuers(rig: Rig, peer: Peer) -> list[str]:
    """Its own tokens, those of each issuer, and none that another one signed in its name."""
    faults = check(rig, peer)
    signers = rig.issuers(peer.shape.issuers)
    for number, signer in enumerate(signers):
        token = signer.sign(signer.claims(7))
        if (status := ask(peer, "/api/whoami", token)[0]) != 200:
            faults.append(f"a token of issuer {number} got {status}")
    claims = signers[0].claims(7)
    forged = signers[1].sign(claims, signers[0].jwk["kid"])
    if (status := ask(peer, "/api/whoami", forged)[0]) != 401:
        faults.append(f"a token of issuer 0 that issuer 1 signed got {status}")
    return faults


def issuers(rig: Rig) -> list[Entry]:
    own, foreign = "our own tokens", f"tokens of {ISSUERS} issuers"
    peers = named("gateway haproxy nginx-lua-cache envoy envoy-cache", Shape(issuers=ISSUERS))
    loads = {own: by_wrk(), foreign: by_wrk(tokens=foreign_tokens(rig, ISSUERS))}
    return [
        Entry(peer, load, knows_issuers, variant)
        for variant, load in loads.items()
        for peer in peers
    ]


ISSUED = Scenario(
    "issuers",
    "Tokens of other issuers",
    "1,000 tokens of ten other issuers, which the gateway takes besides its own and of whose "
    "keys it has fetched each set; and 1,000 of its own with the same configuration. Envoy has "
    "eleven providers, HAProxy eleven keys, Lua a table of them.",
    issuers,
    takes_s=85,
)
