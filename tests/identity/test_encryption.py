from __future__ import annotations

import base64

import pytest

from gateway.identity.keys.encryption import SealBroken, Sealer
from tests.identity.keyring import SECRET, unb64

OTHER = bytes(range(1, 33))


def test_a_sealed_key_opens_again() -> None:
    sealer = Sealer(SECRET)
    assert sealer.unseal("kid", sealer.seal("kid", b"private")) == b"private"


def test_what_rests_shows_nothing_of_the_key() -> None:
    assert b"private" not in unb64(Sealer(SECRET).seal("kid", b"private"))


def test_the_same_key_is_never_sealed_to_the_same_text() -> None:
    sealer = Sealer(SECRET)
    assert sealer.seal("kid", b"private") != sealer.seal("kid", b"private")


def test_another_secret_opens_nothing() -> None:
    with pytest.raises(SealBroken):
        Sealer(OTHER).unseal("kid", Sealer(SECRET).seal("kid", b"private"))


def test_a_row_copied_to_another_kid_does_not_open() -> None:
    sealer = Sealer(SECRET)
    with pytest.raises(SealBroken):
        sealer.unseal("other", sealer.seal("kid", b"private"))


def test_one_flipped_bit_anywhere_breaks_the_seal() -> None:
    sealer = Sealer(SECRET)
    raw = unb64(sealer.seal("kid", b"private"))
    for bit in range(len(raw) * 8):
        edited = bytearray(raw)
        edited[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealBroken):
            sealer.unseal("kid", base64.urlsafe_b64encode(edited).decode())


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "A", "é"])
def test_what_is_no_seal_at_all_is_broken(text: str) -> None:
    with pytest.raises(SealBroken):
        Sealer(SECRET).unseal("kid", text)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Sealer(SECRET[:31])


def test_the_fingerprint_tells_secrets_apart_and_is_not_the_secret() -> None:
    one, other = Sealer(SECRET), Sealer(OTHER)
    assert one.made(Sealer(SECRET).fingerprint)
    assert not one.made(other.fingerprint)
    assert unb64(one.fingerprint) not in SECRET
