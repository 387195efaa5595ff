"""What the dashboards show."""

from __future__ import annotations

from collections.abc import Sequence

from tools.dashboard_panels import Page, Panel

_RATE = "[$__rate_interval]"


def _rate(metric: str, by: str = "", **labels: str) -> str:
    chosen = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{f'{{{chosen}}}' if chosen else ''}{_RATE}))"


def _quantile(share: float, metric: str, by: str = "") -> str:
    return f"histogram_quantile({share}, sum by (le{f', {by}' if by else ''}) (rate({metric}_bucket{_RATE})))"


def _quantiles(metric: str) -> list[tuple[str, str]]:
    return [(_quantile(share, metric), f"p{share * 100:.0f}") for share in (0.5, 0.95, 0.99)]


def _mean(metric: str, window: str = _RATE, by: str = "") -> str:
    group = f" by ({by})" if by else ""
    return f"sum{group} (increase({metric}_sum{window})) / (sum{group} (increase({metric}_count{window})) > 0)"


def _stat(title: str, about: str, expression: str, **more: object) -> Panel:
    return Panel(title, about, [(expression, "")], kind="stat", width=4, height=4, **more)  # type: ignore[arg-type]


def _heat(title: str, about: str, metric: str) -> Panel:
    shown = [(f"sum by (le) (increase({metric}_bucket{_RATE}))", "{{le}}")]
    return Panel(title, about, shown, unit="short", kind="heatmap")


_CLASS = (
    f'sum by (class) (label_replace(rate(tocsin_api_requests_total{_RATE}), "class", "${{1}}xx", "status", "(.).."))'
)
_FAILED = f'sum by (channel_type, outcome) (rate(tocsin_notifications_total{{outcome=~"failed|dead"}}{_RATE}))'
#: What takes as long as a target does, or as there are monitors: the alert TocsinApiSlow leaves it out as well.
_LONG = "/v1/probes|/probe|/v1/stream|/prometheus/.*"
_P95 = f'sum by (le) (rate(tocsin_api_request_duration_seconds_bucket{{route!~"{_LONG}"}}{_RATE}))'
_ALERTS = Panel(
    "Alerts that fire", "What the rules in infra/prometheus/rules say right now. Empty is good.",
    [('ALERTS{alertname=~"Tocsin.*",alertstate="firing"}', "")], kind="table", width=24, height=5,
)  # fmt: skip

_LAG = Panel(
    "Scheduling lag", "From the moment a check is due to the start of its probe. Above 1 s workers are too few.",
    _quantiles("tocsin_scheduling_lag_seconds"), "s", limits=(0.25, 1),
)  # fmt: skip
_QUEUES = Panel(
    "Messages waiting", "By queue; each holds up to 100 checks.",
    [("max by (queue) (tocsin_queue_depth)", "{{queue}}")], stacked=True,
)  # fmt: skip
_DELIVERY = Panel(
    "Event to delivery", "From the event being committed to its notification being delivered.",
    _quantiles("tocsin_delivery_latency_seconds"), "s", limits=(5, 30),
)  # fmt: skip
_SETTLED = Panel(
    "Notifications", "Settled a second; failed ones are tried again, dead ones are not.",
    [(_rate("tocsin_notifications_total", "outcome"), "{{outcome}}")], "ops", stacked=True,
)  # fmt: skip

