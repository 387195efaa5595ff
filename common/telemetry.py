"""Our own metrics: every name that Prometheus reads, in one place.

One prefix, base units, no URL, id or tenant in a label. With PROMETHEUS_MULTIPROC_DIR set (as `tocsin up` does) all
processes of one machine share a directory and the API's /metrics shows them together; otherwise each role serves its
own on TOCSIN_METRICS_PORT.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess, start_http_server
from prometheus_client.registry import REGISTRY

_LAG_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75, 1, 2.5, 5, 10, 30, 60)
_CHECK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_BUCKETS = (1, 5, 10, 25, 50, 100, 250, 500)

# Scheduler
LEADER_EPOCH = Gauge(
    "tocsin_leader_epoch",
    "Epoch of the lease that this scheduler holds, 0 while it stands by.",
    multiprocess_mode="max",
)
MONITORS_SCHEDULED = Gauge(
    "tocsin_monitors_scheduled", "Monitors in the leader's timing wheel.", multiprocess_mode="max"
)
CHECKS_DISPATCHED = Counter("tocsin_checks_dispatched_total", "Checks put into queues.", ["lane"])
CHECKS_SKIPPED = Counter("tocsin_checks_skipped_total", "Slots that were due and not dispatched.", ["why"])
DISPATCH_LAG = Histogram(
    "tocsin_dispatch_lag_seconds", "Due slot to its message being in the queue.", buckets=_LAG_BUCKETS
)
QUEUE_DEPTH = Gauge("tocsin_queue_depth", "Messages waiting, by queue.", ["queue"], multiprocess_mode="mostrecent")
ROLLUP_DURATION = Histogram("tocsin_rollup_seconds", "Making one bucket of rollups.", ["level"], buckets=_CHECK_BUCKETS)
DEAD_LETTERS = Gauge("tocsin_dead_letters", "Messages set aside, by queue.", ["queue"], multiprocess_mode="mostrecent")

# Worker
CHECKS = Counter("tocsin_checks_total", "Finished checks.", ["type", "verdict", "reason"])
CHECK_DURATION = Histogram("tocsin_check_duration_seconds", "Duration of one probe.", ["type"], buckets=_CHECK_BUCKETS)
SCHEDULING_LAG = Histogram("tocsin_scheduling_lag_seconds", "Due slot to the start of its probe.", buckets=_LAG_BUCKETS)
CHECKS_LATE = Counter("tocsin_checks_late_total", "Checks dropped because their deadline had passed.")
CHECKS_SPILLED = Counter("tocsin_checks_spilled_total", "Checks moved to the slow lane while their probe still ran.")
PROBES_ASKED = Counter("tocsin_probes_asked_total", "Probes that somebody waited for.", ["outcome"])
MESSAGES_REFUSED = Counter("tocsin_messages_refused_total", "Queue messages that could not be read.", ["queue"])
WRITER_BATCH = Histogram("tocsin_writer_batch_size", "Results in one commit.", buckets=_BATCH_BUCKETS)
WRITER_COMMIT = Histogram("tocsin_writer_commit_seconds", "Duration of one commit.", buckets=_CHECK_BUCKETS)
WRITER_CONFLICTS = Counter("tocsin_writer_conflicts_total", "Votes that another writer changed first.")
WRITER_POISONED = Counter("tocsin_writer_poisoned_total", "Results that PostgreSQL refused, set aside.")
TRANSITIONS = Counter("tocsin_transitions_total", "Incident changes found by checks.", ["change"])

# Notifier
NOTIFICATIONS = Counter("tocsin_notifications_total", "Ledger rows settled.", ["channel_type", "outcome"])
DELIVERY_DURATION = Histogram(
    "tocsin_delivery_duration_seconds", "One attempt to deliver.", ["channel_type"], buckets=_CHECK_BUCKETS
)
DELIVERY_LATENCY = Histogram(
    "tocsin_delivery_latency_seconds", "Event committed to its notification delivered.", buckets=_LAG_BUCKETS
)
OUTBOX_RELAYED = Counter("tocsin_outbox_relayed_total", "Outbox events led into the ledger.")
EVENTS_UNROUTED = Counter("tocsin_events_unrouted_total", "Announcing events that no route led anywhere.")
DEADMAN_PINGS = Counter("tocsin_deadman_pings_total", "Turns to tell something else that we live.", ["outcome"])

# API
API_REQUESTS = Counter("tocsin_api_requests_total", "Requests answered.", ["method", "route", "status"])
API_DURATION = Histogram(
    "tocsin_api_request_duration_seconds", "Duration of one request.", ["method", "route"], buckets=_REQUEST_BUCKETS
)
API_FULL = Counter("tocsin_api_full_total", "Requests refused because every place was taken.", ["code"])
INCIDENT_CACHE = Counter("tocsin_incident_cache_total", "Incidents looked for in the cache.", ["outcome"])
ALERTS = Counter("tocsin_alerts_total", "Alerts taken in.", ["input", "outcome"])
ALERT_OFFERS = Counter("tocsin_alert_offers_total", "Alerts times organizations that they concern, taken in.")
PLATFORM_ROUTES = Gauge(
    "tocsin_platform_routes", "Routes in the index for the platform's alerts.", multiprocess_mode="max"
)
PLATFORM_REFRESH = Histogram(
    "tocsin_platform_refresh_seconds", "Reading changed routes and building the index.", buckets=_CHECK_BUCKETS
)
STREAMS = Gauge("tocsin_streams", "Open event streams.", multiprocess_mode="livesum")
STREAMS_ENDED = Counter("tocsin_streams_ended_total", "Event streams that ended.", ["why"])

# Every role
LOOP_ERRORS = Counter("tocsin_loop_errors_total", "Steps of a background loop that failed.", ["loop"])


def serve(port: int, address: str) -> None:
    """Serve this process's metrics on this port of an address; 0 serves none."""
    if port:
        start_http_server(port, address)


def registry(*, shared: bool) -> CollectorRegistry:
    """What /metrics shows: all processes' metrics from the shared directory, or this process's own."""
    if not shared:
        return REGISTRY
    merged = CollectorRegistry()
    multiprocess.MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
    return merged
