"""The series of monitors: their names as others defined them, and where each value comes from.

blackbox_exporter's names, so that dashboards and rules made for it work; Uptime Kuma's; and ours for what they lack.
What is not known is absent: no value is made up, and an old one does not pass for a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from common.domain.checks import NOT_REACHED, Phases, Reason, Verdict
from common.domain.health import Health
from common.store.exposition import Seen

Read = Callable[[Seen], float | None]

#: {health: what Uptime Kuma shows}: 1 up, 0 down, 2 pending, 3 maintenance.
_KUMA = {Health.PENDING: 2, Health.UP: 1, Health.DEGRADED: 1, Health.DOWN: 0, Health.RELEASED: 0}
_WELL = frozenset({Verdict.UP, Verdict.DEGRADED})
#: A result older than so many intervals and a minute says nothing of now.
_STALE_INTERVALS, _STALE_S = 3, 60

#: What blackbox_exporter calls a failure due to a regular expression: something was sent, and not what was expected.
NOT_AS_EXPECTED = frozenset({Reason.BODY_MISMATCH, Reason.HEADER_MISMATCH, Reason.ANSWER_MISMATCH})

_REFUSED = frozenset({Reason.TLS_CERTIFICATE_EXPIRED, Reason.TLS_CERTIFICATE_UNTRUSTED, Reason.TLS_HOSTNAME_MISMATCH})


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: `series` are (the labels of its own as text, where the value comes from).

    `fresh`: of monitors whose newest result says how it is now, as `is_fresh` has it; `kuma`: one value a monitor,
    whatever its locations, with the labels that Uptime Kuma gives it.
    """

    name: str
    help: str
    series: tuple[tuple[str, Read], ...]
    labels: tuple[str, ...] = ()
    fresh: bool = False
    kuma: bool = False


def is_fresh(row: Seen) -> bool:
    """Whether its newest result says how it is now: it saw something, and not long ago."""
    return (
        row.enabled
        and row.verdict in {Verdict.UP, Verdict.DEGRADED, Verdict.DOWN}
        and row.age_s < _STALE_INTERVALS * row.interval_s + _STALE_S
    )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None or milliseconds < 0 else milliseconds / 1000


def _success(row: Seen) -> float:
    return 1 if row.verdict in _WELL else 0


def transfer_ms(phases: Phases) -> float | None:
    """What is left of the whole after its other phases; only of what has answered."""
    if phases.ttfb_ms < 0:
        return None
    spent = sum(max(0.0, part) for part in (phases.dns_ms, phases.connect_ms, phases.tls_ms, phases.ttfb_ms))
    return max(0.0, phases.total_ms - spent)


def _phases(row: Seen) -> Phases:
    parts = (row.dns_ms, row.connect_ms, row.tls_ms, row.ttfb_ms, row.total_ms)
    return Phases(*(NOT_REACHED if part is None else part for part in parts))


def _failed_due_to_regex(row: Seen) -> float | None:
    if row.type not in {"http", "tcp"}:
        return None
    return int(row.verdict == Verdict.DOWN and row.reason in NOT_AS_EXPECTED)


def _only(type_: str, read: Read) -> Read:
    return lambda row: read(row) if row.type == type_ else None


def _status(row: Seen) -> float | None:
    if not row.enabled:
        return None
    return 3 if row.maintenance else _KUMA[Health(row.health)]


def _days_remaining(row: Seen) -> float | None:
    now_s = row.slot_s + row.age_s
    return None if row.expires_s is None or not now_s else (row.expires_s - now_s) // 86_400


def _certificate(row: Seen) -> float | None:
    if row.reason in _REFUSED:
        return 0
    remaining = _days_remaining(row)
    return None if remaining is None else int(remaining >= 0)


def _one(name: str, help_: str, read: Read, type_: str = "") -> Family:
    return Family(name, help_, (("", _only(type_, read) if type_ else read),), fresh=True)


def _phased(name: str, help_: str, type_: str, phases: dict[str, Read]) -> Family:
    series = tuple((f'phase="{phase}"', _only(type_, read)) for phase, read in phases.items())
    return Family(name, help_, series, ("phase",), fresh=True)