_OVERVIEW = Page(
    "tocsin-overview",
    "Tocsin / Overview",
    "Whether Tocsin does its work: checks are made in time, incidents are told, the API answers.",
    [
        (
            "Now",
            [
                _stat("Leader renewed", "Since a scheduler renewed its lease; above 15 s nobody leads.",
                      "time() - max(tocsin_leader_renewed_timestamp_seconds)", unit="s", limits=(5, 15), decimals=1),
                _stat("Scheduled", "Monitors times locations in the leader's wheel.",
                      "max(tocsin_monitors_scheduled)"),
                _stat("Checks a second", "Finished, of all kinds.", _rate("tocsin_checks_total"), unit="ops"),
                _stat("Could not see", "Share of checks whose verdict is unknown: our own fault.",
                      "tocsin:checks_unknown:ratio5m", unit="percentunit", limits=(0.01, 0.1), decimals=2),
                _stat("Open incidents", "Of all organizations, acknowledged ones included.",
                      "sum(max by (severity, status) (tocsin_incidents_open))", limits=(1, 10)),
                _stat("API failures", "Share of answers that are 5xx.", "tocsin:api_failures:ratio5m",
                      unit="percentunit", limits=(0.001, 0.01), decimals=2),
            ],
        ),
        ("What needs somebody", [_ALERTS]),
        (
            "Checks",
            [
                Panel("Checks by verdict", "Finished a second.",
                      [(_rate("tocsin_checks_total", "verdict"), "{{verdict}}")], "ops", stacked=True),
                _LAG,
                Panel("Not made in time", "Slots skipped by the scheduler and checks dropped late by workers.",
                      [(_rate("tocsin_checks_skipped_total", "why"), "skipped: {{why}}"),
                       (_rate("tocsin_checks_late_total"), "late")], "ops"),
                _QUEUES,
            ],
        ),
        (
            "Incidents",
            [
                Panel("Open incidents by severity", "Not resolved.",
                      [("sum by (severity) (max by (severity, status) (tocsin_incidents_open))", "{{severity}}")],
                      stacked=True),
                Panel("Time to detect, acknowledge, repair", "Means over a day, of those that ended in it.",
                      [("tocsin:incident_detection_seconds:mean1d", "detect"),
                       (_mean("tocsin_incident_acknowledgement_seconds", "[1d]"), "acknowledge"),
                       (_mean("tocsin_incident_resolution_seconds", "[1d]"), "repair")], "s"),
                _SETTLED,
                _DELIVERY,
            ],
        ),
    ],
)  # fmt: skip

