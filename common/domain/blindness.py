"""Whether a location sees anything, from what its workers say of themselves; slow to say no, slow to say yes again.

A *glimpse* is what one look shows; a *sight* is what all looks so far have come to. Only a glimpse that fails makes a
location blind, and only one that sees makes it see: a location that has nothing to check just now says neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from common.domain.checks import Reason

#: A worker says so often that it lives (seconds), and is taken for dead when it has not for so long.
SIGN_EVERY_S = 2.0
ALIVE_FOR = timedelta(seconds=10)
#: What a worker says that it saw is that of so many seconds.
WINDOW_S = 10

#: So many of the results in the window could not see, for a reason that is ours: nothing is seen.
FAILING_RATIO = 0.8
BLINDING: frozenset[Reason] = frozenset({Reason.WORKER_NETWORK, Reason.WORKER_STALLED})

#: A location of which so many slots in a row brought no result brings none.
MISSED_SLOTS = 3
LEAST_PATIENCE = timedelta(seconds=10)

#: Nobody has looked for so long (nobody led, the database was away, the machine slept): patience begins anew.
LONGEST_GAP = timedelta(seconds=15)


class Cause(StrEnum):
    """Why a location is blind."""

    NETWORK = "network"  # its workers reach nothing, or stand still
    NO_WORKER = "no_worker"  # none lives
    NO_RESULTS = "no_results"  # they live, and no check is made


class Glimpse(StrEnum):
    """What one look shows."""

    SEES = "sees"
    FAILS = "fails"
    NOTHING_NEW = "nothing_new"  # no result lately, and none was due
    NOTHING_DUE = "nothing_due"  # no monitor is checked from there


@dataclass(frozen=True, slots=True)
class Seen:
    """What the workers of a location say: how many live, what they saw lately, when the newest result was committed.

    `known`: whether any worker ever said something; those of the version before do not, and only their results tell.
    """

    known: bool = False
    workers: int = 0
    saw: int = 0
    blinded: int = 0
    judged_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """Monitors that should have been checked from a location by now, and the least of their intervals."""

    monitors: int = 0
    interval_s: int = 0

    @property
    def patience(self) -> timedelta:
        """How long the newest result may lie back."""
        return max(LEAST_PATIENCE, timedelta(seconds=MISSED_SLOTS * self.interval_s))


@dataclass(frozen=True, slots=True)
class Sight:
    """How a location stands; `failing_since` and `seeing_since` are how long it has been otherwise than it stands."""

    looked_at: datetime
    failing_since: datetime | None = None
    seeing_since: datetime | None = None
    blind_since: datetime | None = None
    cause: Cause | None = None


def plainly_sees(seen: Seen, now: datetime) -> bool:
    """Whether there is nothing to ask further: workers live, results come, and most of them see."""
    fresh = seen.judged_at is not None and now - seen.judged_at < LEAST_PATIENCE
    return seen.workers > 0 and fresh and seen.saw > 0 and not _is_blinded(seen)


def glimpse(seen: Seen, due: Due, now: datetime) -> tuple[Glimpse, Cause | None]:
    """What a look shows, and why it fails."""
    if not due.monitors:
        return Glimpse.NOTHING_DUE, None
    if seen.known and not seen.workers:
        return Glimpse.FAILS, Cause.NO_WORKER
    if seen.judged_at is None or now - seen.judged_at > due.patience:
        return Glimpse.FAILS, Cause.NO_RESULTS if seen.workers else Cause.NO_WORKER
    if _is_blinded(seen):
        return Glimpse.FAILS, Cause.NETWORK
    return (Glimpse.SEES if seen.saw or not seen.known else Glimpse.NOTHING_NEW), None


def judge(sight: Sight, shown: Glimpse, cause: Cause | None, *, now: datetime, patience: timedelta) -> Sight:
    """How the location stands after a look. It is blind, or sees again, after `patience` of nothing to the contrary."""
    if now - sight.looked_at > LONGEST_GAP:
        sight = replace(sight, failing_since=None, seeing_since=None)
    sight = replace(sight, looked_at=now)
    if shown is Glimpse.NOTHING_DUE:
        return Sight(now)
    return _while_seeing(sight, shown, cause, patience) if sight.blind_since is None else _while_blind(
        sight, shown, cause, patience
    )  # fmt: skip


def _while_seeing(sight: Sight, shown: Glimpse, cause: Cause | None, patience: timedelta) -> Sight:
    if shown is Glimpse.FAILS:
        since = sight.failing_since or sight.looked_at
        blind_since = since if sight.looked_at - since >= patience else None
        return replace(sight, failing_since=since, blind_since=blind_since, cause=cause)
    if shown is Glimpse.SEES or sight.cause is not Cause.NETWORK:
        # A worker that is back and has nothing to do yet is back.
        return Sight(sight.looked_at)
    return sight


def _while_blind(sight: Sight, shown: Glimpse, cause: Cause | None, patience: timedelta) -> Sight:
    if shown is Glimpse.FAILS:
        return replace(sight, seeing_since=None, cause=cause)
    if shown is Glimpse.SEES:
        since = sight.seeing_since or sight.looked_at
        return Sight(sight.looked_at) if sight.looked_at - since >= patience else replace(sight, seeing_since=since)
    return sight


def _is_blinded(seen: Seen) -> bool:
    return seen.blinded > 0 and seen.blinded >= FAILING_RATIO * (seen.saw + seen.blinded)


def incident_key(location: str) -> str:
    """The dedup_key of a location's incidents."""
    return f"tocsin:blind:{location}"


@dataclass(frozen=True, slots=True)
class Affected:
    """Whom a blind location concerns: an organization, how many of its monitors, and those seen from nowhere else."""

    org_id: str
    monitors: int
    only_there: int


def told(location: str, cause: Cause, affected: Affected, since: datetime) -> str:
    """What is the matter, for the people of one organization."""
    what = {
        Cause.NETWORK: f"The workers at {location} reach nothing",
        Cause.NO_WORKER: f"No worker lives at {location}",
        Cause.NO_RESULTS: f"The workers at {location} live, and no check is made",
    }[cause]
    count, only = affected.monitors, affected.only_there
    monitors = "1 monitor is" if count == 1 else f"{count} monitors are"
    elsewhere = "all are seen from elsewhere too" if not only else f"{only} of them from nowhere else"
    return (
        f"{what}, since {since:%Y-%m-%d %H:%M:%S} UTC. {monitors} checked from there, {elsewhere}: "
        "what nobody sees is shown as unknown, not as down."
    )
