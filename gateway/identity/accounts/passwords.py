"""Passwords: how they are hashed, checked and refused.

Law: every path that hashes, hashes at the installation's one cost, whether or not there is an
account, so that the clock tells a stranger nothing.  Hashing has its own few threads and bounded
queues (`hashing`): past them the caller is told to come back, and the event loop never waits.

bcrypt reads 72 bytes and no more, so what it is given is the 64 characters of
base64(HMAC-SHA384(key, password)): every byte of a long password counts.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
import string
import threading
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import bcrypt

from gateway.cores import usable_cores
from gateway.identity.accounts.hashing_threads import HashingThreads, Lane
from gateway.model import Reason
from gateway.stores.protocols import Database

MAX_LENGTH = 256
LEAST_ROUNDS, MOST_ROUNDS = 10, 14
TARGET_S = 0.100

# The scheme stands before the bcrypt text.  A pepper that is set later leaves the hashes of
# before readable: they are checked by their own scheme and renewed at the next sign-in.
_PLAIN, _PEPPERED = "v1", "v1p"
# Of another system: bcrypt of the first 72 bytes of the password as typed.  Its cost is its own
# until the first sign-in, which renews it.
_IMPORTED = "bc"
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}", re.ASCII)
_BCRYPT_BASE64 = "./" + string.ascii_letters + string.digits
_BCRYPT_DIGEST_LENGTH = 31
_LABEL = b"authgate password v1"

KNOWN = "It stands in a list of passwords that the world knows; choose another one."

_WINDOW = 24
_LEAST_SCORE = 3
_COST_SETTING = "bcrypt_rounds"


@dataclass(frozen=True, slots=True)
class PasswordOptions:
    pepper: bytes | None = None
    min_length: int = 8
    is_known: Callable[[str], bool] = lambda _password: False
    """Whether the world knows it (`known_passwords`); called in a thread."""
    context_words: tuple[str, ...] = ("authgate",)
    """Words that a guesser of this installation would try first."""
    threads: int = field(default_factory=lambda: max(1, usable_cores() // 2))
    queue: int = 64
    """Jobs of one lane that may wait for a thread; past them HASHING_BUSY."""
    pool: type[HashingThreads] = HashingThreads


@dataclass(frozen=True, slots=True)
class WeakPassword:
    """The password is refused; `hint` is a constant that says what would be better."""

    hint: str


@dataclass(frozen=True, slots=True)
class Checked:
    good: bool
    known: bool = False
    """Good, and the world knows it."""


class Passwords:
    """Hashes and checks passwords in threads of its own, until `close`."""

    def __init__(self, options: PasswordOptions, rounds: int) -> None:
        """`rounds` is the installation's cost, as `calibrated_rounds` gives it."""
        self.rounds = rounds
        self._options = options
        self._scheme = _PEPPERED if options.pepper else _PLAIN
        self._pool = options.pool(options.threads, options.queue)
        self._dummy = _hash_of_nobody(self._scheme, rounds)

    @property
    def under_way(self) -> int:
        """Jobs that are in a thread or wait for one."""
        return self._pool.pending

    def close(self) -> None:
        self._pool.close()

    async def hash(
        self,
        password: str,
        words: Sequence[str] = (),
        lane: Lane = Lane.NEW,
        *,
        holder: str = "",
        client_ip: str = "",
    ) -> str | WeakPassword | Reason:
        """The text to store; WeakPassword, or HASHING_BUSY.  `words` are the owner's e-mail address
        and name; `holder` and `client_ip` are as for `HashingThreads.run`."""

        def work() -> str | WeakPassword:
            return self.weakness(password, words) or self._hash(password)

        return await self._pool.run(work, lane, holder, client_ip=client_ip)

    async def rehash(
        self, password: str, lane: Lane = Lane.SIGN_IN, *, holder: str = "", client_ip: str = ""
    ) -> str | Reason:
        """The text to store for a password that was accepted before, by the rules of then."""
        return await self._pool.run(lambda: self._hash(password), lane, holder, client_ip=client_ip)

    async def check(
        self,
        password: str,
        stored: str | None,
        lane: Lane = Lane.SIGN_IN,
        *,
        holder: str = "",
        client_ip: str = "",
    ) -> Checked | Reason:
        """Whether `password` is the one of `stored`, or HASHING_BUSY.

        Without a stored hash, or with one that cannot be read, a dummy is checked: to answer
        early would tell a stranger, by the clock, which addresses have an account.
        """
        return await self._pool.run(
            lambda: self._check(password, stored), lane, holder, client_ip=client_ip
        )

    def may_renew(self, stored: str, password: str) -> bool:
        """Whether the hash has another cost or scheme than this installation's, and the password
        that it has vouched for is to be hashed again: of one that was imported from bcrypt the
        first 72 bytes, so what is longer may end otherwise than its owner's."""
        if stored.startswith(_IMPORTED) and len(password.encode("utf-8", "surrogatepass")) > 72:
            return False
        return not stored.startswith(f"{self._scheme}$2b${self.rounds:02d}$")

    def weakness(self, password: str, words: Sequence[str] = ()) -> WeakPassword | None:
        """Why the password is refused, or None.  Takes up to 0.3 s: for a thread."""
        text = unicodedata.normalize("NFKC", password)
        if len(text) < self._options.min_length:
            return WeakPassword(f"It must hold at least {self._options.min_length} characters.")
        if len(text) > MAX_LENGTH:
            return WeakPassword(f"It must hold at most {MAX_LENGTH} characters.")
        if self._options.is_known(password):
            return WeakPassword(KNOWN)
        return _guessable(text, [*words, *self._options.context_words])

    def _hash(self, password: str) -> str:
        salt = bcrypt.gensalt(self.rounds)
        return f"{self._scheme}{bcrypt.hashpw(self._digest(password, self._scheme), salt).decode()}"

    def _check(self, password: str, stored: str | None) -> Checked:
        scheme, mark, _ = (stored or "").partition("$")
        readable = mark and (
            scheme in (_PLAIN, _IMPORTED) or (scheme == _PEPPERED and self._options.pepper)
        )
        text = stored if stored and readable else self._dummy
        scheme = text.partition("$")[0]
        digest = self._digest(password, scheme)
        try:
            same = bcrypt.checkpw(digest, text.removeprefix(scheme).encode())
            self._make_up(digest, text)
        except ValueError:  # "Invalid salt": the row was damaged
            bcrypt.checkpw(
                self._digest(password, self._scheme),
                self._dummy.removeprefix(self._scheme).encode(),
            )
            same = False
        good = same and text is stored
        return Checked(good, known=good and self._options.is_known(password))

    def _make_up(self, digest: bytes, checked: str) -> None:
        """Spend what checking a hash of a lower cost has saved: 2^c for the check, and then
        2^c, 2^(c+1) … 2^(n-1), are 2^n together."""
        for rounds in range(int(checked.split("$")[2]), self.rounds):
            bcrypt.hashpw(digest, bcrypt.gensalt(rounds))

    def _digest(self, password: str, scheme: str) -> bytes:
        if scheme == _IMPORTED:
            return password.encode("utf-8", "surrogatepass")[:72]
        key = self._options.pepper if scheme == _PEPPERED and self._options.pepper else _LABEL
        text = unicodedata.normalize("NFKC", password)
        return base64.b64encode(
            hmac.digest(key, text.encode("utf-8", "surrogatepass"), hashlib.sha384)
        )


