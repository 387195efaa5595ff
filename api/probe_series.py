"""What /probe says, in the names of blackbox_exporter: all that its prober of the kind says, zeros where it has them.

That is more than is stored of a monitor's check, and less strict: there, what is not known is absent.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from api.exposition import head, label, number
from api.exposition_families import NOT_AS_EXPECTED, transfer_ms
from common.domain.checks import Facts, Observation, Reason, Verdict

#: (labels as text, value) of each series of a metric; none of what is not known.
Samples = Iterable[tuple[str, float]]

#: {type of monitor: blackbox_exporter's prober}; what is not named here speaks over TCP.
_PROBERS: Mapping[str, str] = {"http": "http", "dns": "dns", "icmp": "icmp"}
_TCP = "tcp"
_WELL = frozenset({Verdict.UP, Verdict.DEGRADED})

_VERSION = re.compile(r"[0-9](?:\.[0-9])?")
_LENGTH = re.compile(r"[0-9]{1,18}")
_TLS_VERSIONS = {"TLSv1": "TLS 1.0", "TLSv1.1": "TLS 1.1", "TLSv1.2": "TLS 1.2", "TLSv1.3": "TLS 1.3"}
#: Of TLS 1.2 OpenSSL has names of its own; 1.3's are the registered ones already.
_CIPHERS = {
    f"ECDHE-{key}-{ours}": f"TLS_ECDHE_{key}_WITH_{theirs}"
    for key in ("RSA", "ECDSA")
    for ours, theirs in (
        ("AES128-GCM-SHA256", "AES_128_GCM_SHA256"),
        ("AES256-GCM-SHA384", "AES_256_GCM_SHA384"),
        ("CHACHA20-POLY1305", "CHACHA20_POLY1305_SHA256"),
        ("AES128-SHA", "AES_128_CBC_SHA"),
        ("AES256-SHA", "AES_256_CBC_SHA"),
    )
}
#: Of the server's own certificate.
_IDENTITY = ("fingerprint_sha256", "subject", "issuer", "subjectalternative")


@dataclass(frozen=True, slots=True)
class Told:
    """One metric, and the probers that have it (all of them: none named)."""

    name: str
    help: str
    read: Callable[[Observation], Samples]
    probers: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


def told(type_: str, seen: Observation) -> Iterator[str]:
    """The series of one probe, without labels of a target: Prometheus adds those."""
    prober = _PROBERS.get(type_, _TCP)
    for metric in SERIES:
        samples = list(metric.read(seen)) if not metric.probers or prober in metric.probers else []
        if samples:
            yield head(metric.name, metric.help)
        for beside, value in samples:
            yield f"{metric.name}{{{beside}}} {number(value)}\n" if beside else f"{metric.name} {number(value)}\n"


def _one(value: float | None) -> Samples:
    return () if value is None else (("", value),)


def _seconds(milliseconds: float) -> float:
    return max(0.0, milliseconds) / 1000


def _phased(**phases: float) -> Samples:
    return [(f'phase="{phase}"', _seconds(ms)) for phase, ms in phases.items()]


def _fact(name: str) -> Callable[[Observation], Samples]:
    """A number that was noted, if it was."""
    return lambda seen: _one(_number(seen.facts or {}, name))


def _number(facts: Facts, name: str) -> float | None:
    value = facts.get(name)
    return value if isinstance(value, int | float) else None


def _text(seen: Observation, name: str) -> str:
    return str((seen.facts or {}).get(name, ""))


def _of_response(read: Callable[[Observation], float | None]) -> Callable[[Observation], Samples]:
    """A value of the last response, 0 without one; nothing where a worker notes no facts."""

    def found(seen: Observation) -> Samples:
        if seen.facts is None:
            return ()
        return _one(read(seen) if "http_version" in seen.facts else 0)

    return found


def _ip_protocol(seen: Observation) -> Samples:
    return _one(0 if not seen.address else 6 if ":" in seen.address else 4)


def _ip_hash(seen: Observation) -> Samples:
    """FNV-1a of the address' bytes."""
    found = 0x811C9DC5
    for byte in ipaddress.ip_address(seen.address.partition("%")[0]).packed if seen.address else b"":
        found = (found ^ byte) * 0x01000193 & 0xFFFFFFFF
    return _one(found if seen.address else 0)


def _http_phases(seen: Observation) -> Samples:
    phases = seen.phases
    return _phased(
        resolve=phases.dns_ms,
        connect=phases.connect_ms,
        tls=phases.tls_ms,
        processing=phases.ttfb_ms,
        transfer=transfer_ms(phases) or 0,
    )


def _http_version(seen: Observation) -> float:
    spoken = _text(seen, "http_version")
    return float(spoken) if _VERSION.fullmatch(spoken) else 0


def _content_length(seen: Observation) -> float:
    """-1 where the response does not say."""
    said = _text(seen, "content_length")
    return int(said) if _LENGTH.fullmatch(said) else -1


def _body_length(seen: Observation) -> float | None:
    """Unknown where the server packed it though nobody asked for that: it is not unpacked."""
    packed = _text(seen, "content_encoding").lower() not in {"", "identity"}
    return None if packed else _number(seen.facts or {}, "body_bytes")


def _last_modified(seen: Observation) -> Samples:
    try:
        moment = parsedate_to_datetime(_text(seen, "last_modified"))
    except ValueError:
        return ()
    return _one(round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))


