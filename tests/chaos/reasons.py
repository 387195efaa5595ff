"""Which disturbance can be the reason for what: a dead API delays no check, and a receiver's bad hour loses no slot.

`python -m tests.chaos.document` writes the table of these into docs/reliability.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.chaos.facts import Span

#: Somebody stood still for a moment that nobody meant to: of anything it can be the reason. And a server of which
#: nobody wants anything just then, and that is slow: its trouble like any other (tests/chaos/stutter.py).
MACHINE, SERVER = "harness-lag", "server-lag"
#: Ends of a process that ended by itself, as it was asked to.
_ORDERLY = ("stop", "restart")


def party(span: Span) -> str:
    """Whose trouble it is: a role, postgres, redis, sink or machine."""
    if span.name == MACHINE:
        return "machine"
    return span.target.split("-")[0].split(" ")[0].split("/")[0] or "machine"


def is_nobodys(span: Span) -> bool:
    """Whether it is no fault of the run's, but the machine's: it may come after the last fault as well."""
    return span.name in (MACHINE, SERVER)


def delays_checks(span: Span) -> bool:
    """Whether it can keep checks from being dispatched, made or committed."""
    if span.name.startswith("clock-skew"):
        return True  # a fast clock at a queue declares everybody else dead
    return party(span) in LOSSES and not span.name.startswith("sink-")


def delays_messages(span: Span) -> bool:
    """Whether it can keep a message from being written, sent or heard."""
    return party(span) not in ("api", "flood")


def repeats_messages(span: Span) -> bool:
    """Whether it can keep a notifier from hearing the answer, or from committing what came of it.

    A notifier that was asked to stop ends what it has begun; an order to die that nobody met kills nobody; and a
    receiver that has said "taken" as a whole has been heard, unless the way back (`sink`) was broken.
    """
    if span.target.startswith("notifier"):
        return span.name not in (*_ORDERLY, "failpoint")
    return span.target in ("postgres", "sink") or span.name == MACHINE


@dataclass(frozen=True, slots=True)
class Loss:
    """Slots that one party's trouble can cost: due from `before_s` before it began to `after_s` after it ended.

    `most_s`: however long it lasts, it costs no slot due later than this after its beginning.
    """

    before_s: float
    after_s: float
    why: str
    most_s: float = float("inf")


#: A check that was fetched is made within its timeout (2 s at the most in these runs), and its commit follows at once.
_UNDER_WAY_S = 3.0
#: Who stands still no longer than this keeps a lease that he has.
_LEASE_KEPT_S = 2.0

LOSSES: dict[str, Loss] = {
    "worker": Loss(
        _UNDER_WAY_S, _UNDER_WAY_S,
        "what it had fetched comes back after its heartbeat's 15 s, when a slot's 10 s are over; the other worker, or "
        "itself when it is back, makes what is due later",
    ),
    "scheduler": Loss(
        0.5, 7.0,
        "a new leader is there within 7 s and dispatches each monitor's latest slot, not those before it",
        most_s=7.5,
    ),
    "redis": Loss(
        _UNDER_WAY_S, 8.0,
        "what waited in it is gone, or cannot be fetched; everybody connects again, which takes seconds",
    ),
    "postgres": Loss(
        _UNDER_WAY_S, 10.0,
        "after a crash it needs a second or two to recover, and a lease that ran out meanwhile has a new holder within "
        "7 s; the last commits of results are not durable (0.6 s)",
    ),
    "machine": Loss(
        _UNDER_WAY_S, 10.0,
        "everybody stood still, or one of us, the endpoints perhaps; after more than 2 s a lease may have to be taken "
        "anew, after less it is as with a worker",
    ),
}  # fmt: skip


#: What a worker cannot reach is unknown, and stored; what is pushed or moved in a queue is lost by nobody.
_COSTS_NOTHING = ("egress", "queue-")


def costs_slot(span: Span, due_at: float) -> bool:
    """Whether a slot can be missing for it."""
    if span.name.startswith("clock-skew"):
        return span.begin - _UNDER_WAY_S <= due_at <= span.end + LOSSES["redis"].after_s
    loss = LOSSES.get(party(span))
    if loss is None or span.name.startswith(_COSTS_NOTHING):
        return False
    after_s = loss.after_s
    if span.name == MACHINE and span.end - span.begin <= _LEASE_KEPT_S:
        after_s = _UNDER_WAY_S
    latest = min(span.end + after_s, span.begin + loss.most_s)
    return span.begin - loss.before_s <= due_at <= latest


def costs_result(span: Span) -> bool:
    """Whether a check that was made can be lost before its result is committed."""
    return party(span) in ("worker", "postgres", "machine") and not span.name.startswith("egress")