FAMILIES: tuple[Family, ...] = (
    _one("probe_success", "Whether the check succeeded; degraded counts as success, unknown is absent.", _success),
    _one("probe_duration_seconds", "How long the check took.", lambda row: _seconds(row.total_ms)),
    _one("probe_dns_lookup_time_seconds", "How long the name's look-up took.", lambda row: _seconds(row.dns_ms)),
    _one("probe_http_status_code", "The answer's status.", lambda row: row.code or 0, "http"),
    _phased(
        "probe_http_duration_seconds",
        "How long each phase of the request took, over all redirects.",
        "http",
        {
            "resolve": lambda row: _seconds(row.dns_ms),
            "connect": lambda row: _seconds(row.connect_ms),
            "tls": lambda row: _seconds(row.tls_ms),
            "processing": lambda row: _seconds(row.ttfb_ms),
            "transfer": lambda row: _seconds(transfer_ms(_phases(row))),
        },
    ),
    _one(
        "probe_http_ssl", "Whether TLS was used.", lambda row: int(row.tls_ms is not None and row.tls_ms >= 0), "http"
    ),
    _one(
        "probe_failed_due_to_regex",
        "Whether the check failed because what was sent was not as expected.",
        _failed_due_to_regex,
    ),
    _phased(
        "probe_icmp_duration_seconds",
        "How long each phase of the echo took; rtt is the mean of the answers.",
        "icmp",
        {"resolve": lambda row: _seconds(row.dns_ms), "rtt": lambda row: _seconds(row.ttfb_ms)},
    ),
    _phased(
        "probe_dns_duration_seconds",
        "How long each phase of the question took.",
        "dns",
        {"resolve": lambda row: _seconds(row.dns_ms), "request": lambda row: _seconds(row.ttfb_ms)},
    ),
    _one(
        "probe_dns_query_succeeded",
        "Whether the name server answered, whatever its answer.",
        lambda row: None if row.ttfb_ms is None else int(row.ttfb_ms >= 0),
        "dns",
    ),
    Family(
        "probe_ssl_earliest_cert_expiry",
        "When the certificate expires (of http the server's own, else the first of its chain), as seen within 3 hours.",
        (("", lambda row: row.expires_s),),
    ),
    Family(
        "tocsin_monitor_last_check_timestamp_seconds",
        "When the newest check that could see was due.",
        (("", lambda row: row.slot_s if row.slot_s > 0 else None),),
    ),
    Family(
        "monitor_cert_days_remaining",
        "Days until the certificate expires.",
        (("", _days_remaining),),
        kuma=True,
    ),
    Family(
        "monitor_cert_is_valid",
        "Whether the certificate is accepted and has not expired.",
        (("", _certificate),),
        fresh=True,
        kuma=True,
    ),
    Family("monitor_status", "1 up or degraded, 0 down, 2 pending, 3 maintenance.", (("", _status),), kuma=True),
    Family(
        "monitor_response_time",
        "How long the newest check took, in milliseconds, as Uptime Kuma has it.",
        (("", lambda row: None if row.total_ms is None or row.total_ms < 0 else row.total_ms),),
        fresh=True,
        kuma=True,
    ),
)

#: Of days: counted beside the scrapes, not read with each. (name, help)
UPTIME_RATIO = (
    "monitor_uptime_ratio",
    "Share of judged time that was up or degraded, as reports count it; at most 5 minutes (1d) or an hour old.",
)
COVERAGE_RATIO = (
    "tocsin_monitor_coverage_ratio",
    "Of how much of the time monitor_uptime_ratio speaks: judged ÷ (judged + unknown), as reports count it.",
)
RESPONSE_TIME = (
    "monitor_response_time_seconds",
    "Mean duration of the checks that reached their target, 1d or 30d; at most 5 minutes (1d) or an hour old.",
)
#: What has the labels of another kind: (name, help, labels beside the monitor's).
OTHERS = (
    (*UPTIME_RATIO, ("window",)),
    (*COVERAGE_RATIO, ("window",)),
    (*RESPONSE_TIME, ("window",)),
    (
        "tocsin_monitor_info",
        "What a monitor is, and its labels; always 1.",
        ("key", "type", "severity", "enabled", "label_…"),
    ),
    ("tocsin_monitor_failure_info", "Why the newest check failed; always 1, absent while it succeeds.", ("reason",)),
)
