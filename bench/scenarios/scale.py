"""Scenarios of size: workers, routes, revocations."""

from __future__ import annotations

from dataclasses import replace

from bench import quota
from bench.load import Round, ask, check
from bench.peers import Peer, Shape, shaped
from bench.processes import Started
from bench.rig import BASE_PORT, Rig
from bench.scenarios.loads import by_wrk
from bench.scenarios.model import Entry, Flat, Load, Scenario

# --- two workers ----------------------------------------------------------------------------------

SHARE = 0.3
RUN_UP_S = 2.0
ROOM = 1.25
"""So many times its share a peer may use: a round does not begin with a period of the quota."""


def workers(rig: Rig) -> list[Entry]:
    del rig
    rows = []
    for count in (1, 2):
        shape = Shape(workers=count, quota=SHARE)
        for place, name in enumerate(("gateway", "haproxy", "nginx-lua-cache", "envoy-cache")):
            peer = _with_quota(shaped(name, BASE_PORT + 1 + 10 * count + place, shape))
            variant = f"{count} worker{'s' if count > 1 else ''}"
            rows.append(Entry(peer, within_quota(by_wrk()), check, variant))
    return rows


def within_quota(load: Load) -> Load:
    """A round of a peer that used more than its share says nothing.

    Whoever rested while others had their turn is asked for a moment before: what two workers of
    the gateway hold of each user's limit is given back within ten seconds.
    """

    def send(rig: Rig, peer: Peer, process: Started, seconds: float) -> Round:
        load(rig, peer, process, min(RUN_UP_S, seconds))
        done = load(rig, peer, process, seconds)
        cores, most = done.cores, peer.shape.quota * peer.shape.workers
        if cores > most * ROOM:
            raise RuntimeError(f"it used {cores:.2f} cores: the quota of {most:g} does not hold it")
        return done

    return send


def _with_quota(peer: Peer) -> Peer:
    return replace(peer, lacks=lambda rig: peer.lacks(rig) or quota.lacks())


WORKERS = Scenario(
    "workers",
    "Two workers beside one",
    "On two cores a second worker would take the time of the load. So each worker may use 30 % "
    "of a core (`cpu.max` of a control group, in periods of 100 ms): two of them, the load and "
    "the backend fit on two cores, and what is seen is whether the second one does as much as "
    "the first. Each round is behind two seconds that are not counted, and the first behind five. "
    "A peer that uses more than its share is told so and is in no table. The rates are those of "
    "30 % of a core, and p99 shows the pauses. Two workers of the gateway count each user's limit "
    "in Redis, whose time is theirs; HAProxy and Lua count in memory that their workers share, "
    "and Envoy does not count users.",
    workers,
    seconds=4.0,
    warm_s=5.0,
    flat=(Flat("2 workers", "1 worker", 1.7, 2.0),),
    takes_s=210,
)


# --- routes ---------------------------------------------------------------------------------------

ROUTES = (10, 100, 1_000, 10_000)


def knows_routes(rig: Rig, peer: Peer) -> list[str]:
    """The last route is one, and the one behind it is none."""
    count, good = peer.shape.routes, rig.credentials.good
    faults = check(rig, peer, path="/api/r0/whoami")
    for number, expected in ((count - 1, 200), (count, 404)):
        status, _ = ask(peer, f"/api/r{number}/users/1", good)
        # What no route of rbac covers is 403 at Envoy, what no route covers at all 404.
        if status != expected:
            faults.append(f"route {number} of {count} got {status}, not {expected}")
    return faults


def routes(rig: Rig, counts: tuple[int, ...] = ROUTES) -> list[Entry]:
    del rig
    rows, port = [], BASE_PORT + 1
    for count in counts:
        at_ends = count in (counts[0], counts[-1])
        names = (
            ("gateway", "haproxy", "nginx-lua-cache", "envoy-cache") if at_ends else ("gateway",)
        )
        for name in names:
            peer = shaped(name, port, Shape(routes=count))
            # As many paths whatever the routes: a memo of paths would be what is compared.
            load = by_wrk(f"routes={count}", f"paths={counts[-1]}")
            rows.append(Entry(peer, load, knows_routes, f"{count:,} routes"))
            port += 1
    return rows


ROUTED = Scenario(
    "routes",
    "10 to 10,000 routes",
    "The load of the main table over so many routes `/api/rN/…`, each asked for in turn. 10,000 "
    "paths are asked for, however many routes there are: more than the gateway remembers, so that "
    "each call is read and matched anew, and what is compared is routes and not remembered paths. "
    "HAProxy looks a prefix up in a map, nginx has a location for each, Envoy a list. `gateway` "
    "reads the routes of `routes.yaml`, each with its policy and its limit; the routes and "
    "policies of its own page are in [scale](policies/scale.md).",
    routes,
    flat=(Flat("10,000 routes", "10 routes"),),
    takes_s=110,
)


# --- revocations ----------------------------------------------------------------------------------

REVOKED = (0, 1_000, 1_000_000)


def knows_revoked(rig: Rig, peer: Peer) -> list[str]:
    count = peer.shape.revoked
    faults = check(rig, peer)
    for number in {0, count // 2, count - 1} if count else ():
        signer = rig.credentials.signer
        token = signer.sign(signer.claims(9, token_id=f"bench-revoked-{number:08d}"))
        if (status := ask(peer, "/api/whoami", token)[0]) != 401:
            faults.append(f"the revoked token {number} of {count} got {status}, not 401")
    return faults


def revocations(rig: Rig, counts: tuple[int, ...] = REVOKED) -> list[Entry]:
    del rig
    rows, port = [], BASE_PORT + 1
    for count in counts:
        at_ends = count in (counts[0], counts[-1])
        names = ("gateway", "haproxy", "nginx-lua-cache") if at_ends else ("gateway",)
        for name in names:
            peer = shaped(name, port, Shape(revoked=count))
            variant = f"{count:,} revocations"
            rows.append(Entry(peer, by_wrk(), knows_revoked, variant))
            port += 1
    return rows


REVOCATIONS = Scenario(
    "revocations",
    "0 to 1,000,000 revocations",
    "So many tokens were revoked before, none of which is asked with. The gateway has read them "
    "from its database, HAProxy and Lua from a file at their start; Envoy has no such list, and "
    "Redis would do for the naive gateway whatever their number.",
    revocations,
    flat=(Flat("1,000,000 revocations", "0 revocations"),),
    takes_s=120,
)