def _hash_of_nobody(scheme: str, rounds: int) -> str:
    """What is checked for whoever has no hash: it costs as much as any other, and no password is
    known that it is the hash of.  To hash one for it would keep every start waiting."""
    digest = "".join(secrets.choice(_BCRYPT_BASE64) for _ in range(_BCRYPT_DIGEST_LENGTH))
    return f"{scheme}{bcrypt.gensalt(rounds).decode()}{digest}"


def import_hash(bcrypt_hash: str) -> str | None:
    """The text to store for another system's bcrypt hash; None for what is none, and for one
    of a cost over 14: checking it would hold a thread for seconds."""
    return f"{_IMPORTED}{bcrypt_hash}" if _BCRYPT.fullmatch(bcrypt_hash) else None


def time_of_hash(rounds: int) -> float:
    """The seconds of a core that one hash of that cost takes here."""
    salt = bcrypt.gensalt(rounds)
    began = time.thread_time()
    bcrypt.hashpw(b"x" * 64, salt)
    return time.thread_time() - began


def affordable_rounds(measure: Callable[[int], float] = time_of_hash) -> int:
    """The highest cost of 10 to 14 whose hash takes under 100 ms here; for a thread.

    `measure` gives the seconds of one hash at a cost.
    """
    # Each cost takes twice as long as the one before it, so the next is never tried in vain.
    for rounds in range(LEAST_ROUNDS, MOST_ROUNDS):
        # Of two: a machine that is busy for a moment must not settle it for good.
        if all(2 * measure(rounds) >= TARGET_S for _ in range(2)):
            return rounds
    return MOST_ROUNDS


