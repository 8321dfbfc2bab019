"""The list of passwords that the world knows: imported, asked, and replaced while it is asked."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from gateway.identity.accounts.known_passwords import (
    DATA_AT,
    ENTRY_BYTES,
    KEPT_BYTES,
    BadList,
    KnownList,
    KnownPasswords,
)
from gateway.identity.accounts.md4 import md4
from gateway.identity.accounts.password_import import BadImport, import_list
from gateway.identity.accounts.passwords import KNOWN, PasswordOptions, Passwords, WeakPassword

NOW = 1_800_000_000


def sha1(password: str) -> str:
    return hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()


def ntlm(password: str) -> str:
    return md4(password.encode("utf-16-le")).hex().upper()


def imported(folder: Path, lines: Iterable[str] | bytes) -> KnownList:
    text = lines if isinstance(lines, bytes) else "\n".join(lines).encode()
    import_list(io.BufferedReader(io.BytesIO(text)), folder / "list", NOW)
    return KnownList(folder / "list")


@pytest.mark.parametrize(
    ("text", "digest"),
    [  # RFC 1320, A.5
        ("", "31d6cfe0d16ae931b73c59d7e0c089c0"),
        ("a", "bde52cb31de33e46245e05fbdbd6fb24"),
        ("abc", "a448017aaf21d8525fc10ae87aa6729d"),
        ("message digest", "d9130a8164549fe818874806e1c7014b"),
        ("abcdefghijklmnopqrstuvwxyz", "d79e1c308aa5bbcdeea8ed63df412da9"),
        (
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            "043f8582f241db351ce627e153e7f0e4",
        ),
        ("1234567890" * 8, "e33b4ddc9c38f2199c3e7b164fcc0536"),
    ],
)
def test_md4_is_that_of_its_rfc(text: str, digest: str) -> None:
    assert md4(text.encode()).hex() == digest


@pytest.mark.parametrize("of", [sha1, ntlm])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_a_list_is_read_in_every_form_in_which_it_is_given_out(
    tmp_path: Path, of: Callable[[str], str], end: str, counted: bool, packed: bool
) -> None:
    words = [f"word {number}" for number in range(500)]
    text = "".join(f"{of(word)}{':7' if counted else ''}{end}" for word in words).encode()
    known = imported(tmp_path, gzip.compress(text) if packed else text)
    assert known.facts.count == 500
    assert known.facts.imported_at == NOW
    assert all(known.holds(word) for word in words)
    assert not any(known.holds(f"other {number}") for number in range(500))


def test_lower_case_a_mark_at_the_beginning_and_no_newline_at_the_end_do_not_matter(
    tmp_path: Path,
) -> None:
    text = f"\ufeff{sha1('a').lower()}\n\n{sha1('b')}:3  ".encode()
    known = imported(tmp_path, text)
    assert (known.holds("a"), known.holds("b"), known.holds("c")) == (True, True, False)


def test_a_password_is_known_as_it_was_typed_and_in_the_form_that_is_stored(
    tmp_path: Path,
) -> None:
    ligature, letters = "\ufb01ne words 1", "fine words 1"
    of_letters = imported(tmp_path, [sha1(letters)])
    assert of_letters.holds(ligature)
    of_ligature = imported(tmp_path, [sha1(ligature)])
    assert of_ligature.holds(ligature)
    assert not of_ligature.holds(letters)


@pytest.mark.parametrize("order", ["sorted", "reversed", "mixed", "twice"])
def test_the_order_of_the_list_does_not_matter(
    tmp_path: Path, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.identity.accounts.password_import.CHUNK_BYTES", 4_000)
    hashes = sorted(sha1(f"word {number}") for number in range(3_000))
    given = {
        "sorted": hashes,
        "reversed": hashes[::-1],
        "mixed": random.Random(7).sample(hashes, len(hashes)),
        "twice": hashes + hashes,
    }[order]
    known = imported(tmp_path, given)
    assert known.facts.count == 3_000
    assert all(known.holds(f"word {number}") for number in range(3_000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list"]


def test_the_first_and_the_last_of_all_hashes_are_found(tmp_path: Path) -> None:
    edges = ["00" * 20, "0000" + "FF" * 18, "FFFF" + "00" * 18, "FF" * 20]
    known = imported(tmp_path, edges)
    assert [known.holds_hash(bytes.fromhex(edge)) for edge in edges] == [True] * 4
    assert not known.holds_hash(bytes.fromhex("0001" + "00" * 18))
    assert not known.holds_hash(bytes.fromhex("FFFE" + "00" * 18))


def test_the_share_of_others_that_is_taken_for_one_of_the_list_is_the_one_that_is_told(
    tmp_path: Path,
) -> None:
    """A million hashes.  At the rate of the whole nothing could be counted, so those are asked too
    that begin like one of the list, up to the last byte that is kept."""
    drawn = random.Random(11)
    hashes = sorted(drawn.randbytes(20).hex().upper() for _ in range(1_000_000))
    known = imported(tmp_path, hashes)
    assert known.facts.count == 1_000_000
    assert all(known.holds_hash(bytes.fromhex(one)) for one in hashes[::997])
    asked = 100_000
    mistaken = sum(known.holds_hash(drawn.randbytes(20)) for _ in range(asked))
    near = 0
    for _ in range(asked):
        kept = bytes.fromhex(drawn.choice(hashes))[: KEPT_BYTES - 1]
        near += known.holds_hash(kept + drawn.randbytes(21 - KEPT_BYTES))
    told = known.facts.false_positive_rate
    size = (tmp_path / "list").stat().st_size
    print(
        f"\n1,000,000 hashes in {size:,} bytes: told {told:.2e}, {mistaken} of {asked:,} others taken"
        f" for known, {near / asked:.5f} of those that differ in the last byte (1/256 = 0.00391)"
    )
    assert told == 1_000_000 / 2**48
    assert mistaken <= 1
    assert 0.8 / 256 < near / asked < 1.2 / 256
    assert size == DATA_AT + ENTRY_BYTES * 1_000_000


def test_memory_does_not_grow_with_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("CHUNK_BYTES", 100_000), ("MERGED_AT_ONCE", 1_000)):
        monkeypatch.setattr(f"gateway.identity.accounts.password_import.{name}", value)
    peaks = []
    for count in (10_000, 60_000):
        path = tmp_path / "given"
        path.write_bytes(b"".join(b"%012X%028X:1\n" % (one << 20, one) for one in range(count)))
        tracemalloc.start()
        with path.open("rb") as source:
            facts = import_list(source, tmp_path / "list", NOW)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert facts.count == count
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "it holds no hash"),
        (b"\n \n", "it holds no hash"),
        (b"password\n", "line 1 is no hash of SHA-1 or NTLM"),
        (b"A" * 39, "line 1 is no hash of SHA-1 or NTLM"),
        (b"A" * 40 + b"\n" + b"A" * 32 + b"\n", "line 2 is no hash of SHA-1,"),
        (b"A" * 40 + b"\n\nB\n", "line 3 is no hash of SHA-1,"),
        (b"A" * 40 + b":x\n", "line 1 is no hash of SHA-1,"),
        (b"G" * 40 + b"\n", "line 1 is no hash of SHA-1"),
        (gzip.compress(b"A" * 40)[:-6], "damaged or cut short"),
        (b"\x1f\x8bnothing", "damaged or cut short"),
        (b"\0" * 1_000, "line 1 is no hash"),
    ],
    ids=range(11),
)
def test_what_is_no_list_is_refused_and_the_one_that_was_there_stays(
    tmp_path: Path, text: bytes, problem: str
) -> None:
    imported(tmp_path, [sha1("kept")])
    with pytest.raises(BadImport, match=problem):
        imported(tmp_path, text)
    assert KnownList(tmp_path / "list").holds("kept")
    assert [path.name for path in tmp_path.iterdir()] == ["list"]


def test_a_list_that_is_replaced_is_taken_up_and_one_that_is_away_is_none(tmp_path: Path) -> None:
    known = KnownPasswords(tmp_path / "list")
    assert not known.hold("first")
    imported(tmp_path, [sha1("first")])
    assert (known.hold("first"), known.hold("second")) == (True, False)
    imported(tmp_path, [ntlm("second"), ntlm("third")])
    assert (known.hold("first"), known.hold("second")) == (False, True)
    (tmp_path / "list").unlink()
    assert not known.hold("second")


@pytest.mark.parametrize("damage", ["cut", "longer", "head", "empty", "kind"])
def test_a_file_that_is_damaged_refuses_nobody(tmp_path: Path, damage: str) -> None:
    """A sign-up must not fail for it: it is logged, and `gateway passwords status` says so."""
    imported(tmp_path, [sha1("word")])
    path = tmp_path / "list"
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[:-1],
            "longer": content + b"0",
            "head": b"x" + content[1:],
            "empty": b"",
            "kind": content.replace(b'"sha1"', b'"sha2"'),
        }[damage]
    )
    os.utime(path, (1, 1))
    with pytest.raises(BadList):
        KnownList(path)
    assert not KnownPasswords(path).hold("word")


async def test_a_password_that_the_world_knows_is_refused_with_a_hint_of_its_own(
    tmp_path: Path,
) -> None:
    strong = "correct horse 7 battery"
    imported(tmp_path, [sha1(strong)])
    options = PasswordOptions(is_known=KnownPasswords(tmp_path / "list").hold, threads=1)
    passwords = Passwords(options, 4)
    try:
        assert await passwords.hash(strong) == WeakPassword(KNOWN)
        assert isinstance(await passwords.hash(strong + "!"), str)
    finally:
        passwords.close()
