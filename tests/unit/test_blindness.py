"""When a location is blind, look by look."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.blindness import (
    LONGEST_GAP,
    Affected,
    Cause,
    Due,
    Glimpse,
    Seen,
    Sight,
    glimpse,
    incident_key,
    judge,
    plainly_sees,
    told,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LOOK = timedelta(seconds=2)
PATIENCE = timedelta(seconds=30)
SEES, FAILS, NEW, NOTHING = Glimpse.SEES, Glimpse.FAILS, Glimpse.NOTHING_NEW, Glimpse.NOTHING_DUE


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


#: (what the workers say, what is due, what that shows)
GLIMPSES = [
    (Seen(True, 2, 100, 0, ago(1)), Due(5, 30), (SEES, None)),
    (Seen(True, 2, 100, 10, ago(1)), Due(5, 30), (SEES, None)),  # one of many is blinded
    (Seen(True, 2, 20, 80, ago(1)), Due(5, 30), (FAILS, Cause.NETWORK)),  # four of five
    (Seen(True, 2, 21, 80, ago(1)), Due(5, 30), (SEES, None)),
    (Seen(True, 1, 0, 1, ago(1)), Due(1, 30), (FAILS, Cause.NETWORK)),  # the only one there is
    (Seen(True, 1, 0, 0, ago(20)), Due(1, 30), (NEW, None)),  # between two checks
    (Seen(True, 1, 0, 0, ago(90)), Due(1, 30), (NEW, None)),  # three slots
    (Seen(True, 1, 0, 0, ago(91)), Due(1, 30), (FAILS, Cause.NO_RESULTS)),
    (Seen(True, 1, 0, 0, ago(10)), Due(1, 1), (NEW, None)),  # ten seconds at the least
    (Seen(True, 1, 0, 0, ago(11)), Due(1, 1), (FAILS, Cause.NO_RESULTS)),
    (Seen(True, 1, 0, 0, None), Due(1, 1), (FAILS, Cause.NO_RESULTS)),
    (Seen(True, 0, 0, 0, ago(1)), Due(1, 30), (FAILS, Cause.NO_WORKER)),  # killed a moment ago
    (Seen(True, 0, 0, 0, None), Due(), (NOTHING, None)),  # and nobody minds
    (Seen(True, 2, 0, 9, ago(1)), Due(), (NOTHING, None)),
    (Seen(), Due(1, 30), (FAILS, Cause.NO_WORKER)),  # none ever was there
    (Seen(judged_at=ago(5)), Due(1, 30), (SEES, None)),  # workers of the version before say nothing; they vote
    (Seen(judged_at=ago(91)), Due(1, 30), (FAILS, Cause.NO_WORKER)),
]


@pytest.mark.parametrize(("seen", "due", "expected"), GLIMPSES)
def test_what_one_look_shows(seen: Seen, due: Due, expected: tuple[Glimpse, Cause | None]) -> None:
    assert glimpse(seen, due, NOW) == expected


@given(
    st.builds(
        Seen, st.just(True), st.integers(0, 3), st.integers(0, 50), st.integers(0, 50),
        st.none() | st.integers(0, 300).map(ago),
    ),
    st.integers(1, 100),
)  # fmt: skip
def test_who_plainly_sees_need_not_be_asked_what_was_due(seen: Seen, interval_s: int) -> None:
    if plainly_sees(seen, NOW):
        assert glimpse(seen, Due(1, interval_s), NOW) == (SEES, None)


def looks(shown: Sequence[Glimpse], cause: Cause = Cause.NETWORK, sight: Sight | None = None) -> list[Sight]:
    """The sights after each of these looks, two seconds apart."""
    sight = sight or Sight(NOW)
    sights = []
    for what in shown:
        now = sight.looked_at + LOOK
        sight = judge(sight, what, cause if what is FAILS else None, now=now, patience=PATIENCE)
        sights.append(sight)
    return sights


def blind(shown: Sequence[Glimpse], cause: Cause = Cause.NETWORK) -> list[bool]:
    return [sight.blind_since is not None for sight in looks(shown, cause)]


def test_blind_is_who_fails_for_as_long_as_patience_lasts() -> None:
    assert blind([FAILS] * 17) == [False] * 15 + [True] * 2
    assert looks([FAILS] * 17)[-1].blind_since == NOW + LOOK  # since it began, not since it was called so


def test_one_look_that_sees_begins_patience_anew() -> None:
    assert not any(blind([*[FAILS] * 14, SEES, *[FAILS] * 14]))


def test_a_restart_of_the_only_worker_is_no_blindness() -> None:
    # Missed for 25 seconds, and then there is nothing to check for a minute.
    assert not any(blind([*[FAILS] * 12, *[NEW] * 30], Cause.NO_WORKER))
    assert looks([*[FAILS] * 12, NEW], Cause.NO_WORKER)[-1] == Sight(NOW + 13 * LOOK)


def test_what_a_blind_network_shows_once_a_minute_counts_together() -> None:
    rarely = [FAILS, *[NEW] * 29]
    assert blind(rarely * 2) == [False] * 30 + [True] * 30
    assert not any(blind([FAILS, *[NEW] * 60]))  # but one result is no evidence of anything that lasts


def test_it_sees_again_after_as_long() -> None:
    sights = looks([*[FAILS] * 20, *[SEES] * 17])
    assert [sight.blind_since is not None for sight in sights[20:]] == [True] * 15 + [False] * 2
    assert sights[-1] == Sight(NOW + 37 * LOOK)


def test_one_that_comes_and_goes_stays_blind() -> None:
    assert all(blind([*[FAILS] * 20, *([SEES] * 10 + [FAILS]) * 5])[20:])


def test_its_cause_is_the_newest() -> None:
    sight = looks([FAILS] * 20, Cause.NETWORK)[-1]
    assert looks([FAILS], Cause.NO_WORKER, sight)[-1].cause is Cause.NO_WORKER


def test_one_from_which_nothing_is_checked_any_more_is_blind_to_nothing() -> None:
    sight = looks([*[FAILS] * 20, NOTHING])[-1]
    assert sight == Sight(NOW + 21 * LOOK)


def test_where_nobody_looked_for_a_while_patience_begins_anew() -> None:
    failing = looks([FAILS] * 14)[-1]
    later = failing.looked_at + LONGEST_GAP + LOOK
    after = judge(failing, FAILS, Cause.NO_WORKER, now=later, patience=PATIENCE)
    assert (after.blind_since, after.failing_since) == (None, later)

    blind_ = looks([*[FAILS] * 20, *[SEES] * 14])[-1]
    later = blind_.looked_at + LONGEST_GAP + LOOK
    after = judge(blind_, SEES, None, now=later, patience=PATIENCE)
    assert (after.blind_since, after.seeing_since) == (blind_.blind_since, later)  # what is blind stays so


@given(st.lists(st.sampled_from([SEES, FAILS, FAILS, NEW, NOTHING]), max_size=120))
def test_it_changes_no_oftener_than_patience_allows(shown: list[Glimpse]) -> None:
    was, changed_at = False, None
    for number, sight in enumerate(looks(shown)):
        is_ = sight.blind_since is not None
        if is_ and not was:
            assert shown[number] is FAILS
            assert sight.blind_since is not None
            assert sight.looked_at - sight.blind_since >= PATIENCE
            assert changed_at is None or sight.looked_at - changed_at >= PATIENCE
        if was and not is_:
            assert shown[number] in (SEES, NOTHING)
        changed_at = sight.looked_at if is_ is not was else changed_at
        was = is_


def test_people_are_told_what_since_when_and_how_many() -> None:
    assert incident_key("ams") == "tocsin:blind:ams"
    affected = Affected("o", 12, 9)
    assert told("ams", Cause.NETWORK, affected, NOW) == (
        "The workers at ams reach nothing, since 2026-03-01 12:00:00 UTC. 12 monitors are checked from there, 9 of "
        "them from nowhere else: what nobody sees is shown as unknown, not as down."
    )
    text = told("ams", Cause.NO_WORKER, Affected("o", 1, 0), NOW)
    assert text.startswith("No worker lives at ams")
    assert "1 monitor is checked from there, all are seen from elsewhere too" in text