def _failed_due_to_regex(seen: Observation) -> Samples:
    return _one(int(seen.verdict is Verdict.DOWN and seen.reason in NOT_AS_EXPECTED))


def _tls_version(seen: Observation) -> Samples:
    version = _text(seen, "tls_version")
    return [(f'version="{label(_TLS_VERSIONS.get(version, "unknown"))}"', 1)] if version else ()


def _tls_cipher(seen: Observation) -> Samples:
    cipher = _text(seen, "tls_cipher")
    return [(f'cipher="{label(_CIPHERS.get(cipher, cipher))}"', 1)] if cipher else ()


def _identity(seen: Observation) -> Samples:
    if not _text(seen, _IDENTITY[0]):
        return ()
    return [(",".join(f'{name}="{label(_text(seen, name))}"' for name in _IDENTITY), 1)]


def _failure(seen: Observation) -> Samples:
    return () if seen.reason is Reason.NONE else [(f'reason="{seen.reason.label}"', 1)]


SERIES: tuple[Told, ...] = (
    Told(
        "probe_success",
        "Whether the probe succeeded; degraded counts as success.",
        lambda seen: _one(int(seen.verdict in _WELL)),
    ),
    Told("probe_duration_seconds", "How long the probe took.", lambda seen: _one(_seconds(seen.phases.total_ms))),
    Told(
        "probe_dns_lookup_time_seconds",
        "How long the name's look-up took.",
        lambda seen: _one(_seconds(seen.phases.dns_ms)),
    ),
    Told("probe_ip_protocol", "Whether the address was of IP version 4 or 6.", _ip_protocol),
    Told("probe_ip_addr_hash", "A hash of the address: it changes when the address does.", _ip_hash),
    Told(
        "probe_http_status_code",
        "The answer's status, 0 without an answer.",
        lambda seen: _one(seen.code),
        ("http",),
    ),
    Told(
        "probe_http_duration_seconds",
        "How long each phase of the request took, over all redirects.",
        _http_phases,
        ("http",),
        ("phase",),
    ),
    Told("probe_http_version", "The answer's version of HTTP.", _of_response(_http_version), ("http",)),
    Told("probe_http_redirects", "How many redirects were followed.", _fact("redirects"), ("http",)),
    Told(
        "probe_http_ssl",
        "Whether TLS was used for the last of all requests.",
        lambda seen: () if seen.facts is None else _one(int("tls_version" in seen.facts)),
        ("http",),
    ),
    Told(
        "probe_http_content_length",
        "The body's length as the answer's header says it, -1 where it does not.",
        _of_response(_content_length),
        ("http",),
    ),
    Told(
        "probe_http_uncompressed_body_length",
        "The body's length as it came (bytes).",
        _of_response(_body_length),
        ("http",),
    ),
    Told(
        "probe_http_last_modified_timestamp_seconds",
        "What the answer says it was last modified at.",
        _last_modified,
        ("http",),
    ),
    Told(
        "probe_failed_due_to_regex",
        "Whether the probe failed because what was sent was not as expected.",
        _failed_due_to_regex,
        ("http", "tcp"),
    ),
    Told(
        "probe_dns_duration_seconds",
        "How long each phase of the question took; connect is part of request.",
        lambda seen: _phased(resolve=seen.phases.dns_ms, connect=0, request=seen.phases.ttfb_ms),
        ("dns",),
        ("phase",),
    ),
    Told("probe_dns_answer_rrs", "Records in the answer's answer section.", _fact("answers"), ("dns",)),
    Told("probe_dns_authority_rrs", "Records in its authority section.", _fact("authorities"), ("dns",)),
    Told("probe_dns_additional_rrs", "Records in its additional section, OPT aside.", _fact("additionals"), ("dns",)),
    Told(
        "probe_dns_query_succeeded",
        "Whether the name server answered, whatever its answer.",
        lambda seen: _one(int(seen.phases.ttfb_ms >= 0)),
        ("dns",),
    ),
    Told("probe_dns_serial", "The zone's serial number, where its SOA was asked for.", _fact("serial"), ("dns",)),
    Told(
        "probe_icmp_duration_seconds",
        "How long each phase of the echo took; rtt is the mean of the answers.",
        lambda seen: _phased(
            resolve=seen.phases.dns_ms, setup=_number(seen.facts or {}, "setup_ms") or 0, rtt=seen.phases.ttfb_ms
        ),
        ("icmp",),
        ("phase",),
    ),
    Told("probe_icmp_reply_hop_limit", "How many hops the last answer had left.", _fact("hop_limit"), ("icmp",)),
    Told("probe_tls_version_info", "Which TLS was agreed on; always 1.", _tls_version, labels=("version",)),
    Told("probe_tls_cipher_info", "The cipher that was agreed on; always 1.", _tls_cipher, labels=("cipher",)),
    Told(
        "probe_ssl_earliest_cert_expiry",
        "When the first of all certificates that the server sent expires.",
        _fact("sent_expiry_s"),
    ),
    Told(
        "probe_ssl_last_chain_expiry_timestamp_seconds",
        "When the chain breaks that the server was verified by; not known of http.",
        _fact("verified_expiry_s"),
    ),
    Told(
        "probe_ssl_last_chain_info",
        "Whose the server's own certificate is; always 1.",
        _identity,
        labels=_IDENTITY,
    ),
    Told(
        "tocsin_probe_failure_info",
        "Why the probe failed, in the words of results; always 1, absent when it succeeds.",
        _failure,
        labels=("reason",),
    ),
)
