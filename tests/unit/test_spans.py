"""What worker and notifier tell of a check and its notifications, seen through OpenTelemetry's in-memory exporter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from common.clock import to_ms
from common.domain.checks import Check, Kind, Lane, Observation, Phases, Reason, Result, Verdict
from common.domain.delivery import Attempt, Outcome, Standing, after_attempt
from common.domain.health import Change, Conclusion, Health, Policy, State
from common.domain.monitors import MonitorConfig
from common.otlp import OtlpOutlet
from common.store.notifications import Claimed
from common.store.settlements import Settlement
from common.store.votes import MonitorFacts
from common.tracing import Sampling, Tracing, part_of, trace_of
from notifier.spans import DeliverySpans
from worker.judge import Judged, Ruling, correlation_id
from worker.spans import Came, CheckSpans, Commit

SLOT_MS = 1_700_000_000_000
SECRET = "correct-horse-battery"
CONFIG = MonitorConfig(
    monitor_no=7, monitor_id="m-7", org_id="o-1", config_version=3, type="http", name="Shop",
    target=f"https://someone:{SECRET}@shop.example:8443/{SECRET}?key={SECRET}#{SECRET}", interval_s=30, timeout_s=10,
    policy=Policy(), locations=(1,), secrets=(SECRET,),
)  # fmt: skip
FAST = Came(Lane.FAST, 3, SLOT_MS + 20, SLOT_MS + 40)


class Told:
    """An outlet to memory, and what it has got."""

    def __init__(self, checks: float = 0.0) -> None:
        self.memory = InMemorySpanExporter()
        self.tracing = Tracing(OtlpOutlet(SimpleSpanProcessor(self.memory), "test"), Sampling(checks, 1.0))
        self.check_spans = CheckSpans(self.tracing, lambda: SLOT_MS + 200, "local")

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.memory.get_finished_spans()}

    def commit(
        self,
        *judged: Judged,
        came: Came | None = FAST,
        rulings: tuple[Ruling, ...] = (),
        failures: tuple[Judged, ...] = (),
    ) -> dict[str, ReadableSpan]:
        results = ((one, came) for one in judged)
        self.check_spans.committed(Commit(SLOT_MS + 150, results, len(judged), rulings, failures))
        return self.spans


def judged(verdict: Verdict = Verdict.UP, *, slot: int = 0, kind: Kind = Kind.SCHEDULED, batch: str = "b") -> Judged:
    reason = Reason.NONE if verdict is Verdict.UP else Reason.STATUS_MISMATCH
    observation = Observation(
        verdict, reason, f"answered {SECRET}", 503, Phases(dns_ms=1.5, total_ms=12.5), address="192.0.2.1"
    )
    at_ms = SLOT_MS + slot * 30_000
    return Judged(Result(Check(7, 3, at_ms, kind), 1, observation, at_ms + 120), CONFIG, batch, at_ms + 50)


def ruling(cause: Judged, before: Health, after: Health, change: Change | None, incident: str | None = None) -> Ruling:
    facts = MonitorFacts(7, "m-7", "o-1", "Shop", "critical", State(before), None, None)
    return Ruling(facts, Conclusion(State(after), change), cause, incident)


def test_a_flush_in_which_nothing_changed_is_not_told() -> None:
    assert Told().commit(judged(), judged(Verdict.DOWN, slot=1)) == {}


def test_a_share_of_the_checks_that_changed_nothing_is_told() -> None:
    told = Told(checks=0.25)
    told.commit(*(judged(slot=slot) for slot in range(400)))
    traces = {span.context.trace_id for span in told.memory.get_finished_spans()}
    assert 60 < len(traces) < 140
    again = Told(checks=0.25)
    again.commit(*(judged(slot=slot) for slot in range(400)))
    assert {span.context.trace_id for span in again.memory.get_finished_spans()} == traces


def test_a_first_failure_is_told_without_an_incident() -> None:
    failed = judged(Verdict.DOWN)
    spans = Told().commit(judged(slot=1), failed, failures=(failed,))
    assert set(spans) == {"check http", "send checks.local", "process checks.local", "probe http", "commit"}
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {correlation_id(failed)}


CHANGES = (
    (Health.UP, Health.DOWN, Change.OPENED, True),
    (Health.DOWN, Health.UP, Change.RESOLVED, True),
    (Health.PENDING, Health.DOWN, Change.OPENED, True),
    (Health.RELEASED, Health.UP, None, True),
    (Health.PENDING, Health.UP, None, False),  # every monitor's first: a thousand new ones are no news
    (Health.UP, Health.UP, None, False),
)


@pytest.mark.parametrize(("before", "after", "change", "told"), CHANGES)
def test_what_changes_a_monitor_is_told(before: Health, after: Health, change: Change | None, told: bool) -> None:
    cause = judged(Verdict.DOWN)
    spans = Told().commit(cause, rulings=(ruling(cause, before, after, change, "i-1"),))
    assert bool(spans) is told
    assert (f"incident {change.value}" in spans if change else True) is True


def test_nothing_of_a_target_but_its_place_is_told() -> None:
    failed = judged(Verdict.DOWN)
    told = Told()
    probe = told.commit(failed, failures=(failed,))["probe http"]
    assert dict(probe.attributes) == {
        "tocsin.monitor.id": "m-7",
        "server.address": "shop.example",
        "server.port": 8443,
        "url.scheme": "https",
        "network.peer.address": "192.0.2.1",
        "http.response.status_code": 503,
        "tocsin.phase.dns_ms": 1.5,
        "tocsin.phase.total_ms": 12.5,
        "error.type": "status_mismatch",
    }
    assert SECRET not in "".join(span.to_json() for span in told.memory.get_finished_spans())


TARGETS = (
    ("db.example:5432", {"server.address": "db.example", "server.port": 5432}),
    ("example.com", {"server.address": "example.com"}),
    ("[2001:db8::1]:25", {"server.address": "2001:db8::1", "server.port": 25}),
    ("http://[bad", {}),
    ("", {}),
)


@pytest.mark.parametrize(("target", "place"), TARGETS)
def test_targets_of_every_kind_have_a_place_or_none(target: str, place: dict[str, object]) -> None:
    failed = judged(Verdict.DOWN)
    failed.config = replace(CONFIG, target=target)
    probe = Told().commit(failed, failures=(failed,))["probe http"]
    assert {name: value for name, value in probe.attributes.items() if name.startswith("server.")} == place


SENDERS = (
    (Kind.SCHEDULED, Lane.FAST, 3, "tocsin-scheduler"),
    (Kind.CONFIRM, Lane.URGENT, 3, "tocsin-scheduler"),
    (Kind.SCHEDULED, Lane.SLOW, 3, "tocsin-scheduler"),  # known to be slow
    (Kind.SCHEDULED, Lane.SLOW, 0, "tocsin-worker"),  # was too slow for its lane
    (Kind.MANUAL, Lane.URGENT, 0, "tocsin-api"),
    (Kind.MANUAL, Lane.SLOW, 0, "tocsin-worker"),
)


@pytest.mark.parametrize(("kind", "lane", "epoch", "service"), SENDERS)
def test_who_sent_it_is_told_as_the_sender(kind: Kind, lane: Lane, epoch: int, service: str) -> None:
    failed = judged(Verdict.DOWN, kind=kind)
    spans = Told().commit(failed, came=replace(FAST, lane=lane, epoch=epoch), failures=(failed,))
    (sent,) = (span for name, span in spans.items() if name.startswith("send "))
    assert sent.resource.attributes["service.name"] == service


def test_a_check_by_hand_is_linked_to_the_request_that_asked_for_it() -> None:
    asked = judged(kind=Kind.MANUAL, batch="rid-1")
    (link,) = Told(checks=1.0).commit(asked)["check http"].links
    request = part_of(trace_of("rid-1"), "request")
    assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == (request.trace_id, request.span_id)


def test_what_came_by_no_queue_has_no_travel_and_what_was_not_probed_no_probe() -> None:
    missed = replace(judged(Verdict.DOWN), started_ms=0)
    spans = Told().commit(missed, came=None, failures=(missed,))
    assert set(spans) == {"check http", "commit"}
    assert spans["commit"].parent.span_id == spans["check http"].context.span_id


AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
CHECK_TRACE = "d" * 32
#: A UUIDv7 that was made 40 ms after AT.
WRITTEN = to_ms(AT) + 40
NOTIFICATION = str(UUID(int=(WRITTEN << 80) | (7 << 76) | (2 << 62) | 0x1234))
SECOND = str(UUID(int=(WRITTEN << 80) | (7 << 76) | (2 << 62) | 0x5678))
MESSAGE = str(UUID(int=(WRITTEN << 80) | (7 << 76) | (2 << 62) | 0x9ABC))


def claim(id_: str = NOTIFICATION, correlation: str = CHECK_TRACE, number: int = 1) -> Claimed:
    return Claimed(
        id=id_, org_id="o-1", incident_id="i-1", channel_id="c-1", event_type="opened", number=number,
        first_attempt_at=AT, lease_token="t", channel_type="webhook", channel_config={"url": f"http://x/{SECRET}"},
        channel_secrets=None, failures=0, failing_since=None, event_id="e-1", event_at=AT, snapshot=None,
        correlation_id=correlation,
    )  # fmt: skip


def settled(of: Claimed, attempt: Attempt, *, ours: bool = True) -> tuple[dict[str, ReadableSpan], list[ReadableSpan]]:
    told = Told()
    now: Callable[[], datetime] = lambda: AT + timedelta(seconds=1)  # noqa: E731
    decision = after_attempt(attempt, Standing(of.first_attempt_at, of.failures, of.failing_since), AT)
    settlement = Settlement(of, attempt, decision, 250.0, AT + timedelta(milliseconds=900))
    DeliverySpans(told.tracing, now).settled(settlement, ours=ours)
    return told.spans, list(told.memory.get_finished_spans())


def test_a_delivery_goes_on_in_the_trace_of_the_check() -> None:
    spans, told = settled(claim(), Attempt(Outcome.DELIVERED, 204))
    relay, notify, deliver = (spans[name] for name in ("relay opened", "notify webhook", "deliver webhook"))
    assert len(told) == 3
    assert f"{relay.parent.span_id:016x}" == part_of(CHECK_TRACE, "incident").span_id
    assert (relay.end_time, notify.start_time) == (WRITTEN * 1_000_000, WRITTEN * 1_000_000)
    assert f"{notify.context.span_id:016x}" == NOTIFICATION.replace("-", "")[-16:]
    assert deliver.parent.span_id == notify.context.span_id
    assert (deliver.end_time - deliver.start_time) / 1e6 == 250
    assert deliver.attributes["http.response.status_code"] == 204
    assert all(SECRET not in span.to_json() for span in told)


def test_an_attempt_that_is_tried_again_is_told_alone() -> None:
    spans, told = settled(claim(), Attempt(Outcome.FAILED, 503))
    assert len(told) == 1
    assert spans["deliver webhook"].attributes["error.type"] == "failed"
    last, _ = settled(claim(number=2), Attempt(Outcome.DELIVERED, 200))
    assert spans["deliver webhook"].context.span_id != last["deliver webhook"].context.span_id
    assert spans["deliver webhook"].parent.span_id == last["notify webhook"].context.span_id


def test_who_lost_its_lease_tells_its_attempt_and_not_the_end() -> None:
    assert list(settled(claim(), Attempt(Outcome.DELIVERED, 200), ours=False)[0]) == ["deliver webhook"]


def test_one_that_is_dead_is_told_as_an_error() -> None:
    spans, _ = settled(claim(), Attempt(Outcome.REJECTED, 404))
    assert spans["notify webhook"].attributes["tocsin.notification.status"] == "dead"
    assert spans["notify webhook"].status.is_ok is False


def test_what_a_request_brought_about_goes_on_in_the_requests_trace() -> None:
    spans, _ = settled(claim(correlation="rid-1"), Attempt(Outcome.DELIVERED, 200))
    relay = spans["relay opened"]
    request = part_of(trace_of("rid-1"), "request")
    assert (f"{relay.context.trace_id:032x}", f"{relay.parent.span_id:016x}") == (request.trace_id, request.span_id)


def test_those_that_leave_in_one_message_stay_in_their_traces_and_are_linked_to_it() -> None:
    other = claim(SECOND, "e" * 32)
    group = replace(claim(), message_id=MESSAGE, others=(replace(other, message_id=MESSAGE),))
    _, told = settled(group, Attempt(Outcome.DELIVERED, 200))
    first, second = (span for span in told if span.name == "notify webhook")
    assert f"{first.context.span_id:016x}" == MESSAGE.replace("-", "")[-16:]  # as the receiver is told
    assert f"{second.context.trace_id:032x}" == "e" * 32
    ((link),) = second.links
    assert (link.context.trace_id, link.context.span_id) == (first.context.trace_id, first.context.span_id)
