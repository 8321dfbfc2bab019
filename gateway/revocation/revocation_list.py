"""The revocations in this worker's memory: a request asks them by a few look-ups.

Entries go by the steady clock, a minute at a time.  A million of them cost about 150 MB:
values are shared, and what ends together is one list.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.model import OWN_ISSUER, Change, ChangeKind, Principal, Reason, without_session

MINUTE_S = 60.0


class RevocationList:
    """Answers whether a verified caller has been revoked, and until when that is kept."""

    def __init__(self) -> None:
        self._sessions: dict[str | None, Reason] = {}
        self._tokens: dict[str | None, Reason] = {}
        self._keys: dict[str | None, Reason] = {}
        self._subjects: dict[str, int] = {}
        """Tokens issued then or before are revoked."""
        self._outdated: dict[str, int] = {}
        """Tokens issued then or before speak of roles that have changed."""
        self._clients: dict[str, int] = {}
        self._everyone = -1
        """Kept for good: it is one number."""
        self._minutes: dict[int, _Minute] = {}

    def __len__(self) -> int:
        named = len(self._sessions) + len(self._tokens) + len(self._keys)
        return named + len(self._subjects) + len(self._outdated) + len(self._clients)

    def refusal(self, principal: Principal) -> Reason | None:
        subject = principal.subject
        if not (
            principal.session_id in self._sessions
            or principal.token_id in self._tokens
            or principal.kid in self._keys
            or principal.issued_at <= self._everyone
            or subject in self._subjects
            or subject in self._outdated
            or (principal.client_id or "") in self._clients
            or (principal.session_id is None and principal.issuer != OWN_ISSUER)
        ):
            return None
        return self._named_refusal(principal)

    def _named_refusal(self, principal: Principal) -> Reason | None:
        """Of a caller of whom something is kept: it may be of another time."""
        reason = (
            self._sessions.get(principal.session_id)
            or self._tokens.get(principal.token_id)
            or self._keys.get(principal.kid)
        )
        if reason is not None:
            return reason
        # A token of the very second of the change is refused: which came first is not known.
        if principal.issued_at <= self._everyone:
            return Reason.TOKEN_REVOKED
        before = self._subjects.get(principal.subject)
        if before is not None and principal.issued_at <= before:
            return Reason.TOKEN_REVOKED
        if principal.session_id is None and principal.issuer != OWN_ISSUER:
            before = self._subjects.get(without_session(principal.subject))
            if before is not None and principal.issued_at <= before:
                return Reason.TOKEN_REVOKED
        before = self._clients.get(principal.client_id or "")
        if before is not None and principal.issued_at <= before:
            return Reason.TOKEN_REVOKED
        before = self._outdated.get(principal.subject)
        if before is not None and principal.issued_at <= before:
            return Reason.TOKEN_OUTDATED
        return None

    def refuses_key(self, kid: str) -> bool:
        return kid in self._keys

    def apply(self, change: Change, ends_at: float) -> None:
        """Applies a change until `ends_at`, by the steady clock, in any order and however often."""
        match change.kind:
            case ChangeKind.SESSION:
                self._name(self._sessions, change, ends_at)
            case ChangeKind.TOKEN:
                self._name(self._tokens, change, ends_at)
            case ChangeKind.KEY:
                self._name(self._keys, change, ends_at)
            case ChangeKind.SUBJECT if change.cause is Reason.TOKEN_OUTDATED:
                self._date(self._outdated, change, ends_at)
            case ChangeKind.SUBJECT:
                self._date(self._subjects, change, ends_at)
            case ChangeKind.CLIENT:
                self._date(self._clients, change, ends_at)
            case ChangeKind.EVERYONE:
                self._everyone = max(self._everyone, change.not_before)
            case ChangeKind.KEYS:
                pass

    def expire(self, now: float) -> None:
        """Drops the entries that have ended."""
        for minute in [m for m in self._minutes if m * MINUTE_S <= now]:
            ended = self._minutes.pop(minute)
            for table, keys in ended.named:
                for key in keys:
                    table.pop(key, None)
            for dates, keys, values in ended.dated:
                for key, value in zip(keys, values, strict=True):
                    # A stricter date has come since, and ends later.
                    if dates.get(key) == value:
                        del dates[key]

    def _name(self, table: dict[str | None, Reason], change: Change, ends_at: float) -> None:
        if change.target not in table:
            table[change.target] = change.cause
            self._minute(ends_at).keys_of(table).append(change.target)

    def _date(self, dates: dict[str, int], change: Change, ends_at: float) -> None:
        if dates.get(change.target, -1) < change.not_before:
            dates[change.target] = change.not_before
            keys, values = self._minute(ends_at).dates_of(dates)
            keys.append(change.target)
            values.append(change.not_before)

    def _minute(self, ends_at: float) -> _Minute:
        number = int(ends_at // MINUTE_S) + 1
        minute = self._minutes.get(number)
        if minute is None:
            minute = self._minutes[number] = _Minute()
        return minute


@dataclass(slots=True)
class _Minute:
    """What ends within one minute, by the table that holds it."""

    named: list[tuple[dict[str | None, Reason], list[str]]] = field(default_factory=list)
    dated: list[tuple[dict[str, int], list[str], list[int]]] = field(default_factory=list)

    def keys_of(self, table: dict[str | None, Reason]) -> list[str]:
        for known, keys in self.named:
            if known is table:
                return keys
        self.named.append((table, []))
        return self.named[-1][1]

    def dates_of(self, dates: dict[str, int]) -> tuple[list[str], list[int]]:
        for known, keys, values in self.dated:
            if known is dates:
                return keys, values
        self.dated.append((dates, [], []))
        return self.dated[-1][1], self.dated[-1][2]
