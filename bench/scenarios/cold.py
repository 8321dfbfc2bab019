"""Tokens that no peer has seen: signed beforehand, and so many that none comes twice in a round.

A signature of RS256 costs half a millisecond, so they are kept for the day with the key that signed
them.  There are three times as many as any peer remembers, so that of those that came in an earlier
round none is remembered either.
"""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bench.credentials import LIFE_S, Signer, make_credentials, new_key
from bench.load import Round, check
from bench.peers import Peer, Shape, shaped
from bench.processes import Started
from bench.rig import BASE_PORT, Rig
from bench.scenarios.loads import by_wrk
from bench.scenarios.model import Entry, Goal, Load, Scenario

TOKENS = 60_000
FRESH_FOR_S = LIFE_S // 2
USERS = 1_000
NAMES = ("gateway", "haproxy", "envoy", "envoy-cache", "nginx-lua-cache", "naive")
REMEMBERING = frozenset({"gateway", "envoy-cache", "nginx-lua-cache", "haproxy"})


def signed_tokens(folder: Path, algorithm: str, count: int) -> tuple[Signer, Path]:
    """The key, and the file with its tokens: those of today, else new ones."""
    folder.mkdir(parents=True, exist_ok=True)
    pem, tokens = folder / f"{algorithm}.pem", folder / f"{algorithm}-{count}.txt"
    if tokens.exists() and time.time() - tokens.stat().st_mtime < FRESH_FOR_S:
        key = load_pem_private_key(pem.read_bytes(), None)
        return Signer(key, algorithm), tokens  # type: ignore[arg-type]
    for old in folder.glob(f"{algorithm}*"):
        old.unlink()
    signer = Signer(new_key(algorithm), algorithm)
    pem.write_text(signer.private_pem)
    parts = [range(first, min(first + 500, count)) for first in range(0, count, 500)]
    with multiprocessing.get_context("fork").Pool() as pool:
        texts = pool.starmap(_sign, [(pem, algorithm, part) for part in parts])
    unfinished = tokens.with_suffix(".part")
    unfinished.write_text("".join(texts))
    unfinished.rename(tokens)
    return signer, tokens


def _sign(pem: Path, algorithm: str, numbers: range) -> str:
    signer = Signer(load_pem_private_key(pem.read_bytes(), None), algorithm)  # type: ignore[arg-type]
    kid = signer.jwk["kid"]
    return "".join(
        signer.sign(signer.claims(number % USERS, token_id=f"cold-{number:08d}"), kid) + "\n"
        for number in numbers
    )


def next_tokens(file: Path, share: float) -> Load:
    """Each round of a peer goes on where its last one ended."""
    used: dict[Peer, int] = {}

    def send(rig: Rig, peer: Peer, process: Started, seconds: float) -> Round:
        skip = used.get(peer, 0)
        words = (f"cold={file}", f"skip={skip}", f"share={share}")
        measured = by_wrk(*words)(rig, peer, process, seconds)
        used[peer] = skip + round(measured.requests_a_s * max(seconds, 1) * share) + 1_000
        return measured

    return send


def entries(rig: Rig, count: int = TOKENS) -> list[Entry]:
    rows = []
    for place, algorithm in enumerate(("RS256", "ES256")):
        signer, file = signed_tokens(rig.folder / "cold", algorithm, count)
        folder = rig.folder / "keys" / f"cold-{algorithm.lower()}"
        rig.take(make_credentials(folder, USERS, algorithm, signer.key))
        peers = [
            shaped(name, BASE_PORT + 1 + 10 * place + number, Shape(algorithm=algorithm))
            for number, name in enumerate(NAMES)
        ]
        every, some = next_tokens(file, 1.0), next_tokens(file, 0.1)
        rows += [Entry(peer, every, check, f"{algorithm}, all new") for peer in peers]
        rows += [
            Entry(peer, some, check, f"{algorithm}, 10 % new")
            for peer in peers
            if peer.name in REMEMBERING
        ]
    return rows


COLD = Scenario(
    "cold",
    "Tokens that nobody has seen",
    "The load of the main table, but every token (or one in ten) comes for the first time, so "
    "that its signature has to be verified. 60,000 tokens for each algorithm are signed "
    "beforehand; no token comes twice in a round, and there are more than any cache holds. "
    "Those of Envoy without a cache and of the naive gateway are all new to them in any case.",
    entries,
    goals=(Goal("haproxy", 1.0, 1.3, "RS256, all new"),),
    takes_s=190,
)
