"""Which disturbance can be the reason for what: a dead API delays no check, and a receiver's bad hour loses no slot."""

from __future__ import annotations

from tests.chaos.facts import Span

#: Someone who stands still for a moment on the whole machine: of anything it can be the reason.
_MACHINE = "harness-lag"


def delays_checks(span: Span) -> bool:
    """Whether it can keep checks from being dispatched, made or committed."""
    if span.name.startswith("clock-skew"):
        return True  # a fast clock at a queue declares everybody else dead
    return not (span.target.startswith(("api", "notifier")) or span.target == "sink" or span.name.startswith("sink-"))


def delays_messages(span: Span) -> bool:
    """Whether it can keep a message from being written, sent or heard."""
    return not span.target.startswith("api")


def repeats_messages(span: Span) -> bool:
    """Whether it can keep a notifier from hearing the answer, or from committing what came of it.

    A notifier that was asked to stop ends what it has begun; an order to die that nobody met kills nobody; and a
    receiver that has said "taken" as a whole has been heard, unless the way back (`sink`) was broken.
    """
    if span.target.startswith("notifier"):
        return span.name not in ("stop", "restart", "failpoint")
    return span.target in ("postgres", "sink") or span.name == _MACHINE
