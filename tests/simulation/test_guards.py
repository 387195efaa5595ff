"""The simulation can fail: with a guard taken away, some schedule breaks the invariant that it keeps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import pytest

import common.domain.health
import worker.judge
from common.clock import DatabaseClock
from common.domain.checks import Kind, Verdict
from tests.simulation.database import Guard
from tests.simulation.notifying import NotifierProcess
from tests.simulation.run import first_violation
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.working import _Canary
from worker.stall import LoopLag
from worker.writer import Ticket

#: So many schedules of a kind are tried; the first that fails ends the search.
_SEEDS = range(1_000)


@pytest.mark.parametrize(
    ("without", "rule"),
    [
        # A vote is written over one that was read before another's commit.
        ({Guard.VOTE_VERSION}, "I4"),
        # Two locations conclude at once: the lock of the state and the unique index each prevent a second incident.
        ({Guard.STATE_LOCK, Guard.ONE_OPEN}, "I4"),
        ({Guard.RESULT_KEY}, "I8"),
        # The event is committed, the process dies, nobody is told.
        ({Guard.OUTBOX_IN_TRANSACTION}, "I5"),
        # Two relays write the ledger rows of one event.
        ({Guard.ORGANIZATION_HOLD, Guard.LEDGER_KEY}, "I6"),
        # A notification that is being sent is claimed again.
        ({Guard.CLAIM_LEASE}, "I6"),
        # The end of an incident overtakes its beginning.
        ({Guard.CLAIM_ORDER}, "I7"),
        # Whoever lost the lease settles over the one who has it.
        ({Guard.LEASE_TOKEN}, "I6"),
        # A leader that was replaced renews all the same.
        ({Guard.EPOCH}, "I10"),
        ({Guard.LEASE_EXPIRY}, "I10"),
    ],
)
def test_without_a_guard_of_the_database_a_schedule_fails(without: set[Guard], rule: str) -> None:
    assert _rule_broken("crowded", without=frozenset(without)) == rule


def test_without_the_id_of_the_message_that_was_tried_a_group_is_told_under_another() -> None:
    assert _rule_broken("grouped", without=frozenset({Guard.MESSAGE_ID})) == "I6"


@pytest.mark.parametrize("guard", [Guard.STATE_LOCK, Guard.ONE_OPEN, Guard.LEDGER_KEY])
def test_where_two_guards_stand_one_is_enough(guard: Guard) -> None:
    assert first_violation(range(300), without=frozenset({guard}), scenario="crowded") is None


def _any_slot_counts(_vote: object, result: Any) -> bool:
    return bool(result.kind is not Kind.MANUAL)


def _begin_without_the_time(process: NotifierProcess, _database: object, clock: DatabaseClock) -> None:
    if process.name == "notifier-1":
        clock._offset_s += 60  # its machine's clock is a minute fast, and nobody has told it yet
    process.ready = True
    process.after(0.01, process._relay_now)
    process.after(1.0, process._look_regularly)


async def _fine(_canary: object, _since: float = 0.0) -> bool:
    return True


_ALL = frozenset(Verdict)


@pytest.mark.parametrize(
    ("scenario", "changes", "rules"),
    [
        # A slot counts although a newer one, or the same, has counted before.
        (
            "crowded",
            [(common.domain.health, "counts", _any_slot_counts), (worker.judge, "counts", _any_slot_counts)],
            {"I2", "I3", "I4"},
        ),
        # A message is acknowledged before its results are committed.
        ("crowded", [(Ticket, "add", lambda _ticket: None)], {"I9"}),
        # A worker without a network takes all targets for down.
        ("crowded", [(_Canary, "alive", _fine)], {"I3"}),
        # A location that comes back with an old opinion has a failed check resolve, or a good one open.
        ("crowded", [(worker.judge, "_SEEN", dict.fromkeys(worker.judge._SEEN, frozenset(Verdict)))], {"I2", "I3"}),
        # What a location held back overrules what the others have found since.
        ("held-back", [(worker.judge, "_held_back", lambda *_: False)], {"I2"}),
    ],
)
def test_without_a_guard_of_the_logic_a_schedule_fails(
    scenario: str, changes: list[tuple[Any, str, Callable[..., Any]]], rules: set[str]
) -> None:
    with ExitStack() as stack:
        for target, attribute, replacement in changes:
            stack.enter_context(patch.object(target, attribute, replacement))
        assert _rule_broken(scenario) in rules


def test_a_worker_that_stood_still_takes_it_for_the_target_s_timeout() -> None:
    # Rare: a check has to be under way just then. The range was searched for.
    with patch.object(LoopLag, "blames_us", lambda *_: False):
        assert _rule_broken("crowded", seeds=range(2_600, 2_650)) == "I3"


def test_a_notifier_that_goes_by_its_machine_s_clock_takes_what_is_another_s() -> None:
    # Rare: it has to begin while somebody sends. The range was searched for.
    with patch.object(NotifierProcess, "_begin", _begin_without_the_time):
        assert _rule_broken("crowded", seeds=range(75, 95)) == "I6"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_with_all_guards_no_schedule_of_any_kind_fails(scenario: str) -> None:
    assert first_violation(range(200), scenario=scenario) is None


def _rule_broken(scenario: str, *, seeds: range = _SEEDS, without: frozenset[Guard] = frozenset()) -> str | None:
    """The invariant that the first failing schedule breaks."""
    violation = first_violation(seeds, without=without, scenario=scenario)
    return violation.split(": ")[1] if violation else None
