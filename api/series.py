"""/v1/monitors/series: uptime, latency and coverage over time, of many monitors at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from api import limits
from api.context import caller, services
from api.routing import Routes
from api.schemas_pages import SeriesIn, SeriesOut
from common.clock import from_ms, to_ms
from common.domain.errors import FieldError, ValidationFailed
from common.domain.series import RAW_S, Grid, Step, Watched, columns, grid
from common.store import monitors, rollups_series, series
from common.store.engine import Connection

routes = Routes("pages")

#: So many results are read for one answer at most: 200 monitors at 30 s over 24 hours, and some.
MAX_RESULTS = 600_000


@routes.post(
    "/v1/monitors/series",
    permission="monitors:read",
    body=SeriesIn,
    answer=SeriesOut,
    limit=limits.READS,
    audited=False,  # it changes nothing
)
def read_series(body: SeriesIn) -> dict[str, Any]:
    """Columns of uptime, latency and coverage of up to 200 monitors, by scheduled checks.

    Windows beyond a day are made of rollups: up to about seven minutes ago, in steps of whole five minutes or hours.

    `coverage` is null where it is not known how many checks were due: before a monitor was resumed or got its interval,
    and while it is paused. Ids of monitors that are not there are left out.
    """
    _refuse_beyond_retention(body)
    org_id, ids = caller().org_id, [str(id_) for id_ in body.ids]
    with services().database.begin(org_id) as connection:
        watched = series.watched(connection, org_id=org_id, ids=ids)
        _refuse_too_many(body, watched.values())
        now_ms = to_ms(monitors.now(connection))
        steps = grid(now_ms / 1000, body.window_s, body.points)
        found, known_ms = _read(connection, body, list(watched), steps, now_ms)
    return {
        "t0": from_ms(steps.t0_s * 1000),
        "step_s": steps.step_s,
        "series": [
            {"id": id_, **asdict(columns(steps, watched[id_], found.get(id_, {}), known_ms))}
            for id_ in ids
            if id_ in watched
        ],
    }


def _read(
    connection: Connection, body: SeriesIn, ids: Sequence[str], steps: Grid, now_ms: int
) -> tuple[Mapping[str, Mapping[int, Step]], int]:
    """What is in the steps of each monitor, and until when it is known."""
    if body.window_s <= RAW_S:
        return series.read(connection, series.Wanted(ids, steps)), now_ms
    rolled = rollups_series.read(connection, ids, steps)
    return rolled.steps, rolled.to_ms


def _refuse_beyond_retention(body: SeriesIn) -> None:
    days = services().settings.rollup_retention_days
    if body.window_s > days * 86_400:
        raise _wrong("window", f"reaches back further than figures are kept: {days}d at most")


def _refuse_too_many(body: SeriesIn, watched: Iterable[Watched]) -> None:
    """An answer takes bounded time: what would take longer is said before it is read."""
    if body.window_s > RAW_S:
        return  # rollups are few
    results = sum(body.window_s / monitor.interval_s * monitor.locations for monitor in watched)
    if results > MAX_RESULTS:
        message = (
            f"{body.window} of these monitors are about {results:,.0f} results, {MAX_RESULTS:,} at most: "
            "ask for a shorter window or fewer monitors at once"
        )
        raise _wrong("window", message)


def _wrong(field: str, message: str) -> ValidationFailed:
    return ValidationFailed("Some fields are wrong.", details=[FieldError(field, message)])
