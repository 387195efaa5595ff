"""Our own metrics: every name that Prometheus reads, in one place.

One prefix, base units, no URL, id or tenant in a label. With PROMETHEUS_MULTIPROC_DIR set (as `tocsin up` does) all
processes of one machine share a directory and the API's /metrics shows them together; otherwise each role serves its
own on TOCSIN_METRICS_PORT. What a process counted stays when it is gone; what it measured goes with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import REGISTRY, Collector

_LAG_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75, 1, 2.5, 5, 10, 30, 60)
_CHECK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_BUCKETS = (1, 5, 10, 25, 50, 100, 250, 500)
_PROCESSES = Path("/proc")
_INCIDENT_BUCKETS = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 14_400, 86_400, 604_800)

# Scheduler
LEADER_EPOCH = Gauge(
    "tocsin_leader_epoch",
    "Epoch of the lease that this scheduler holds, 0 while it stands by.",
    multiprocess_mode="livemax",
)
LEADER_RENEWED = Gauge(
    "tocsin_leader_renewed_timestamp_seconds",
    "When a leader renewed its lease last. Nobody leads when that is long ago.",
    multiprocess_mode="max",  # of the dead as well: that it gets older is what it says
)
MONITORS_SCHEDULED = Gauge(
    "tocsin_monitors_scheduled",
    "Checks per round in the leader's timing wheel: monitors times their locations.",
    multiprocess_mode="livemostrecent",
)
CHECKS_DISPATCHED = Counter("tocsin_checks_dispatched_total", "Checks put into queues.", ["lane"])
CHECKS_SKIPPED = Counter("tocsin_checks_skipped_total", "Slots that were due and not dispatched.", ["why"])
DISPATCH_LAG = Histogram(
    "tocsin_dispatch_lag_seconds", "Due slot to its message being in the queue.", buckets=_LAG_BUCKETS
)
QUEUE_DEPTH = Gauge("tocsin_queue_depth", "Messages waiting, by queue.", ["queue"], multiprocess_mode="livemostrecent")
QUEUE_WAITING = Gauge(
    "tocsin_queue_waiting_seconds",
    "How long the oldest message of a lane has waited; past 10 s its slots are skipped.",
    ["queue"],
    multiprocess_mode="livemostrecent",
)
ROLLUP_DURATION = Histogram("tocsin_rollup_seconds", "Making one bucket of rollups.", ["level"], buckets=_CHECK_BUCKETS)
DEAD_LETTERS = Gauge(
    "tocsin_dead_letters", "Messages set aside, by queue.", ["queue"], multiprocess_mode="livemostrecent"
)

# Scheduler, of what stands in the database
INCIDENTS_OPEN = Gauge(
    "tocsin_incidents_open",
    "Incidents that are not resolved.",
    ["severity", "status"],
    multiprocess_mode="livemostrecent",
)
INCIDENTS_OPENED = Counter("tocsin_incidents_opened_total", "Incidents that were opened.", ["severity", "origin"])
INCIDENT_DETECTION = Histogram(
    "tocsin_incident_detection_seconds",
    "Time to detect: the first failed check of an outage being due to its incident being open.",
    buckets=_INCIDENT_BUCKETS,
)
INCIDENT_ACKNOWLEDGEMENT = Histogram(
    "tocsin_incident_acknowledgement_seconds",
    "Incident opened to its first acknowledgement.",
    ["severity"],
    buckets=_INCIDENT_BUCKETS,
)
INCIDENT_RESOLUTION = Histogram(
    "tocsin_incident_resolution_seconds",
    "Time to repair: incident opened to resolved.",
    ["severity"],
    buckets=_INCIDENT_BUCKETS,
)
OUTBOX_WAITING = Gauge(
    "tocsin_outbox_events",
    "Announced events that wait for a relay (at most 10,000).",
    multiprocess_mode="livemostrecent",
)
OUTBOX_AGE = Gauge(
    "tocsin_outbox_oldest_seconds",
    "Age of the oldest event that waits for a relay.",
    multiprocess_mode="livemostrecent",
)
NOTIFICATIONS_PENDING = Gauge(
    "tocsin_notifications_pending",
    "Notifications that are still to be delivered (at most 100,000).",
    multiprocess_mode="livemostrecent",
)
CHANNELS_FAILING = Gauge(
    "tocsin_channels_failing", "Enabled channels whose last attempt failed.", multiprocess_mode="livemostrecent"
)

LOCATIONS_BLIND = Gauge(
    "tocsin_locations_blind", "Locations that the leader holds to be blind.", multiprocess_mode="livemostrecent"
)

# Worker
CHECKS = Counter("tocsin_checks_total", "Finished checks.", ["type", "verdict", "reason"])
CHECK_DURATION = Histogram("tocsin_check_duration_seconds", "Duration of one probe.", ["type"], buckets=_CHECK_BUCKETS)
SCHEDULING_LAG = Histogram(
    "tocsin_scheduling_lag_seconds", "Due slot to the start of its probe, in the quick lanes.", buckets=_LAG_BUCKETS
)
CHECKS_LATE = Counter("tocsin_checks_late_total", "Checks dropped because their deadline had passed.")
CHECKS_SPILLED = Counter("tocsin_checks_spilled_total", "Checks moved to the slow lane while their probe still ran.")
PROBES_ASKED = Counter("tocsin_probes_asked_total", "Probes that somebody waited for.", ["outcome"])
MESSAGES_REFUSED = Counter("tocsin_messages_refused_total", "Queue messages that could not be read.", ["queue"])
CANARIES_SILENT = Gauge(
    "tocsin_canaries_silent",
    "Workers of which no canary answers: what they do not reach is unknown, not down.",
    multiprocess_mode="livesum",
)
WRITER_BATCH = Histogram("tocsin_writer_batch_size", "Results in one commit.", buckets=_BATCH_BUCKETS)
WRITER_COMMIT = Histogram("tocsin_writer_commit_seconds", "Duration of one commit.", buckets=_CHECK_BUCKETS)
WRITER_CONFLICTS = Counter("tocsin_writer_conflicts_total", "Votes that another writer changed first.")
WRITER_WAITING = Gauge(
    "tocsin_writer_waiting", "Results that are probed and not committed yet.", multiprocess_mode="livesum"
)
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
    "tocsin_platform_routes", "Routes in the index for the platform's alerts.", multiprocess_mode="livemax"
)
PLATFORM_REFRESH = Histogram(
    "tocsin_platform_refresh_seconds", "Reading changed routes and building the index.", buckets=_CHECK_BUCKETS
)
STREAMS = Gauge("tocsin_streams", "Open event streams.", multiprocess_mode="livesum")
STREAMS_ENDED = Counter("tocsin_streams_ended_total", "Event streams that ended.", ["why"])

# Every role
BUILD = Gauge(
    "tocsin_build_info", "The version that a role runs; always 1.", ["role", "version"], multiprocess_mode="livemax"
)
CLOCK_SKEW = Gauge(
    "tocsin_clock_skew_seconds",
    "This machine's clock against the database's; positive: ours is ahead. Slots go by the database's.",
    ["role"],
    multiprocess_mode="livemostrecent",
)
LOOP_ERRORS = Counter("tocsin_loop_errors_total", "Steps of a background loop that failed.", ["loop"])


def serve(port: int, address: str) -> None:
    """Serve this process's metrics on this port of an address; 0 serves none."""
    if port:
        start_http_server(port, address)


def tell_build(role: str) -> None:
    """Say which version this process runs, as what."""
    try:
        ours = version("tocsin")
    except PackageNotFoundError:  # run from a folder that was never installed
        ours = "unknown"
    BUILD.labels(role, ours).set(1)


def forget(pid: int, folder: Path) -> None:
    """Leave out what a process that is gone had open, in the shared directory; what it counted stays."""
    multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def registry(shared: Path | None) -> CollectorRegistry:
    """What /metrics shows: all processes' metrics from a shared directory, or this process's own."""
    if shared is None:
        return REGISTRY
    merged = CollectorRegistry()
    merged.register(_Shared(shared))
    return merged


class _Shared(Collector):
    """All processes' metrics, but for what those measured that died without anybody to `forget` them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Merge the files of all."""
        files = [str(file) for file in self._folder.glob("*.db") if not _left_behind(file)]
        merged: Iterable[Metric] = multiprocess.MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged


def _left_behind(file: Path) -> bool:
    """Whether a process's measurements are there and it is not. Only Linux says so: elsewhere they count as there."""
    if not file.name.startswith("gauge_live") or not _PROCESSES.is_dir():
        return False
    return not (_PROCESSES / file.stem.rpartition("_")[2]).exists()
