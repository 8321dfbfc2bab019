"""Forms that outlive a version: what a browser or a store has kept is read after an update, and
by the nodes that still run the version before."""

from __future__ import annotations

from gateway.identity.sign_in.devices import Device, Devices
from gateway.identity.sign_in.session_cookies import CookieMint, Csrf, hash_cookie
from tests.databases import NOON

KEY = b"k" * 32
ANN = "ann@x.example"


def test_a_device_cookie_is_known_again() -> None:
    tags = "8rFjJFx5pmYqJfwQ-8r-iUuCaSMJHwqv"
    cookie = f"2.{'d' * 22}.{NOON}.{tags}.SI4wpHlcWOVEvK35lw4VUz82F_Mmg603fRgoh5UB45E"
    device = Devices(KEY).claimed(cookie, ANN, NOON)
    assert device == Device("d" * 22, (tags,))
    assert Devices(KEY).current(device, ANN, 3)


def test_a_device_cookie_is_written_as_it_is_read() -> None:
    id_, at, tags = Devices(KEY).remember(None, ANN, 3, NOON + 0.9).split(".")[1:4]
    assert (len(id_), at, tags) == (22, str(NOON), "8rFjJFx5pmYqJfwQ-8r-iUuCaSMJHwqv")


def test_a_session_cookie_is_known_again() -> None:
    assert CookieMint(KEY).gave("A" * 43 + "XKmPkbURfV4")
    assert hash_cookie("A" * 54) == "gtFEgUUY7xkZEXAwHIlnepKEnDX-ltTaGqr3oaQxyp0"


def test_a_csrf_token_is_known_again() -> None:
    assert Csrf(KEY).token("A" * 54) == "LsWaIiIAmcgf09YIMKPyhI8EnG55Nzi_VpbcEc-650M"
