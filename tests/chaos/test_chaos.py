"""A minute of chaos: every role killed, a death at a commit, a send and an ack, Redis emptied, PostgreSQL crashed."""

from __future__ import annotations

import pytest

from tests.chaos import verdict
from tests.chaos.plan import quick
from tests.chaos.run import Outcome, Runner
from tests.chaos.schedule import QUICK

#: Fixed, so that a failure is the change's and not the seed's; `make chaos` draws its own.
SEED = 20


def ignore(_line: str, _done: float | None) -> None:
    """Nobody watches."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return Runner(quick(SEED), tmp_path_factory.mktemp("chaos"), ignore).run()


@pytest.mark.timeout(900)
def test_no_invariant_is_broken_by_a_minute_of_chaos(outcome: Outcome) -> None:
    assert verdict.holds(outcome), f"{verdict.text(outcome)}\nhistory: {outcome.history}"


def test_every_fault_of_that_minute_was_inflicted(outcome: Outcome) -> None:
    assert set(outcome.inflicted.done) == set(QUICK)
    assert outcome.inflicted.impossible == {}
