"""One trace from slot to webhook, through every process, as a collector gets it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from tests.collector import Collector, Told
from tests.e2e.endpoint import Endpoint
from tests.e2e.stack import Api, Stack, running, wait_for
from tests.sink import Received, Sink

CALLER = "11111111111111111111111111111111", "2222222222222222"
PASSWORD = "correct-horse-battery"


@dataclass
class Outage:
    """One monitor with a password in its query, that failed and recovered; and one that was always well."""

    stack: Stack
    api: Api
    collector: Collector
    monitor_id: str = ""
    well_id: str = ""
    check_id: str = ""
    webhooks: list[Received] = field(default_factory=list)

    def live_through(self, endpoint: Endpoint, sink: Sink) -> None:
        self.api.post("/channels", {"type": "webhook", "name": "here", "config": {"url": sink.url("/traced")}})
        target = f"{endpoint.url('/traced')}?token={PASSWORD}"
        self.monitor_id = self.api.add_monitor(target, name="shop", failure_threshold=1)
        self.well_id = self.api.add_monitor(endpoint.url("/well"))
        self.api.await_state(self.monitor_id, "up")
        self.api.await_state(self.well_id, "up")
        self.api.session.headers["traceparent"] = f"00-{CALLER[0]}-{CALLER[1]}-01"
        self.check_id = self.api.post(f"/monitors/{self.well_id}/check")["check_id"]
        del self.api.session.headers["traceparent"]
        endpoint.breaks("/traced")
        wait_for(lambda: sink.accepted("/traced"), "a webhook")
        endpoint.mends("/traced")
        self.webhooks = wait_for(lambda: len(got := sink.accepted("/traced")) == 2 and got, "two webhooks")

    def trace(self, trace_id: str, *names: str) -> dict[str, Told]:
        """A trace's spans by name, once all of these have come: each process sends its own when it comes to it."""

        def found() -> dict[str, Told]:
            spans = {span.name: span for span in self.collector.trace(trace_id)}
            return spans if spans.keys() >= set(names) else {}

        spans: dict[str, Told] = wait_for(found, f"{names} in {trace_id}")
        return spans


@pytest.fixture(scope="module")
def outage(endpoint: Endpoint, sink: Sink) -> Iterator[Outage]:
    with (
        Collector() as collector,
        running(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="200") as stack,
    ):
        outage = Outage(stack, stack.api(), collector)
        outage.live_through(endpoint, sink)
        yield outage


CHAIN = (
    ("check http", None, "tocsin-worker", "INTERNAL"),
    ("send checks.local", "check http", "tocsin-scheduler", "PRODUCER"),
    ("process checks.local", "send checks.local", "tocsin-worker", "CONSUMER"),
    ("probe http", "process checks.local", "tocsin-worker", "CLIENT"),
    ("commit", "process checks.local", "tocsin-worker", "CLIENT"),
    ("incident opened", "commit", "tocsin-worker", "INTERNAL"),
    ("relay opened", "incident opened", "tocsin-notifier", "INTERNAL"),
    ("notify webhook", "relay opened", "tocsin-notifier", "INTERNAL"),
    ("deliver webhook", "notify webhook", "tocsin-notifier", "CLIENT"),
)
NAMES = [name for name, *_ in CHAIN]
#: Half of the longest answer by which a process measures the database's time (common/clock.py).
MEASURED_WITHIN_MS = 500


def test_one_trace_leads_from_the_slot_to_the_webhook(outage: Outage) -> None:
    _, trace_id, span_id, flags = outage.webhooks[0].headers["traceparent"].split("-")
    spans = outage.trace(trace_id, *NAMES)
    for name, parent, service, kind in CHAIN:
        span = spans[name]
        assert (span.service, span.kind) == (service, kind), name
        assert span.parent_id == (spans[parent].span_id if parent else ""), name
        assert span.start_ms <= span.end_ms
    assert len(outage.collector.trace(trace_id)) == len(CHAIN)
    # What the receiver was told of is the notification's span: whatever it does with it is a part of this trace.
    assert (span_id, flags) == (spans["notify webhook"].span_id, "01")