_WORKERS = Page(
    "tocsin-workers",
    "Tocsin / Scheduler and workers",
    "From due slot to committed result.",
    [
        (
            "Now",
            [
                _stat("Epoch", "Of the leader's lease; each takeover adds one.", "max(tocsin_leader_epoch)"),
                _stat("Dispatched a second", "Checks put into queues.", _rate("tocsin_checks_dispatched_total"),
                      unit="ops"),
                _stat("Lag p99", "Due slot to the start of its probe.", "tocsin:scheduling_lag_seconds:p99_5m",
                      unit="s", limits=(0.25, 1), decimals=2),
                _stat("Results waiting", "Probed, not committed.", "sum(tocsin_writer_waiting)",
                      limits=(1_000, 5_000)),
                _stat("Dead letters", "Messages that were given up on, in all queues.",
                      "sum(max by (queue) (tocsin_dead_letters))", limits=(1, 10)),
                _stat("Clock skew", "The worst of all roles, against the database.",
                      "max(abs(tocsin_clock_skew_seconds))", unit="s", limits=(1, 5), decimals=2),
            ],
        ),
        (
            "Probes",
            [
                Panel("Checks by type", "Finished a second.", [(_rate("tocsin_checks_total", "type"), "{{type}}")],
                      "ops", stacked=True),
                Panel("Failures by reason", "What checks that did not succeed saw.",
                      [(f'topk(12, sum by (reason) (rate(tocsin_checks_total{{verdict!="up"}}{_RATE})))',
                        "{{reason}}")], "ops", stacked=True),
                Panel("Duration by type, p95", "Of one probe.",
                      [(_quantile(0.95, "tocsin_check_duration_seconds", "type"), "{{type}}")], "s"),
                _heat("Duration", "How long probes take; a band at the top are timeouts.",
                      "tocsin_check_duration_seconds"),
                Panel("Moved and late", "Checks moved to the slow lane, and checks dropped because they were too late.",
                      [(_rate("tocsin_checks_spilled_total"), "moved"), (_rate("tocsin_checks_late_total"), "late")],
                      "ops"),
                Panel("Probes on demand", "Somebody waited for: /v1/probes, /probe.",
                      [(_rate("tocsin_probes_asked_total", "outcome"), "{{outcome}}")], "ops"),
                Panel("Blind locations", "Those that see nothing; each organization concerned has an incident.",
                      [("max(tocsin_locations_blind)", "locations")]),
                Panel("Unreadable messages", "Of a version that this worker does not know, or of nobody; set aside.",
                      [(_rate("tocsin_messages_refused_total", "queue"), "{{queue}}")], "ops"),
            ],
        ),
        (
            "Schedule",
            [
                _LAG,
                Panel("Dispatch lag", "Due slot to its message being in the queue: the scheduler's own part.",
                      _quantiles("tocsin_dispatch_lag_seconds"), "s", limits=(0.1, 0.5)),
                _QUEUES,
                Panel("Oldest message", "How long it has waited; past 10 s slots are skipped.",
                      [("max by (queue) (tocsin_queue_waiting_seconds)", "{{queue}}")], "s", limits=(5, 10)),
                Panel("Dispatched by lane", "Checks a second.",
                      [(_rate("tocsin_checks_dispatched_total", "lane"), "{{lane}}")], "ops", stacked=True),
                Panel("Skipped", "Slots that were due and not dispatched.",
                      [(_rate("tocsin_checks_skipped_total", "why"), "{{why}}")], "ops"),
            ],
        ),
        (
            "Writing",
            [
                Panel("Results in one commit", "Mean size of a group commit.",
                      [(_mean("tocsin_writer_batch_size"), "results")]),
                Panel("Duration of a commit", "Read, judge, write, commit.", _quantiles("tocsin_writer_commit_seconds"),
                      "s", limits=(0.1, 0.5)),
                Panel("Conflicts", "Votes that another writer changed first: judged again, nothing is lost.",
                      [(_rate("tocsin_writer_conflicts_total"), "conflicts"),
                       (_rate("tocsin_writer_poisoned_total"), "refused")], "ops"),
                Panel("Changes of incidents", "Found by checks.",
                      [(_rate("tocsin_transitions_total", "change"), "{{change}}")], "ops", stacked=True),
                Panel("Rollups", "Making one bucket, p95 by its length.",
                      [(_quantile(0.95, "tocsin_rollup_seconds", "level"), "{{level}}")], "s"),
                Panel("Failing loops", "Steps of background loops that failed.",
                      [(_rate("tocsin_loop_errors_total", "loop"), "{{loop}}")], "ops"),
            ],
        ),
    ],
)  # fmt: skip

