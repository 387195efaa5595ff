"""What a trace tells of a notification: led into the ledger, each attempt, and what came of it.

It goes on in the trace that the event's correlation id stands for: that of the check that changed the incident, or of
the request that did. When a relay wrote the row is in the row's own id, which is a UUIDv7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from common.clock import to_ms
from common.domain.delivery import Outcome
from common.domain.matching import LedgerStatus
from common.store.notifications import Claimed
from common.store.settlements import Settlement
from common.tracing import Span, SpanKind, SpanRef, Tracing, Value, part_of, trace_of


class DeliverySpans:
    """Tells of every attempt, and of every notification that is through."""

    def __init__(self, tracing: Tracing, now: Callable[[], datetime]) -> None:
        self._tracing = tracing
        self._now = now

    def settled(self, settlement: Settlement, *, ours: bool) -> None:
        """An attempt that is committed; `ours`: what it came to is what counts."""
        ended_ms = to_ms(self._now())
        for claim in settlement.claim.together:
            self._tracing.tell(_spans(claim, settlement, ended_ms, ours=ours))


def _spans(claim: Claimed, settlement: Settlement, ended_ms: int, *, ours: bool) -> Iterator[Span]:
    about: Mapping[str, Value] = {
        "tocsin.incident.id": claim.incident_id,
        "tocsin.event.type": claim.event_type,
        "tocsin.notification.id": claim.id,
        "tocsin.channel.id": claim.channel_id,
        "tocsin.channel.type": claim.channel_type,
    }
    trace_id = trace_of(claim.correlation_id)
    notification = SpanRef(trace_id, _told_as(claim, settlement))
    yield _attempt(claim, settlement, notification, about)
    decision = settlement.decision
    if not ours or decision.status is LedgerStatus.PENDING:
        return  # it is tried again; the notification is told when it is through
    written_ms = _written_ms(claim.id)
    relay = part_of(trace_id, "relay", claim.id)
    # Whoever changed the incident has told of it as one of these two (worker/spans.py, api/server_spans.py).
    came_by = part_of(trace_id, "incident" if trace_id == claim.correlation_id else "request")
    began_ms = min(to_ms(claim.event_at), written_ms)
    yield Span(relay, f"relay {claim.event_type}", began_ms, written_ms, came_by.span_id, attributes=about)
    sent = decision.status is LedgerStatus.SENT
    first = settlement.claim
    yield Span(
        notification,
        f"notify {claim.channel_type}",
        written_ms,
        ended_ms,
        relay.span_id,
        attributes={**about, "tocsin.notification.status": decision.status.value},
        error="" if sent else decision.reason.value,
        # Others of a group leave in the first one's message.
        links=() if claim is first else (SpanRef(trace_of(first.correlation_id), _told_as(first, settlement)),),
    )


def _attempt(claim: Claimed, settlement: Settlement, notification: SpanRef, about: Mapping[str, Value]) -> Span:
    attempt, at_ms = settlement.attempt, to_ms(settlement.at)
    seen: dict[str, Value] = {"tocsin.attempt": claim.number}
    if attempt.status_code is not None:
        seen["http.response.status_code"] = attempt.status_code
    return Span(
        part_of(notification.trace_id, "attempt", claim.id, str(claim.number)),
        f"deliver {claim.channel_type}",
        at_ms - settlement.duration_ms,
        at_ms,
        notification.span_id,
        SpanKind.CLIENT,
        {**about, **seen},
        error="" if attempt.outcome is Outcome.DELIVERED else attempt.outcome.value,
    )


def _told_as(claim: Claimed, settlement: Settlement) -> str:
    """The span's id that receivers are told (common/channels/webhook.py): the message's, which the first one leads."""
    told = (claim.message_id or claim.id) if claim is settlement.claim else claim.id
    return told.replace("-", "")[-16:]


def _written_ms(notification_id: str) -> int:
    return int(notification_id.replace("-", "")[:12], 16)
