"""Whether traces are told, which, and under which ids; and what it costs where nobody wants them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from structlog.testing import capture_logs

from common.domain.errors import SettingsError
from common.domain.traces import check_id
from common.otlp import CLOSE_S, OtlpOutlet, Watched
from common.tracing import (
    Sampling,
    Span,
    SpanKind,
    SpanRef,
    in_share,
    open_tracing,
    part_of,
    read_sampling,
    read_traceparent,
    trace_of,
)
from tests.targets import free_port

TRACE, OTHER = "a" * 31 + "1", "b" * 32
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}

OFF = (
    {},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
    {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
    {**ENDPOINT, "OTEL_TRACES_SAMPLER": "always_off"},
    {"OTEL_SERVICE_NAME": "ours"},  # says how, not whether
)


@pytest.mark.parametrize("environ", OFF)
def test_without_being_asked_for_nothing_is_told(environ: Mapping[str, str]) -> None:
    assert open_tracing("worker", environ) is None


@pytest.mark.parametrize("environ", [ENDPOINT, {"OTEL_TRACES_EXPORTER": "otlp"}])
def test_an_endpoint_or_an_exporter_switches_it_on(environ: Mapping[str, str]) -> None:
    tracing = open_tracing("worker", environ)
    assert tracing is not None
    assert tracing.sampling == Sampling(checks=0.0, requests=1.0)
    tracing.close()


WRONG = (
    ({**ENDPOINT, "OTEL_TRACES_SAMPLER": "sometimes"}, "OTEL_TRACES_SAMPLER: must be one of always_on,"),
    ({**ENDPOINT, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, "a number from 0 to 1"),
    ({**ENDPOINT, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "x"}, "a number from 0 to 1"),
    ({**ENDPOINT, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"}, "a number from 0 to 1"),
    ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL: only http/protobuf"),
    ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: zipkin is not spoken"),
)


@pytest.mark.parametrize(("environ", "said"), WRONG)
def test_a_wrong_variable_stops_the_start_with_a_line(environ: Mapping[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        open_tracing("worker", environ)


SAMPLERS = (
    ("", "", Sampling(0.0, 1.0)),  # ours: what changes something, every delivery, every request
    ("always_on", "", Sampling(1.0, 1.0, by_parent=False)),
    ("traceidratio", "0.25", Sampling(0.25, 0.25, by_parent=False)),
    ("parentbased_traceidratio", "0.25", Sampling(0.25, 0.25)),
    ("parentbased_traceidratio", "", Sampling(1.0, 1.0)),  # the specification's default
    ("parentbased_always_on", "0.25", Sampling(1.0, 1.0)),  # takes no argument
    ("parentbased_always_off", "", Sampling(0.0, 0.0)),
)


@pytest.mark.parametrize(("name", "argument", "sampling"), SAMPLERS)
def test_samplers_mean_what_they_mean_elsewhere(name: str, argument: str, sampling: Sampling) -> None:
    assert read_sampling({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}) == sampling


def test_a_share_takes_the_traces_that_every_sdk_takes() -> None:
    for share in (0.0, 0.1, 0.5, 1.0):
        sampler = TraceIdRatioBased(share)
        ids = [check_id("m", 1, slot) for slot in range(300)]
        theirs = [sampler.should_sample(None, int(id_, 16), "x").decision is Decision.RECORD_AND_SAMPLE for id_ in ids]
        assert [in_share(id_, share) for id_ in ids] == theirs


HEADERS = (
    (f"00-{TRACE}-{'c' * 16}-01", (SpanRef(TRACE, "c" * 16), True)),
    (f"00-{TRACE}-{'c' * 16}-00", (SpanRef(TRACE, "c" * 16), False)),
    (f"01-{TRACE}-{'c' * 16}-03-more", (SpanRef(TRACE, "c" * 16), True)),  # a later version, read as this one
    (f"00-{TRACE}-{'c' * 16}-01-more", None),
    (f"ff-{TRACE}-{'c' * 16}-01", None),
    (f"00-{'0' * 32}-{'c' * 16}-01", None),
    (f"00-{TRACE}-{'0' * 16}-01", None),
    (f"00-{TRACE.upper()}-{'c' * 16}-01", None),
    ("", None),
    ("x" * 10_000, None),
)


@pytest.mark.parametrize(("header", "read"), HEADERS)
def test_a_callers_traceparent_is_read_by_the_standard(header: str, read: object) -> None:
    assert read_traceparent(header) == read


def test_a_check_is_its_own_trace_and_a_request_is_one_by_its_id() -> None:
    assert trace_of(TRACE) == TRACE
    assert trace_of("rid-1") == trace_of("rid-1") != trace_of("rid-2")
    assert len(trace_of("\ud800")) == 32  # a header may hold anything
    assert part_of(TRACE, "a", "b") == part_of(TRACE, "a", "b")
    assert len({part_of(TRACE, "a").span_id, part_of(TRACE, "b").span_id, part_of(OTHER, "a").span_id}) == 3


def test_a_span_keeps_its_ids_times_and_owner() -> None:
    memory = InMemorySpanExporter()
    outlet = OtlpOutlet(SimpleSpanProcessor(memory), "worker")
    root = part_of(TRACE, "check")
    outlet.put(Span(root, "check http", 1_000, 2_000.5))
    outlet.put(
        Span(
            part_of(TRACE, "send"), "send checks.local", 1_000, 500, root.span_id, SpanKind.PRODUCER,
            {"n": 1}, error="timeout", role="scheduler", links=(SpanRef(OTHER, "c" * 16),),
        )
    )  # fmt: skip
    first, second = memory.get_finished_spans()
    assert (f"{first.context.trace_id:032x}", f"{first.context.span_id:016x}") == (TRACE, root.span_id)
    assert (first.parent, first.start_time, first.end_time) == (None, 1_000_000_000, 2_000_500_000)
    assert f"{second.parent.span_id:016x}" == root.span_id
    assert (second.start_time, second.end_time) == (1_000_000_000, 1_000_000_000)  # never ends before it begins
    assert dict(second.attributes) == {"n": 1, "error.type": "timeout"}
    assert [f"{link.context.trace_id:032x}" for link in second.links] == [OTHER]
    assert [span.resource.attributes["service.name"] for span in (first, second)] == [
        "tocsin-worker",
        "tocsin-scheduler",
    ]


def test_a_service_name_that_is_given_is_every_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
    memory = InMemorySpanExporter()
    OtlpOutlet(SimpleSpanProcessor(memory), "worker", service="watch").put(Span(part_of(TRACE, "x"), "x", 1, 2))
    (span,) = memory.get_finished_spans()
    attributes = span.resource.attributes
    assert (attributes["service.name"], attributes["tocsin.role"]) == ("watch", "worker")
    assert attributes["deployment.environment.name"] == "staging"


HANGS_S = CLOSE_S + 28


class Stuck(SpanExporter):
    """A collector that never answers."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        time.sleep(HANGS_S)
        return SpanExportResult.FAILURE


