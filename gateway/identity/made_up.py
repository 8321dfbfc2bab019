"""What tells a credential that was good from one that anybody may have made up, where to ask about
it costs a place: of a store, or of an issuer.

Law: whoever makes them up takes the places of no credential that was good, and more than their
share of the others from nobody.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")


class GoodOnes(Generic[K]):
    """The latest that were good when they were last asked about, at most `most`; by a hash."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._digests: OrderedDict[K, None] = OrderedDict()

    def __contains__(self, digest: K) -> bool:
        return digest in self._digests

    def note(self, digest: K, *, is_good: bool) -> None:
        """What came of it now."""
        self._digests.pop(digest, None)
        if is_good:
            self._digests[digest] = None
            if len(self._digests) > self._most:
                self._digests.popitem(last=False)


class AddressShares:
    """The questions about others that are under way, by the holder of the address: `most` each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[str] = Counter()
        self.under_way = 0
        """Of all addresses together."""

    def has_room(self, holder: str) -> bool:
        return self._taken[holder] < self._most

    def take(self, holder: str) -> None:
        self._taken[holder] += 1
        self.under_way += 1

    def give_back(self, holder: str) -> None:
        self.under_way -= 1
        self._taken[holder] -= 1
        if not self._taken[holder]:
            del self._taken[holder]
