"""For Prometheus: the monitors' series, the list of their targets, and blackbox_exporter's /probe.

An API key is sent as Bearer or by Basic authentication (either half), as Prometheus' configuration allows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from flask import Response, request

from api import asked_probes, exposition, probe_modules, probe_series
from api.context import caller, services
from api.exposition import OPENMETRICS, TEXT
from api.monitor_filters import exact_labels
from api.replies import as_json
from api.routing import Routes
from api.schemas_prometheus import ProbeQuery, SeriesOfQuery, TargetGroup
from common.domain.checks import Verdict
from common.domain.errors import FieldError, Full, Unanswered, Unavailable, ValidationFailed
from common.expiries import Expiries
from common.store import exposition as store
from common.store.exposition import Seen, Target, Wanted

routes = Routes("prometheus")

Row = TypeVar("Row", Seen, Target)

#: Monitors times locations in one answer: what is more, has to be asked for in shards. So memory has a bound.
MAX_ROWS = 25_000
#: Answers that are made at once, in this process.
_AT_ONCE = threading.BoundedSemaphore(2)
_PATIENCE_S = 5.0


@routes.get("/prometheus/metrics", permission="monitors:read", query=SeriesOfQuery, media_type="text/plain")
def export_monitor_series(query: SeriesOfQuery) -> Response:
    """The newest result and the state of every monitor, in the names of blackbox_exporter and Uptime Kuma.

    As text or OpenMetrics by Accept, and as gzip for who takes it. Scrape it with `honor_labels: true`.
    """
    with _place():
        with services().database.begin(caller().org_id) as connection:
            found = exposition.lines(_bounded(store.seen(connection, _wanted(query), _expiries)))
        pieces = exposition.render(found, services().uptimes.of(caller().org_id), open_metrics=_open_metrics())
        # Packed it is small and made at once; else it is made while it is sent.
        return _text(b"".join(exposition.compressed(pieces)), "gzip") if _gzip() else _text(map(str.encode, pieces))


@routes.get("/prometheus/sd", permission="monitors:read", query=SeriesOfQuery, answer=TargetGroup, listed=True)
def discover_targets(query: SeriesOfQuery) -> Response:
    """The monitors that are not paused, as Prometheus' HTTP service discovery wants them."""
    with _place():
        with services().database.begin(caller().org_id) as connection:
            groups = [_group(row) for row in _bounded(store.targets(connection, _wanted(query)))]
        return Response(as_json(groups), content_type="application/json")


@routes.get("/probe", permission="probes:write", query=ProbeQuery, media_type="text/plain", statuses=(503, 504))
def probe_for_prometheus(query: ProbeQuery) -> Response:
    """Probe a target now, as blackbox_exporter does: a failing target is `probe_success 0`.

    504 where it could not be judged, for a reason that is ours, or nobody answered: Prometheus sees a failed scrape.
    """
    asked = probe_modules.read(query.module, query.target, request.headers.get("X-Prometheus-Scrape-Timeout-Seconds"))
    seen = services().probes.probe(asked_probes.place(query.location), asked)
    if seen.verdict is Verdict.UNKNOWN:
        raise Unanswered(f"The target could not be judged: {seen.message}", code="PROBE_NOT_JUDGED")
    text = "".join(probe_series.told(asked.type, seen))
    return _text((text + "# EOF\n" if _open_metrics() else text).encode())


def _expiries(numbers: Sequence[int]) -> Mapping[int, int]:
    try:
        return Expiries(services().broker).of(numbers)
    except Unavailable:
        return {}  # a hint; without Redis it is not known


def _wanted(query: SeriesOfQuery) -> Wanted:
    part, _, parts = (query.shard or "1/1").partition("/")
    return Wanted(
        caller().org_id,
        None if query.monitor_id is None else str(query.monitor_id),
        query.type,
        exact_labels(query.label),
        int(parts),
        int(part) - 1,
    )


def _bounded(rows: Iterator[Row]) -> Iterator[Row]:
    yield from islice(rows, MAX_ROWS)
    if next(rows, None) is not None:
        raise ValidationFailed(
            f"There are more than {MAX_ROWS:,} series of each kind.",
            details=[FieldError("shard", "ask for parts, like shard=1/4, or filter by type or label")],
        )


@contextmanager
def _place() -> Iterator[None]:
    if not _AT_ONCE.acquire(timeout=_PATIENCE_S):
        raise Full("Others are being told everything; try again.", code="EXPOSITION_BUSY", retry_after_s=1)
    try:
        yield
    finally:
        _AT_ONCE.release()


def _open_metrics() -> bool:
    return "application/openmetrics-text" in request.headers.get("Accept", "")


def _gzip() -> bool:
    return bool(request.accept_encodings.quality("gzip"))


def _text(body: bytes | Iterable[bytes], encoding: str = "") -> Response:
    response = Response(body, content_type=OPENMETRICS if _open_metrics() else TEXT)
    response.headers["Vary"] = "Accept, Accept-Encoding"
    if encoding:
        response.headers["Content-Encoding"] = encoding
    return response


def _group(row: Target) -> dict[str, object]:
    meta = {
        "monitor_id": row.id,
        "monitor": row.name,
        "key": row.key or "",
        "type": row.type,
        "severity": row.severity,
        "interval_seconds": str(row.interval_s),
        **{f"label_{name}": value for name, value in exposition.named_labels(row)},
    }
    return {"targets": [row.target], "labels": {f"__meta_tocsin_{name}": value for name, value in meta.items()}}