_DELIVERIES = Page(
    "tocsin-delivery",
    "Tocsin / Delivery",
    "From event to the people who should hear of it.",
    [
        (
            "Now",
            [
                _stat("Latency p99", "Event committed to delivered.", "tocsin:delivery_latency_seconds:p99_5m",
                      unit="s", limits=(5, 30), decimals=2),
                _stat("Outbox", "Events that wait for a relay.", "max(tocsin_outbox_events)", limits=(100, 1_000)),
                _stat("Oldest event", "How long it has waited for a relay.", "max(tocsin_outbox_oldest_seconds)",
                      unit="s", limits=(10, 60), decimals=1),
                _stat("Pending", "Notifications that are still to be delivered.", "max(tocsin_notifications_pending)",
                      limits=(100, 1_000)),
                _stat("Failing channels", "Their last attempt failed.", "max(tocsin_channels_failing)", limits=(1, 5)),
                _stat("Dead in a day", "Notifications that were given up on.",
                      'sum(increase(tocsin_notifications_total{outcome="dead"}[1d]))', limits=(1, 10), decimals=0),
            ],
        ),
        (
            "Delivery",
            [
                _SETTLED,
                Panel("Notifications by channel type", "Delivered a second.",
                      [(_rate("tocsin_notifications_total", "channel_type", outcome="sent"), "{{channel_type}}")],
                      "ops", stacked=True),
                _DELIVERY,
                _heat("Event to delivery, all", "Each cell counts notifications.", "tocsin_delivery_latency_seconds"),
                Panel("One attempt, p95", "How long receivers take, by channel type.",
                      [(_quantile(0.95, "tocsin_delivery_duration_seconds", "channel_type"), "{{channel_type}}")], "s",
                      limits=(5, 15)),
                Panel("Failed and dead by channel type", "Attempts that failed, and notifications given up on.",
                      [(_FAILED, "{{channel_type}} {{outcome}}")], "ops"),
            ],
        ),
        (
            "Events",
            [
                Panel("Relayed", "Events led into the ledger, and those that led to nobody.",
                      [(_rate("tocsin_outbox_relayed_total"), "relayed"),
                       (_rate("tocsin_events_unrouted_total"), "unrouted")], "ops"),
                Panel("Waiting", "Events before a relay, notifications before their channel.",
                      [("max(tocsin_outbox_events)", "events"),
                       ("max(tocsin_notifications_pending)", "notifications")]),
                Panel("Alerts taken in", "By input and what became of them.",
                      [(_rate("tocsin_alerts_total", "input, outcome"), "{{input}} {{outcome}}")], "ops", stacked=True),
                Panel("Dead man's switch", "Turns to tell something else that we live.",
                      [(_rate("tocsin_deadman_pings_total", "outcome"), "{{outcome}}")], "ops"),
            ],
        ),
        (
            "Incidents",
            [
                Panel("Opened", "By severity.", [(_rate("tocsin_incidents_opened_total", "severity"), "{{severity}}")],
                      "ops", stacked=True),
                Panel("Time to detect", "First failed check to the open incident.",
                      _quantiles("tocsin_incident_detection_seconds"), "s"),
                Panel("Time to acknowledge", "Mean over an hour, by severity.",
                      [(_mean("tocsin_incident_acknowledgement_seconds", "[1h]", "severity"), "{{severity}}")], "s"),
                Panel("Time to repair", "Mean over an hour, by severity.",
                      [(_mean("tocsin_incident_resolution_seconds", "[1h]", "severity"), "{{severity}}")], "s"),
            ],
        ),
    ],
)  # fmt: skip

_API = Page(
    "tocsin-api",
    "Tocsin / API",
    "Requests by route template; no id, name or address stands in a label.",
    [
        (
            "Now",
            [
                _stat("Requests a second", "Answered.", _rate("tocsin_api_requests_total"), unit="reqps"),
                _stat("p95", "Of all routes, what waits for probes or tells Prometheus everything aside.",
                      f"histogram_quantile(0.95, {_P95})", unit="s", limits=(0.05, 0.25), decimals=3),
                _stat("Failures", "Share of answers that are 5xx.", "tocsin:api_failures:ratio5m", unit="percentunit",
                      limits=(0.001, 0.01), decimals=2),
                _stat("Streams", "Open event streams.", "sum(tocsin_streams)"),
                _stat("Refused as full", "In five minutes.", "sum(increase(tocsin_api_full_total[5m]))",
                      limits=(1, 10), decimals=0),
                _stat("Cache hits", "Of incidents that were looked for.",
                      f"{_rate('tocsin_incident_cache_total', outcome='hit')} / ({_rate('tocsin_incident_cache_total')}"
                      " > 0)", unit="percentunit", limits=(0.5, 0.8), low_is_bad=True, decimals=1),
            ],
        ),
        (
            "Requests",
            [
                Panel("By status", "A second.", [(_CLASS, "{{class}}")], "reqps", stacked=True),
                Panel("Duration", "Of all routes.", _quantiles("tocsin_api_request_duration_seconds"), "s",
                      limits=(0.05, 0.25)),
                Panel("Busiest routes", "Requests a second.",
                      [(f"topk(10, {_rate('tocsin_api_requests_total', 'method, route')})", "{{method}} {{route}}")],
                      "reqps"),
                Panel("Slowest routes, p95", "Of those that were asked.",
                      [("topk(10, tocsin:api_request_duration_seconds:p95_5m)", "{{route}}")], "s"),
                _heat("Duration, all", "Each cell counts requests.", "tocsin_api_request_duration_seconds"),
                Panel("5xx by route", "500 is a fault of ours; 503 says that something is away or full.",
                      [(f'sum by (route, status) (rate(tocsin_api_requests_total{{status=~"5.."}}{_RATE}))',
                        "{{status}} {{route}}")], "reqps"),
            ],
        ),
        (
            "Limits and inputs",
            [
                Panel("Refused", "Full by its code, and 401, 403 and 429.",
                      [(_rate("tocsin_api_full_total", "code"), "{{code}}"),
                       (f'sum by (status) (rate(tocsin_api_requests_total{{status=~"401|403|429"}}{_RATE}))',
                        "{{status}}")], "reqps"),
                Panel("Streams", "Open ones, and why others ended.",
                      [("sum(tocsin_streams)", "open"),
                       (_rate("tocsin_streams_ended_total", "why"), "{{why}} a second")]),
                Panel("Alerts", "Taken in a second, and offers: alerts times organizations that they concern.",
                      [(_rate("tocsin_alerts_total"), "alerts"),
                       (_rate("tocsin_alert_offers_total"), "offers")], "ops"),
                Panel("Platform's routes", "In the index, and how long building it takes.",
                      [("max(tocsin_platform_routes)", "routes"),
                       (_quantile(0.95, "tocsin_platform_refresh_seconds"), "refresh p95 (s)")]),
            ],
        ),
    ],
)  # fmt: skip

