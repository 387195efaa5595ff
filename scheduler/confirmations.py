"""Confirmations on their way: each dispatched once, at its moment, although the loader reads overlapping spans."""

from __future__ import annotations

from common.domain.checks import Check, Kind
from common.store.schedule import Confirmation

#: What is older is forgotten: the monitor's next slot confirms as well (milliseconds).
MEMORY_MS = 10_000


class Confirmations:
    """Those that wait, and those that were taken lately."""

    def __init__(self) -> None:
        self._waiting: list[Confirmation] = []
        self._known: dict[tuple[int, int], int] = {}

    def note(self, confirmation: Confirmation) -> None:
        """Remember one that the loader found; the same again changes nothing."""
        key = (confirmation.monitor_no, confirmation.location)
        if self._known.get(key) != confirmation.confirm_at_ms:
            self._known[key] = confirmation.confirm_at_ms
            self._waiting.append(confirmation)

    def take(self, now_ms: int) -> dict[int, list[Check]]:
        """What is due by now, by location."""
        due: dict[int, list[Check]] = {}
        for c in self._waiting:
            if c.confirm_at_ms <= now_ms:
                check = Check(c.monitor_no, c.config_version, c.confirm_at_ms, Kind.CONFIRM)
                due.setdefault(c.location, []).append(check)
        if due:
            self._waiting = [c for c in self._waiting if c.confirm_at_ms > now_ms]
            self._forget_known(now_ms)
        return due

    def forget(self, now_ms: int) -> None:
        """A standby keeps only what a leader that dies now may leave behind."""
        self._forget_known(now_ms)
        self._waiting = [c for c in self._waiting if c.confirm_at_ms > now_ms - MEMORY_MS]

    def _forget_known(self, now_ms: int) -> None:
        self._known = {key: at_ms for key, at_ms in self._known.items() if at_ms > now_ms - MEMORY_MS}
