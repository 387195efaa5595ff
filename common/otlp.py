"""Spans on their way to a collector: OpenTelemetry's SDK and its OTLP exporter, loaded only where traces are wanted.

A thread of the SDK's own sends batches. The queue before it is bounded and nobody waits for it: while the collector is
away the oldest spans are lost, and said to be once.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from common import log
from common.tracing import Span, SpanRef

#: Spans that may wait. One change is up to seven, and many monitors may fail in the same moment.
QUEUE_SPANS = 8_192

#: What a process may wait for the collector at its end (seconds).
CLOSE_S = 2.0

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def open_outlet(role: str, environ: Mapping[str, str]) -> OtlpOutlet:
    """An outlet by the `OTEL_*` variables, most of which the SDK reads itself."""
    # Its lines say each failure several times and show where to; Watched says it once.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    waiting = None if environ.get("OTEL_BSP_MAX_QUEUE_SIZE") else QUEUE_SPANS
    processor = BatchSpanProcessor(Watched(OTLPSpanExporter()), max_queue_size=waiting)
    return OtlpOutlet(processor, role, service=environ.get("OTEL_SERVICE_NAME", ""))


class Watched(SpanExporter):
    """An exporter of which we say once that it fails, and once that it is well again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; one that cannot be sent is lost."""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            if not self._lost:
                log.get_logger().warning("traces_lost", hint="the collector (OTEL_EXPORTER_OTLP_ENDPOINT) takes none")
            self._lost += len(spans)
        elif self._lost:
            log.get_logger().info("traces_taken_again", lost=self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        """End a send that is under way."""
        self._exporter.shutdown()


class OtlpOutlet:
    """Makes the SDK's spans of ours, with our ids and times, and hands them to a processor."""

    def __init__(self, processor: SpanProcessor, role: str, *, service: str = "") -> None:
        self._processor = processor
        self._role = role
        self._service = service
        self._ids = _GivenIds()
        self._tracers: dict[str, Tracer] = {}

    def put(self, span: Span) -> None:
        """Hand a span over."""
        self._ids.give(span.ref)
        parent = set_span_in_context(_remote(SpanRef(span.ref.trace_id, span.parent_id))) if span.parent_id else None
        told = self._tracer(span.role or self._role).start_span(
            span.name,
            context=parent,
            kind=SpanKind[span.kind.value],
            attributes=span.attributes,
            links=[Link(_remote(ref).get_span_context()) for ref in span.links],
            start_time=_ns(span.start_ms),
        )
        if span.error:
            told.set_attribute("error.type", span.error)
            told.set_status(Status(StatusCode.ERROR))
        # A clock that was set back between two processes must not make a negative time of it.
        told.end(_ns(max(span.start_ms, span.end_ms)))

    def close(self) -> None:
        """Send what waits, in a thread that nobody has to wait for."""
        closing = threading.Thread(target=self._processor.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_S)

    def _tracer(self, role: str) -> Tracer:
        tracer = self._tracers.get(role)
        if tracer is None:
            provider = TracerProvider(
                sampler=ALWAYS_ON, resource=self._resource(role), id_generator=self._ids, shutdown_on_exit=False
            )
            provider.add_span_processor(self._processor)
            tracer = self._tracers[role] = provider.get_tracer("tocsin", _our_version())
        return tracer

    def _resource(self, role: str) -> Resource:
        # OTEL_RESOURCE_ATTRIBUTES are put in by `create`, below what is given here.
        about = {
            "service.namespace": "tocsin",
            "service.name": self._service or f"tocsin-{role}",
            "service.version": _our_version(),
            "tocsin.role": role,
        }
        if role == self._role:
            about["service.instance.id"] = f"{socket.gethostname()}-{os.getpid()}"
        return Resource.create(about)


class _GivenIds(IdGenerator):
    """Ids that were worked out before: the SDK asks for them in the thread that starts a span."""

    def __init__(self) -> None:
        self._next = threading.local()

    def give(self, ref: SpanRef) -> None:
        self._next.ref = ref

    def generate_trace_id(self) -> int:
        return int(self._next.ref.trace_id, 16)

    def generate_span_id(self) -> int:
        return int(self._next.ref.span_id, 16)


def _remote(ref: SpanRef) -> NonRecordingSpan:
    return NonRecordingSpan(
        SpanContext(int(ref.trace_id, 16), int(ref.span_id, 16), is_remote=True, trace_flags=_SAMPLED)
    )


def _our_version() -> str:
    try:
        return version("tocsin")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"


def _ns(ms: float) -> int:
    return round(ms * 1_000) * 1_000  # a float of today's milliseconds is good for microseconds
