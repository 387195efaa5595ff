"""The dns probe: one question to one name server, its answer judged; what it names is not connected to."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

import dns.message
import dns.rcode
import dns.rdatatype

from common.domain.assertions import CompiledAssertions
from common.domain.checks import Facts, Observation, Phases, Reason
from common.domain.egress import EgressMode
from common.domain.monitors import MonitorConfig
from common.domain.options import DnsOptions
from common.domain.sources import Seen
from common.http.dial import Endpoint, Trouble, Way, permitted
from common.http.endpoints import parse_question, parse_resolver
from common.http.oserrors import OS_ERRORS
from worker.probes.base import ProbeContext, failed, invalid_assertions, judged, notes_facts, options_of
from worker.probes.dns_transport import ask

_MAX_RECORDS = 500


async def probe(
    config: MonitorConfig,
    deadline_s: float,
    ctx: ProbeContext,
    _trace_id: str | None = None,
    /,
) -> Observation:
    """Ask; `ttfb_ms` is how long the answer took, `code` the response code."""
    started, phases = time.perf_counter(), Phases()
    timeout_s = min(config.timeout_s, deadline_s)
    way = Way(ctx.resolver, ctx.rules, started + timeout_s, timeout_s)
    try:
        compiled = ctx.compiled(config)
    except ValueError as error:
        return invalid_assertions(error, phases)
    try:
        observation = await _observe(config, way, phases, compiled)
    except Trouble as trouble:
        observation = failed(trouble.reason, trouble.message, phases, address=trouble.address)
    phases.total_ms = (time.perf_counter() - started) * 1000
    return observation


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked, of whom."""

    name: str
    record_type: str
    server: Endpoint
    address: str


async def _observe(config: MonitorConfig, way: Way, phases: Phases, compiled: CompiledAssertions) -> Observation:
    options = options_of(config, DnsOptions)
    name = parse_question(config.target, options.record_type)
    if name is None:
        raise Trouble(Reason.INVALID_TARGET, "the target is not a name that DNS can be asked for")
    question = _Question(name, options.record_type, *await _server(options, way, phases))
    asked = time.perf_counter()
    try:
        answer = await _asked(question, way, tcp=options.transport == "tcp")
    except Trouble as trouble:
        raise Trouble(trouble.reason, trouble.message, address=question.address) from None
    phases.ttfb_ms = (time.perf_counter() - asked) * 1000
    phases.total_ms = (time.perf_counter() - way.deadline + way.timeout_s) * 1000
    observation = _judge(answer, question, compiled, phases)
    if notes_facts(config):
        observation.facts = _facts(answer)
    return observation


def _facts(answer: dns.message.Message) -> Facts:
    """How many records each section has, OPT not counted; the zone's serial where it was asked for, 0 unless told."""
    facts: dict[str, float | str] = {
        "answers": sum(map(len, answer.answer)),
        "authorities": sum(map(len, answer.authority)),
        "additionals": sum(map(len, answer.additional)),
    }
    if answer.question[0].rdtype == dns.rdatatype.SOA:
        zones = [rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.SOA]
        facts["serial"] = zones[0][0].serial if zones else 0
    return facts


async def _server(options: DnsOptions, way: Way, phases: Phases) -> tuple[Endpoint, str]:
    """Whom to ask, and its address. The operator's own name server is for nobody's questions in public mode."""
    if options.resolver is not None:
        endpoint = parse_resolver(options.resolver)
        if isinstance(endpoint, str):
            raise Trouble(Reason.INVALID_TARGET, f"the resolver is wrong: {endpoint}")
        return endpoint, (await permitted(endpoint.host, way, phases))[0]
    own = parse_resolver(way.resolver.own_server() or "")
    if way.rules.mode is EgressMode.PUBLIC or isinstance(own, str):
        raise Trouble(Reason.EGRESS_DENIED, "no name server of this installation may be asked: name a public resolver")
    return own, own.host.address


async def _asked(question: _Question, way: Way, *, tcp: bool) -> dns.message.Message:
    query = dns.message.make_query(
        question.name, question.record_type, use_edns=0, payload=1232, id=secrets.randbelow(1 << 16)
    )
    where = question.server.at(question.address)
    try:
        return await ask(query, (question.address, question.server.port), way, tcp=tcp)
    except TimeoutError:
        raise Trouble(Reason.DNS_TIMEOUT, f"no answer from {where} within {way.timeout_s:.3g} s") from None
    except OSError as error:
        reason, words = OS_ERRORS.get(error.errno or 0, (Reason.UNREACHABLE, "could not ask"))
        raise Trouble(reason, f"{words} {where}") from None


def _judge(
    answer: dns.message.Message, question: _Question, compiled: CompiledAssertions, phases: Phases
) -> Observation:
    records = list(_records(answer, question.record_type))
    code, rcode = int(answer.rcode()), dns.rcode.to_text(answer.rcode())
    where, name, kind = question.server.at(question.address), question.name.rstrip(".") or ".", question.record_type
    trouble: tuple[Reason, str] | None = None
    if code and "rcode" not in compiled.sources:
        reason = Reason.DNS_NOT_FOUND if answer.rcode() == dns.rcode.NXDOMAIN else Reason.DNS_FAILED
        trouble = reason, f"{where} answered {rcode} to {kind} {name}"
    elif not records and compiled.sources.isdisjoint({"rcode", "answer", "answer_count"}):
        trouble = Reason.DNS_NO_ANSWER, f"{where} has no {kind} record of {name}"
    if trouble is not None:
        return failed(*trouble, phases, code=code, address=question.address)
    values = {"answer": records, "answer_count": len(records), "rcode": rcode}
    seen = Seen(latency_ms=phases.total_ms, phases=phases, values=values)
    return judged(compiled, seen, phases, code=code, address=question.address)


def _records(answer: dns.message.Message, record_type: str) -> Iterator[str]:
    """The records asked for (a CNAME that leads to them is none of them), names without their last dot."""
    wanted, left = dns.rdatatype.from_text(record_type), _MAX_RECORDS
    for rrset in answer.answer:
        if rrset.rdtype != wanted:
            continue
        for record in list(rrset)[:left]:
            left -= 1
            if wanted == dns.rdatatype.TXT:
                yield b"".join(record.strings).decode("utf-8", "replace")
            else:
                yield " ".join(part.rstrip(".") or "." for part in record.to_text().split())
