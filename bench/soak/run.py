"""One run: the town, the crowd, the probes, the events, and what is looked for when it is over."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.soak.answers import Answer
from bench.soak.crowd import PASSWORD, Caller, Crowd
from bench.soak.events import Stage
from bench.soak.figures import Figures
from bench.soak.oracle import Expected, Identity, Oracle, Subject, Verdict, allowed, refused
from bench.soak.people import OVER, Person, Session, State
from bench.soak.probes import Prober, Probes
from bench.soak.samples import Samples
from bench.soak.schedule import BESIDE, Planned, schedule
from bench.soak.stalls import Stalls
from bench.soak.town import Town
from bench.soak.traffic.browsers import Browser
from bench.soak.traffic.careful import Careful, Hurried
from bench.soak.traffic.lasting import Socket, Stream
from bench.soak.traffic.machines import Account, Machine
from bench.soak.traffic.newcomers import Newcomer, Passerby
from bench.soak.traffic.programs import Program
from bench.soak.traffic.strangers import Ghost, Partner, Stranger

MOST_EXTRA_S = 60.0
"""How much longer than planned the events of a run may take on a busy machine; the rest is left
out, and told."""
Watching = Callable[[float, str, Oracle], None]
"""Told each second: how far, what happens, what has been judged."""


@dataclass(frozen=True)
class Plan:
    seconds: float
    seed: int = 1
    workers: int = 2
    only: str = ""
    """Events whose name has this in it."""


@dataclass
class Cast:
    """Who takes part, made before the clock starts."""

    crowd: Crowd
    callers: list[Caller] = field(default_factory=list)
    promoted: Person | None = None


async def cast(crowd: Crowd, probes: Probes) -> Cast:
    """Registers everyone, one after the other."""
    made = Cast(crowd)
    registrar = Caller(crowd, 0)

    async def person(name: str) -> Person:
        found = await registrar.registered(f"{name}@example.com", PASSWORD)
        if found is None:
            raise RuntimeError(f"{name} could not register: {crowd.oracle.told}")
        return found

    try:
        for number in range(8):
            name = f"reader{number}" if number % 2 else f"program{number}"
            who = await person(name)
            made.callers.append(Program(crowd, number, who))
            if number == 0:
                made.promoted = who
        for number in range(4):
            made.callers.append(Browser(crowd, number, await person(f"browser{number}")))
        names = ("machine0", "machine1", "probe")
        accounts = await asyncio.gather(
            *(asyncio.to_thread(Account, crowd.town, name) for name in names)
        )
        for number, account in enumerate(accounts[:2]):
            made.callers.append(Machine(crowd, number, account))
        for number in range(3):
            made.callers.append(Socket(crowd, number, await person(f"socket{number}")))
            made.callers.append(Stream(crowd, number, await person(f"stream{number}")))
        passers = [await person(f"passer{number}") for number in range(6)]
        made.callers += [Passerby(crowd, 0, passers), Newcomer(crowd, 0), Ghost(crowd, 0)]
        made.callers += [Stranger(crowd, 0), Stranger(crowd, 1), Partner(crowd, 0)]
        made.callers.append(Careful(crowd, 0, await person("careful")))
        made.callers.append(Hurried(crowd, 0, await person("hurried")))
        for kind in ("token", "cookie"):
            made.callers.append(Prober(crowd, probes, kind, person=await person(f"probe-{kind}")))
        account = accounts[2]
        named = Person("", [], account.client_id, frozenset(("staff",)))
        made.callers.append(Prober(crowd, probes, "API key", person=named, key=account.api_key))
    finally:
        await registrar.client.close()
    return made


def soak(folder: Path, plan: Plan, watching: Watching) -> Figures:
    """Leaves no process behind, however it ends."""
    town = Town(folder, plan.workers)
    try:
        return asyncio.run(_soak(town, plan, watching))
    finally:
        # Here and not in a task: whoever ends the run may do so while a thread starts servers, for
        # which asyncio.run waits.
        town.stop()


async def _soak(town: Town, plan: Plan, watching: Watching) -> Figures:
    await asyncio.to_thread(town.start)
    crowd, probes = Crowd(town, Oracle(), plan.seed), Probes()
    made = await cast(crowd, probes)
    return await _played(made, probes, plan, watching)


async def _played(made: Cast, probes: Probes, plan: Plan, watching: Watching) -> Figures:
    crowd = made.crowd
    town, oracle = crowd.town, crowd.oracle
    oracle.began_at = time.monotonic()
    assert made.promoted is not None
    stage = Stage(crowd, made.promoted, random.Random(f"{crowd.seed}/events"))
    samples, stalls = Samples(town, oracle.began_at), Stalls()
    async with asyncio.TaskGroup() as group:
        for caller in made.callers:
            group.create_task(caller.run())
        group.create_task(samples.run(crowd.over))
        group.create_task(stalls.run(crowd.over))
        watcher = group.create_task(_watch(stage, watching))
        await _direct(stage, plan)
        seconds = time.monotonic() - oracle.began_at
        samples.take()
        crowd.over.set()
        watcher.cancel()
    figures = Figures(
        seconds,
        oracle,
        probes,
        samples,
        stage.happened,
        stalls,
        stage.left_out,
        {"nodes": len(town.nodes), "workers": town.workers, "seed": crowd.seed},
    )
    await _look_for(crowd, figures)
    return figures


async def _direct(stage: Stage, plan: Plan) -> None:
    """The events, each at its time or when the one before has healed; what happens to no node and
    no store goes on beside them."""
    chosen = [one for one in schedule(plan.seconds, plan.seed) if plan.only in one.kind.value]
    await asyncio.gather(
        _follow(stage, plan, [one for one in chosen if one.kind not in BESIDE]),
        _follow(stage, plan, [one for one in chosen if one.kind in BESIDE]),
    )
    await asyncio.sleep(max(stage.oracle.began_at + plan.seconds - time.monotonic(), 0))


async def _follow(stage: Stage, plan: Plan, chosen: Sequence[Planned]) -> None:
    began_at, seconds = stage.oracle.began_at, plan.seconds
    for planned in chosen:
        late_s = time.monotonic() - began_at - seconds
        if late_s > MOST_EXTRA_S:
            stage.left_out.append(planned.kind)
            continue
        await asyncio.sleep(max(began_at + planned.at_s - time.monotonic(), 0))
        await stage.do(planned.kind, planned.node)


async def _watch(stage: Stage, watching: Watching) -> None:
    while True:
        now = ", ".join(sorted(stage.now))
        watching(time.monotonic() - stage.oracle.began_at, now, stage.oracle)
        await asyncio.sleep(1)


async def _look_for(crowd: Crowd, figures: Figures) -> None:
    """Whatever was acknowledged must be there, and whatever was ended must not."""
    oracle, lost = crowd.oracle, figures.lost
    lost += oracle.lost
    caller = Caller(crowd, 0)
    try:
        figures.looked_for += await _look_for_people(caller, lost)
        figures.looked_for += await _look_for_sessions(caller, lost)
        for key, person in crowd.keys.items():
            figures.looked_for += 1
            await caller.client.ask(
                "GET",
                "/api/last",
                [allowed(Identity(person.user_id, person.email, person.roles))],
                subject=Subject.CREDENTIAL,
                kind="personal key, at the end",
                headers={"Authorization": f"Bearer {key}"},
            )
    finally:
        await caller.client.close()
    written = Counter(crowd.town.journal.read_text().split())
    figures.looked_for += len(crowd.notes)
    lost += [
        f"note {note} was acknowledged and never arrived" for note in crowd.notes - set(written)
    ]
    for note, times in written.items():
        if times > 1:
            oracle.wrong("note", f"{note} arrived {times} times")
        if note not in crowd.sent_notes:
            oracle.wrong("note", f"{note} arrived, and nobody may have sent it")


async def _look_for_people(caller: Caller, lost: list[str]) -> int:
    """Each can sign in with the password that was acknowledged last."""
    people = list({one.email: one for one in caller.crowd.people}.values())
    for person in people:
        expected: list[Expected] = [allowed(), refused(401, "insufficient_user_authentication")]
        statuses = []
        for password in person.passwords:
            answer = await _signed_in(caller, person.email, password)
            statuses.append(f"{answer.status} {answer.reason}")
            if not all(one.problem(answer, "") for one in expected):
                break
        else:
            lost.append(f"{person.email} cannot sign in: {', '.join(statuses)}")
    return len(people)


async def _refreshed(caller: Caller, session: Session) -> bool:
    for _ in range(5):
        if await caller.refresh(session) or session.state is not State.LIVE:
            break
    return session.state is State.LIVE and session.asked_since is None


async def _signed_in(caller: Caller, email: str, password: str) -> Answer:
    """The answer to a sign-in, asked for again where it says that it is to be."""
    for _ in range(10):
        answer = await caller.client.send(
            "POST",
            "/auth/login",
            {"Sec-Fetch-Site": "same-origin"},
            json={"email": email, "password": password},
        )
        if not answer.unavailable and answer.status != 429:
            break
        await asyncio.sleep(answer.retry_after_s)
    return answer


async def _look_for_sessions(caller: Caller, lost: list[str]) -> int:
    """What nobody ended goes on; what was ended does not."""
    live = [one for one in caller.crowd.live if one.state is State.LIVE]
    for session in live:
        if not session.cookie and not await _refreshed(caller, session):
            lost.append(f"a session of {session.person.email} does not go on")
            continue
        await caller.call(session, "/api/last", allowed(session.identity), kind="at the end")
    for session in caller.crowd.ended:
        sent: list[Any] = [refused(401, *OVER)]
        verdict, _ = await caller.client.ask(
            "GET",
            "/api/last",
            sent,
            subject=Subject.REFUSAL,
            kind="signed out, at the end",
            headers=session.credential,
        )
        if verdict is Verdict.WRONG:
            lost.append(f"the end of a session of {session.person.email} is forgotten")
    return len(live) + len(caller.crowd.ended)