def test_its_spans_follow_one_another_in_time(outage: Outage) -> None:
    spans = outage.trace(outage.webhooks[0].headers["traceparent"].split("-")[1], *NAMES)
    starts = [spans[name].start_ms for name, *_ in CHAIN if name not in ("incident opened", "relay opened")]
    # Database time everywhere, which each process has measured, as exactly as it was answered just then; the event's
    # own time is when its check was over.
    assert all(later >= earlier - MEASURED_WITHIN_MS for earlier, later in pairwise(starts)), starts
    assert spans["deliver webhook"].end_ms - spans["check http"].start_ms < 100_000


def test_attributes_say_what_happened_in_names_of_the_conventions(outage: Outage) -> None:
    spans = outage.trace(outage.webhooks[0].headers["traceparent"].split("-")[1], *NAMES)
    probe, check, deliver = (spans[name] for name in ("probe http", "check http", "deliver webhook"))
    assert probe.attributes["http.response.status_code"] == 503
    assert probe.attributes["server.address"] == "127.0.0.1"
    assert (probe.is_error, probe.attributes["error.type"]) == (True, "status_mismatch")
    assert check.attributes["tocsin.monitor.id"] == outage.monitor_id
    assert check.attributes["tocsin.verdict"] == "down"
    assert spans["incident opened"].attributes["tocsin.incident.id"] == deliver.attributes["tocsin.incident.id"]
    assert (deliver.is_error, deliver.attributes["tocsin.attempt"]) == (False, 1)


def test_no_span_holds_a_secret(outage: Outage) -> None:
    outage.trace(outage.webhooks[1].headers["traceparent"].split("-")[1], "notify webhook")
    told = b"".join(outage.collector.bodies)
    for secret in (PASSWORD, outage.api.session.headers["Authorization"].split()[1], "whsec_"):
        assert str(secret).encode() not in told


def test_a_check_that_changed_nothing_is_not_told(outage: Outage) -> None:
    results = outage.api.items(f"/monitors/{outage.well_id}/results")
    assert results
    assert [span for each in results for span in outage.collector.trace(each["trace_id"])] == []


def test_a_request_joins_its_callers_trace_and_is_linked_to_what_it_brings_about(outage: Outage) -> None:
    name = "POST /v1/monitors/<monitor_id>/check"
    spans = outage.trace(CALLER[0], name)
    server = spans[name]
    assert (server.service, server.kind, server.parent_id) == ("tocsin-api", "SERVER", CALLER[1])
    assert server.attributes["http.response.status_code"] == 202
    ((own_trace, own_span),) = server.links
    (own,) = wait_for(lambda: outage.collector.trace(own_trace), "the request's own trace")
    assert (own.span_id, own.links) == (own_span, ((server.trace_id, server.span_id),))


def test_a_collector_that_goes_away_costs_nothing_but_its_spans(outage: Outage, endpoint: Endpoint, sink: Sink) -> None:
    outage.collector.status = 400
    endpoint.breaks("/traced")
    webhooks: list[Any] = wait_for(lambda: len(got := sink.accepted("/traced")) == 3 and got, "a webhook all the same")
    endpoint.mends("/traced")
    wait_for(lambda: len(sink.accepted("/traced")) == 4, "the recovery")
    lost = wait_for(lambda: "traces_lost" in outage.stack.log.read_text(), "a line that says so")
    assert lost
    assert outage.collector.trace(webhooks[2].headers["traceparent"].split("-")[1]) == []
    outage.collector.status = 200
    endpoint.breaks("/traced")
    webhooks = wait_for(lambda: len(got := sink.accepted("/traced")) == 5 and got, "one more")
    outage.trace(webhooks[4].headers["traceparent"].split("-")[1], "notify webhook")
    outage.stack.stop(within_s=60)
