"""A look at a certificate is worth its cost once a configuration and once an hour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from common.domain.errors import Unavailable
from tests.probing import config
from worker.expiries import ExpiryNotes


class Kept:
    """Where notes go, or cannot."""

    def __init__(self) -> None:
        self.notes: list[Mapping[int, int]] = []
        self.away = False

    def note(self, seen: Mapping[int, int]) -> None:
        if self.away:
            raise Unavailable("away")
        self.notes.append(dict(seen))


class Machine:
    now_s = 0.0


def made() -> tuple[ExpiryNotes, Kept, Machine]:
    kept, machine = Kept(), Machine()
    where: Any = kept
    return ExpiryNotes(where, lambda: machine.now_s), kept, machine


def test_the_first_check_of_a_configuration_looks_and_then_one_an_hour() -> None:
    notes, _, machine = made()
    first = config("tls", "h", 1, monitor_no=1, config_version=1)
    assert [notes.wants(first) for _ in range(3)] == [True, False, False]
    assert notes.wants(config("tls", "h", 1, monitor_no=2, config_version=1))
    assert notes.wants(config("tls", "h", 1, monitor_no=1, config_version=2))
    machine.now_s = 3_599
    assert not notes.wants(config("tls", "h", 1, monitor_no=1, config_version=2))
    machine.now_s = 3_600
    assert notes.wants(config("tls", "h", 1, monitor_no=1, config_version=2))


def test_what_somebody_asked_for_always_looks_and_is_noted_nowhere() -> None:
    notes, kept, _ = made()
    asked = config("tls", "h", 1, monitor_no=-1, config_version=1)
    assert notes.wants(asked) and notes.wants(asked)
    notes.note(asked, 5)
    notes.step()
    assert kept.notes == []


def test_what_cannot_be_passed_on_is_kept_and_newer_news_win() -> None:
    notes, kept, _ = made()
    one, two = (
        config("tls", "h", 1, monitor_no=1, config_version=1),
        config("tls", "h", 1, monitor_no=2, config_version=1),
    )
    notes.note(one, 10)
    notes.note(two, 20)
    kept.away = True
    with pytest.raises(Unavailable):
        notes.step()
    notes.note(one, 11)
    kept.away = False
    assert notes.step() is False
    notes.step()
    assert kept.notes == [{1: 11, 2: 20}]