def test_a_collector_that_hangs_holds_up_nobody_and_memory_stays_bounded() -> None:
    processor = BatchSpanProcessor(Stuck(), max_queue_size=1_000)
    outlet = OtlpOutlet(processor, "worker")
    began = time.monotonic()
    with capture_logs():
        for number in range(3_000):
            outlet.put(Span(part_of(TRACE, str(number)), "x", 1, 2))
    assert time.monotonic() - began < 20
    assert len(processor._batch_processor._queue) <= 1_000
    began = time.monotonic()
    outlet.close()
    assert time.monotonic() - began < HANGS_S - 5


def test_a_collector_that_is_away_does_not_hold_up_the_end() -> None:
    tracing = open_tracing("worker", {**ENDPOINT, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"})
    assert tracing is not None
    tracing.tell([Span(part_of(TRACE, "x"), "x", 1, 2)])
    began = time.monotonic()
    tracing.close()
    assert time.monotonic() - began < HANGS_S - 5


class Flaky(SpanExporter):
    """A collector that fails as often as it is told."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.failures -= 1
        return SpanExportResult.SUCCESS if self.failures < 0 else SpanExportResult.FAILURE


def test_lost_spans_are_said_once_and_so_is_the_recovery() -> None:
    exporter = Watched(Flaky(3))
    span = ReadableSpan("x")
    with capture_logs() as lines:
        for _ in range(5):
            exporter.export([span, span])
    assert [(line["event"], line.get("lost")) for line in lines] == [("traces_lost", None), ("traces_taken_again", 6)]


def test_nothing_of_the_sdk_is_loaded_unless_it_is_asked_for() -> None:
    # Some libraries look for OpenTelemetry's API by themselves where it is installed: that is not ours to prevent.
    code = (
        "import sys, api.app, scheduler.app, worker.app, notifier.app; from common.tracing import open_tracing\n"
        "assert open_tracing('worker', {}) is None\n"
        "named = ('common.otlp', 'opentelemetry.sdk.trace', 'opentelemetry.exporter', 'google.protobuf')\n"
        "print([name for name in named if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_without_the_extra_the_start_says_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None; from common.tracing import open_tracing\n"
        f"try: open_tracing('worker', {ENDPOINT})\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert said.startswith("SettingsError")
    assert "tocsin[otlp]" in said
