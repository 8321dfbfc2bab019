"""What tells the passwords of an account apart: its epoch, which each change raises by one.

Law: no epoch comes twice for an address.  Those of new accounts and of restores begin by the time,
so that they are past each that another account had there before, or that the same one had in a
database that is lost.
"""

from __future__ import annotations

import secrets

_A_SECOND = 2**30
"""So many epochs begin in each: until the year 2241 they are numbers of 63 bits."""


def first_epoch(now: int) -> int:
    """Of a new account: by chance one of this second, however often whoever had the address before
    changed the password and registered anew."""
    return now * _A_SECOND + secrets.randbelow(_A_SECOND)


def epoch_past(second: int) -> int:
    """Past all that accounts had in that second, in whatever database."""
    return (second + 1) * _A_SECOND
