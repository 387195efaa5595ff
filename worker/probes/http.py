"""The http probe: one request through the engine, its response judged by the monitor's assertions."""

from __future__ import annotations

from common.domain.assertions import KEEP_BODY_BYTES, CompiledAssertions
from common.domain.checks import Facts, Observation, Phases
from common.domain.monitors import MonitorConfig
from common.domain.options import HttpOptions
from common.domain.sources import Seen
from common.http.certificates import expires_s
from common.http.exchange import HttpExchange, HttpRequest
from common.http.tls_facts import session_facts
from worker.probes.base import (
    ProbeContext,
    failed,
    invalid_assertions,
    judged,
    notes_facts,
    options_of,
    traceparent,
)

#: Headers of a response that are facts: {fact: header}.
_HEADERS = {
    "content_length": "Content-Length",
    "content_encoding": "Content-Encoding",
    "last_modified": "Last-Modified",
}
_MAX_HEADER_CHARS = 100


async def probe(
    config: MonitorConfig,
    deadline_s: float,
    ctx: ProbeContext,
    trace_id: str | None = None,
    /,
) -> Observation:
    """Request the target; latency is the total, redirects and look-up included."""
    try:
        compiled = ctx.compiled(config)
    except ValueError as error:
        return invalid_assertions(error, Phases())
    looks = compiled.needs_certificate or (config.target[:5].lower() == "https" and ctx.wants_certificate(config))
    request, notes = _request(config, deadline_s, compiled, trace_id, looks=looks), notes_facts(config)
    if notes:
        # Whatever the target is: a redirect may lead to TLS.
        request.want_certificate = request.want_session = True
    exchange = await ctx.engine.send(request)
    if exchange.reason:
        observation = failed(
            exchange.reason,
            exchange.message,
            exchange.phases,
            code=exchange.status,
            address=exchange.address,
        )
    else:
        observation = _judge(exchange, compiled)
    if notes:
        observation.facts = _facts(exchange)
    return observation


def _request(
    config: MonitorConfig,
    deadline_s: float,
    compiled: CompiledAssertions,
    trace_id: str | None,
    *,
    looks: bool,
) -> HttpRequest:
    options = options_of(config, HttpOptions)
    return HttpRequest(
        options.method,
        config.target,
        options.headers,
        options.body.encode("utf-8", "replace") if options.body is not None else None,
        min(config.timeout_s, deadline_s),
        options.follow_redirects,
        options.verify_tls,
        options.max_redirects,
        keep_body_bytes=KEEP_BODY_BYTES if compiled.needs_body else 0,
        traceparent=traceparent(trace_id, options.headers) if trace_id and options.trace else "",
        extras=options.extras,
        want_certificate=looks,
    )


def _facts(exchange: HttpExchange) -> Facts:
    """Of the last response of all, if there was one; lengths as its header says and as it came."""
    facts: dict[str, float | str] = {"redirects": exchange.redirects}
    if exchange.status:
        facts |= {"http_version": exchange.http_version, "body_bytes": exchange.body_bytes}
        for fact, name in _HEADERS.items():
            value = exchange.header(name)
            if value is not None:
                facts[fact] = value[:_MAX_HEADER_CHARS]
    return facts if exchange.session is None else {**facts, **session_facts(exchange.session)}


def _judge(exchange: HttpExchange, compiled: CompiledAssertions) -> Observation:
    phases = exchange.phases
    seen = Seen(
        exchange.status,
        exchange.headers if compiled.needs_headers else (),
        exchange.body,
        phases.total_ms,
        phases,
        {"http_version": exchange.http_version, "cert_days": exchange.cert_days} if compiled.needs_values else None,
    )
    observation = judged(compiled, seen, phases, code=exchange.status, address=exchange.address)
    if exchange.cert_days is not None:
        observation.expires_s = expires_s(exchange.cert_days)
    return observation