async def calibrated_rounds(
    database: Database, configured: int | None, find: Callable[[], int] = affordable_rounds
) -> int:
    """The installation's bcrypt cost: what is configured, else what SQL keeps, else what `find`
    gives, in a thread, and SQL then keeps."""
    if configured is not None:
        return configured
    select = "SELECT value FROM installation WHERE name = :name"
    async with database.read_transaction() as tx:
        row = await tx.one(select, name=_COST_SETTING)
    if row is None:
        rounds = await asyncio.to_thread(find)
        async with database.transaction() as tx:
            await tx.run(
                "INSERT INTO installation (name, value) VALUES (:name, :value)"
                " ON CONFLICT (name) DO NOTHING",
                name=_COST_SETTING,
                value=str(rounds),
            )
            # Two first starts at once measure twice and must agree on one.
            row = await tx.one(select, name=_COST_SETTING)
    return min(MOST_ROUNDS, max(LEAST_ROUNDS, int(row["value"]))) if row else LEAST_ROUNDS


# zxcvbn writes the words of the owner into a dictionary of its module: one at a time.
_zxcvbn_lock = threading.Lock()


def _guessable(password: str, words: Sequence[str]) -> WeakPassword | None:
    """zxcvbn under 3 of 4 is refused (10^8 guesses).

    It is asked about windows of 24 characters, and one good window is enough: its time grows
    with the length so steeply that 72 characters, well chosen, hold a core for a second.
    """
    parts = [part for word in words for part in _parts(word)]
    first: dict[str, Any] | None = None
    for start in range(0, 3 * _WINDOW, _WINDOW):
        window = password[start : start + _WINDOW]
        if first is not None and len(window) < _WINDOW // 2:
            break
        # Here: its dictionaries take 12 MB, and few workers are ever brought a new password.
        from zxcvbn import zxcvbn

        with _zxcvbn_lock:
            result = zxcvbn(window, user_inputs=parts)
        if result["score"] >= _LEAST_SCORE:
            return None
        first = first or result
    return _hint((first or {}).get("sequence", []))


def _parts(word: str) -> list[str]:
    """The whole, and what stands between its punctuation, if that is a word."""
    pieces = "".join(c if c.isalnum() else " " for c in word).split()
    return [word, *(piece for piece in pieces if len(piece) > 2)]


def _hint(sequence: Sequence[dict[str, Any]]) -> WeakPassword:
    names = [match.get("dictionary_name") for match in sequence]
    if "user_inputs" in names:
        return WeakPassword("It is made of your address or of a word that belongs to this place.")
    if len(names) == 1 and names[0] == "passwords":
        return WeakPassword("It is one of the most common passwords.")
    return WeakPassword("It is too easy to guess; a few more words, uncommon ones, make it good.")
