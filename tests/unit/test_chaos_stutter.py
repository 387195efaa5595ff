"""A machine that stutters under a chaos run: it is noticed, and what it made of the run is not held against anybody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from tests.chaos import stutter
from tests.chaos.events import Fault, History, read_history
from tests.chaos.reasons import MACHINE, SERVER
from tests.stack import wait_until
from tests.unit.test_chaos_checker import HEAL, HOOK, STEADY, T0, Story

Change = Callable[[Story], Any]


def still(story: Story, begin: float, end: float, target: str, name: str = MACHINE) -> None:
    """Somebody stood still, without a fault."""
    story.disturb(begin, seconds=end - begin, name=name, target=target)


#: what happened, what is broken by it, and who stood still
STUTTERS: list[tuple[str, str, Change, Change]] = [
    ("a check judged down while it was up", "I3", lambda s: s.result(STEADY, T0 + 70).update(verdict="down"),
     lambda s: still(s, T0 + 69, T0 + 73, "endpoints")),
    ("a failure noted when it was over", "I3", lambda s: s.row("incidents", id="i").update(opened_at=T0 + 54.5),
     lambda s: still(s, T0 + 51, T0 + 54, "cpu 0")),
    ("a slot that nobody asked for", "I9", lambda s: s.tables["results"].remove(s.result(STEADY, T0 + 70)),
     lambda s: still(s, T0 + 69, T0 + 70, "cpu 1")),
    ("a slot missing when a lease had run out", "I9", lambda s: s.tables["results"].remove(s.result(STEADY, T0 + 70)),
     lambda s: still(s, T0 + 60, T0 + 64, "cpu 1")),
    ("a slot missing where PostgreSQL was slow", "I9", lambda s: s.tables["results"].remove(s.result(STEADY, T0 + 70)),
     lambda s: still(s, T0 + 67, T0 + 71, "postgres", SERVER)),
    ("a message late after the faults", "I5", lambda s: [s.unhear("msg_e2c1"), s.hook("e2", HOOK, HEAL + 33)],
     lambda s: still(s, T0 + 51.2, HEAL + 4, "the run")),
    ("a duplicate", "I6", lambda s: s.hook("e1", HOOK, T0 + 32), lambda s: still(s, T0 + 30, T0 + 32, "the run")),
]  # fmt: skip


@pytest.mark.parametrize(("how", "invariant", "happen", "excuse"), STUTTERS, ids=[row[0] for row in STUTTERS])
def test_what_is_broken_otherwise_is_excused_by_who_stood_still(
    how: str, invariant: str, happen: Change, excuse: Change
) -> None:
    story = Story()
    happen(story)
    assert story.report().findings[invariant].violations, how
    excuse(story)
    assert not story.report().findings[invariant].violations, how


def test_a_moment_excuses_no_slot_of_long_after() -> None:
    story = Story()
    story.tables["results"].remove(story.result(STEADY, T0 + 70))
    still(story, T0 + 63, T0 + 64, "cpu 1")
    assert story.report().findings["I9"].violations


def noted(watch: Callable[..., None], path: Path, enough: Callable[[], bool], *arguments: Any) -> list[Fault]:
    """What a watcher has written when it has looked often enough."""
    history, stop = History(path), threading.Event()
    thread = threading.Thread(target=watch, args=(history, "somebody", stop, *arguments), daemon=True)
    thread.start()
    wait_until(enough, 60)
    stop.set()
    thread.join(60)
    history.close()
    return [event for event in read_history(path) if isinstance(event, Fault)]


def test_a_thread_that_stood_still_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 2))  # two seconds for what should take a tenth
    slow = SimpleNamespace(monotonic=lambda: next(clock), time=time.time, sleep=time.sleep)
    monkeypatch.setattr(stutter, "time", slow)
    path = tmp_path / "history"
    begin, end, *_ = noted(stutter.watch_ourselves, path, lambda: path.read_text().count("\n") >= 2, 0)
    assert (begin.name, begin.begins, end.begins, begin.target) == (MACHINE, True, False, "somebody")
    assert "1.90 s" in end.detail


@pytest.mark.parametrize(("error", "takes_s", "says"), [(False, 0.0, False), (False, 0.05, True), (True, 0.05, False)])
def test_a_server_that_takes_its_time_is_noted_and_one_that_is_away_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: bool, takes_s: float, says: bool
) -> None:
    clock, asked = [0.0], []

    def ask() -> None:
        asked.append(1)
        clock[0] += takes_s * 100
        if error:
            raise redis.ConnectionError

    monkeypatch.setattr(stutter, "time", SimpleNamespace(monotonic=lambda: clock[0], time=time.time))
    monkeypatch.setattr(stutter, "_ASK_EVERY_S", 0.01)
    found = noted(stutter.watch_server, tmp_path / "history", lambda: len(asked) > 3, ask)
    assert bool(found) is says
    assert {event.name for event in found} <= {SERVER}