_CHOSEN = 'monitor=~"$monitor"'

_MONITORS = Page(
    "tocsin-monitors",
    "Tocsin / Monitors",
    "What is watched, from /prometheus/metrics: the names are those of blackbox_exporter and Uptime Kuma.",
    [
        (
            "Now",
            [
                _stat("Up", "Or degraded.", "count(monitor_status == 1) or vector(0)"),
                _stat("Down", "Judged down by their quorum.", "count(monitor_status == 0) or vector(0)", limits=(1, 1)),
                _stat("Pending", "Not seen yet.", "count(monitor_status == 2) or vector(0)"),
                _stat("Maintenance", "Covered by a window now.", "count(monitor_status == 3) or vector(0)"),
                _stat("Success", "Share of the newest checks that succeeded.", "avg(probe_success)",
                      unit="percentunit", limits=(0.95, 0.999), low_is_bad=True, decimals=2),
                _stat("Slowest", "Newest check of all.", "max(probe_duration_seconds)", unit="s", decimals=2),
            ],
        ),
        (
            "Chosen monitors",
            [
                Panel("Success", "By location; 1 is success.",
                      [(f"probe_success{{{_CHOSEN}}}", "{{monitor}} {{location}}")]),
                Panel("Duration", "Of the newest check.",
                      [(f"probe_duration_seconds{{{_CHOSEN}}}", "{{monitor}} {{location}}")], "s"),
                Panel("Phases", "Mean over the chosen ones.",
                      [(f"avg by (phase) (probe_http_duration_seconds{{{_CHOSEN}}})", "{{phase}}")], "s",
                      stacked=True),
                Panel("Why they fail", "Monitors by the reason of their newest failure.",
                      [("count by (reason) (tocsin_monitor_failure_info)", "{{reason}}")], stacked=True),
            ],
        ),
        (
            "Down",
            [
                Panel("Down now", "With the reason.",
                      [("tocsin_monitor_failure_info and on (monitor_id, location) (probe_success == 0)", "")],
                      kind="table", width=24),
            ],
        ),
    ],
    [("monitor", "label_values(probe_success, monitor)")],
)  # fmt: skip

PAGES: Sequence[Page] = (_OVERVIEW, _WORKERS, _DELIVERIES, _API, _MONITORS)
