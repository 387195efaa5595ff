"""Traces of our own: what a span is, which are worth telling, and whether anybody wants them at all.

Spans are told after the fact, when it is known what became of a check: their times are in the values that travel with
it anyway. Nothing of OpenTelemetry is loaded, and nothing is computed, unless `OTEL_*` variables ask for traces.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from types import MappingProxyType
from typing import Protocol

from common.domain.errors import SettingsError

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
#: Of a traceparent of version 00.
_LENGTH = 55
_NOTHING: Mapping[str, str] = MappingProxyType({})

#: {sampler: (its share unless an argument says otherwise, whether it has an argument)}.
_SAMPLERS: Mapping[str, tuple[float, bool]] = MappingProxyType(
    {
        "always_on": (1.0, False),
        "always_off": (0.0, False),
        "traceidratio": (1.0, True),
        "parentbased_always_on": (1.0, False),
        "parentbased_always_off": (0.0, False),
        "parentbased_traceidratio": (1.0, True),
    }
)

Value = str | bool | int | float
"""What an attribute may hold."""


class SpanKind(StrEnum):
    """Where a span stands towards others, in OpenTelemetry's words."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


@dataclass(frozen=True, slots=True)
class SpanRef:
    """A span by its ids, as W3C trace context writes them: 32 and 16 hex characters."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class Span:
    """Something that is over. Times are Unix milliseconds; `error` is a short, closed word, "" when it went well.

    `parent_id` is of the same trace. `role` is whose work it was, where another process tells of it.
    """

    ref: SpanRef
    name: str
    start_ms: float
    end_ms: float
    parent_id: str = ""
    kind: SpanKind = SpanKind.INTERNAL
    attributes: Mapping[str, Value] = field(default_factory=lambda: _NOTHING)
    error: str = ""
    role: str = ""
    links: tuple[SpanRef, ...] = ()


class Outlet(Protocol):
    """Where spans go. Neither call waits for a network."""

    def put(self, span: Span) -> None:
        """Take a span; when too many wait, the oldest is lost."""
        ...

    def close(self) -> None:
        """Send what waits, for a moment at most."""
        ...


@dataclass(frozen=True, slots=True)
class Sampling:
    """Shares from 0 to 1: of checks that changed nothing, and of requests; `by_parent`: a caller's word counts first.

    What changed something, and every delivery, is told whatever the shares are.
    """

    checks: float
    requests: float
    by_parent: bool = True


@dataclass(frozen=True, slots=True)
class Tracing:
    """What a role tells its spans to. Where tracing is off there is None in its place."""

    outlet: Outlet
    sampling: Sampling

    def tell(self, spans: Iterable[Span]) -> None:
        """Tell spans; any thread may."""
        for span in spans:
            self.outlet.put(span)

    def close(self) -> None:
        """The end of the process."""
        self.outlet.close()


def open_tracing(role: str, environ: Mapping[str, str]) -> Tracing | None:
    """Tracing as the `OTEL_*` variables want it, None when they want none. Raises SettingsError."""
    if not _wanted(environ):
        return None
    sampling = read_sampling(environ)
    if environ.get("OTEL_TRACES_SAMPLER") == "always_off":
        return None
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environ.get(variable, "") not in ("", "http/protobuf"):
            raise SettingsError(f"{variable}: only http/protobuf is spoken; set it to that and the port to 4318")
    try:
        otlp = importlib.import_module("common.otlp")
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, but {error.name} is not installed: install tocsin[otlp] "
            "(pip install -r requirements-otlp.txt), or unset it"
        ) from None
    outlet: Outlet = otlp.open_outlet(role, environ)
    return Tracing(outlet, sampling)


def _wanted(environ: Mapping[str, str]) -> bool:
    """As the specification reads them, except that without any of them nothing is sent anywhere."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "")
    if exporter not in ("", "none", "otlp"):
        raise SettingsError(f"OTEL_TRACES_EXPORTER: {exporter} is not spoken, only otlp or none")
    named = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return exporter == "otlp" or (exporter == "" and bool(named))


def read_sampling(environ: Mapping[str, str]) -> Sampling:
    """Shares by OTEL_TRACES_SAMPLER and its argument; without: all requests, no check that changed nothing."""
    name = environ.get("OTEL_TRACES_SAMPLER", "")
    if not name:
        return Sampling(checks=0.0, requests=1.0)
    if name not in _SAMPLERS:
        raise SettingsError(f"OTEL_TRACES_SAMPLER: must be one of {', '.join(_SAMPLERS)}")
    share, takes_argument = _SAMPLERS[name]
    given = environ.get("OTEL_TRACES_SAMPLER_ARG", "")
    if takes_argument and given:
        try:
            share = float(given)
        except ValueError:
            share = -1.0
        if not 0.0 <= share <= 1.0:
            raise SettingsError("OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1")
    return Sampling(share, share, by_parent=name.startswith("parentbased"))


def in_share(trace_id: str, share: float) -> bool:
    """Whether a trace is among this share; the lower half of its id decides, as in every OpenTelemetry SDK."""
    return int(trace_id[16:], 16) < share * 2**64


def read_traceparent(header: str) -> tuple[SpanRef, bool] | None:
    """The caller's span and whether it is sampled; None for what is no traceparent."""
    found = _TRACEPARENT.fullmatch(header)
    if found is None or header.startswith("ff") or found[1] == _NO_TRACE or found[2] == _NO_SPAN:
        return None
    if header.startswith("00") and len(header) > _LENGTH:
        return None  # only a later version may go on
    return SpanRef(found[1], found[2]), bool(int(found[3], 16) & 1)


def part_of(trace_id: str, *what: str) -> SpanRef:
    """A part of a trace: whoever names it the same way, in whatever process, gets the same id."""
    return SpanRef(trace_id, blake2b("|".join((trace_id, *what)).encode(), digest_size=8).hexdigest())


def trace_of(correlation_id: str) -> str:
    """The trace that a correlation id stands for: a check's own id, else a request's, which may be any text."""
    if _TRACE_ID.fullmatch(correlation_id) and correlation_id != _NO_TRACE:
        return correlation_id
    return blake2b(correlation_id.encode("utf-8", "replace"), digest_size=16).hexdigest()
