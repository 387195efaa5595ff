"""What a trace tells of one check, from its slot to its commit, once both are known.

The scheduler's part is told here too, by the time that its message carries: only after the commit is it known whether
a check is worth telling.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from common.broker import queue_name
from common.domain.checks import NOT_REACHED, Kind, Lane, Observation, Verdict
from common.domain.health import Health
from common.tracing import Span, SpanKind, SpanRef, Tracing, Value, in_share, part_of, trace_of
from worker.judge import Judged, Ruling, correlation_id

#: Types whose `code` is an HTTP status.
_HTTP = frozenset({"http", "websocket"})


@dataclass(frozen=True, slots=True)
class Came:
    """How a batch came to this worker; times are Unix milliseconds, database clock, 0 where nobody has said.

    `epoch` is the leader's that sent it, 0 from an API (a check by hand) or another worker (too slow for its lane).
    """

    lane: Lane
    epoch: int
    sent_ms: int
    received_ms: int


@dataclass(frozen=True, slots=True)
class Commit:
    """One flush that is committed: its results with how they came, what they changed, and first failures."""

    began_ms: int
    results: Iterable[tuple[Judged, Came | None]]
    size: int
    rulings: Collection[Ruling]
    failures: Collection[Judged]


class CheckSpans:
    """Tells of the checks that changed something, first failures, and a share of all others."""

    def __init__(self, tracing: Tracing, now_ms: Callable[[], int], location: str) -> None:
        self.now_ms = now_ms
        self._tracing = tracing
        self._location = location

    def committed(self, commit: Commit) -> None:
        """Tell what is worth telling of a flush."""
        share = self._tracing.sampling.checks
        changes = {id(ruling.cause): ruling for ruling in commit.rulings if _tells(ruling)}
        wanted = changes.keys() | {id(judged) for judged in commit.failures}
        if not wanted and not share:
            return
        ended_ms = self.now_ms()
        for judged, came in commit.results:
            if id(judged) in wanted or (share and in_share(correlation_id(judged), share)):
                self._tracing.tell(self._spans(judged, came, commit, ended_ms, changes.get(id(judged))))

    def _spans(
        self, judged: Judged, came: Came | None, commit: Commit, ended_ms: int, ruling: Ruling | None
    ) -> Iterator[Span]:
        trace_id, result = correlation_id(judged), judged.result
        root = part_of(trace_id, "check")
        about = {"tocsin.monitor.id": judged.config.monitor_id, "tocsin.location": self._location}
        asked = trace_of(judged.batch_id)  # the request that asked for it: its id is the batch's
        yield Span(
            root,
            f"check {judged.config.type}",
            result.check.scheduled_at_ms,
            ended_ms,
            attributes={**about, **_identity(judged)},
            links=(part_of(asked, "request"),) if result.check.kind is Kind.MANUAL else (),
        )
        parent = root
        if came is not None:
            parent = part_of(trace_id, "process", str(came.received_ms))
            yield from self._travel(judged, came, root, parent, ended_ms)
        if judged.started_ms:
            yield self._probe(judged, trace_id, parent)
        committed = part_of(trace_id, "commit", str(commit.began_ms))
        stored: Mapping[str, Value] = {"db.system.name": "postgresql", "db.operation.batch.size": commit.size}
        yield Span(committed, "commit", commit.began_ms, ended_ms, parent.span_id, SpanKind.CLIENT, stored)
        if ruling is not None and ruling.incident is not None and (change := ruling.conclusion.change) is not None:
            told = {**about, "tocsin.incident.id": ruling.incident, "tocsin.incident.change": change.value}
            event = part_of(trace_id, "incident")
            yield Span(event, f"incident {change.value}", ended_ms, ended_ms, committed.span_id, attributes=told)

    def _travel(self, judged: Judged, came: Came, root: SpanRef, process: SpanRef, ended_ms: int) -> Iterator[Span]:
        queue = queue_name(came.lane, self._location)
        message: Mapping[str, Value] = {
            "messaging.system": "dramatiq",
            "messaging.destination.name": queue,
            "messaging.message.conversation_id": judged.batch_id,
        }
        others = "api" if judged.result.check.kind is Kind.MANUAL and came.lane is Lane.URGENT else "worker"
        parent = root
        if came.sent_ms:
            parent = part_of(root.trace_id, "send", str(came.sent_ms))
            due_ms, by = judged.result.check.scheduled_at_ms, "scheduler" if came.epoch else others
            yield Span(
                parent, f"send {queue}", min(due_ms, came.sent_ms), came.sent_ms, root.span_id, SpanKind.PRODUCER,
                {**message, "messaging.operation.name": "send", "messaging.operation.type": "send"}, role=by,
            )  # fmt: skip
        taken: Mapping[str, Value] = {
            **message, "messaging.operation.name": "process", "messaging.operation.type": "process",
        }  # fmt: skip
        yield Span(process, f"process {queue}", came.received_ms, ended_ms, parent.span_id, SpanKind.CONSUMER, taken)

    @staticmethod
    def _probe(judged: Judged, trace_id: str, parent: SpanRef) -> Span:
        observation, config = judged.result.observation, judged.config
        # What a target is told of as our span (worker/probes): the latter half of the trace's id.
        ref = SpanRef(trace_id, trace_id[16:])
        return Span(
            ref,
            f"probe {config.type}",
            judged.started_ms,
            judged.result.finished_at_ms,
            parent.span_id,
            SpanKind.CLIENT,
            {"tocsin.monitor.id": config.monitor_id, **_target(config.target), **_seen(config.type, observation)},
            error="" if observation.verdict is Verdict.UP else observation.reason.label,
        )


def _tells(ruling: Ruling) -> bool:
    """Whether a ruling is worth a trace: a monitor's first verdict is none, unless it is bad."""
    if ruling.conclusion.change is not None:
        return True
    return ruling.facts.state.health not in (Health.PENDING, ruling.conclusion.state.health)


def _identity(judged: Judged) -> dict[str, Value]:
    result = judged.result
    return {
        "tocsin.config_version": judged.config.config_version,
        "tocsin.check.kind": result.check.kind.label,
        "tocsin.verdict": result.observation.verdict.label,
        "tocsin.reason": result.observation.reason.label,
    }


def _target(target: str) -> dict[str, Value]:
    """Where a target is, without what may be secret in it: who logs in, path and query."""
    try:
        parts = urlsplit(target if "://" in target else f"//{target}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return {}
    found: dict[str, Value] = {"server.address": host} if host else {}
    if port is not None:
        found["server.port"] = port
    if parts.scheme:
        found["url.scheme"] = parts.scheme
    return found


def _seen(kind: str, observation: Observation) -> dict[str, Value]:
    phases = observation.phases
    spans = {
        "dns": phases.dns_ms,
        "connect": phases.connect_ms,
        "tls": phases.tls_ms,
        "ttfb": phases.ttfb_ms,
        "total": phases.total_ms,
    }
    found: dict[str, Value] = {f"tocsin.phase.{name}_ms": ms for name, ms in spans.items() if ms != NOT_REACHED}
    if observation.address:
        found["network.peer.address"] = observation.address
    if kind in _HTTP and observation.code:
        found["http.response.status_code"] = observation.code
    return found
