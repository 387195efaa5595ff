"""/v1/reports: how monitors did against an objective, one by one and together, as JSON or CSV.

Reports are made of rollups alone, so they end with the last five minutes that are rolled up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Response

from api import pagination, uptime_windows
from api.context import caller, services
from api.replies import reply
from api.report_sheets import sheet
from api.routing import Routes
from api.schemas_uptime import SloQuery, SloReport
from api.uptime_documents import period, slo_figures
from common.domain.accounting import Times
from common.domain.accounting_cover import Cover, Level, Rolled, cover
from common.domain.errors import FieldError, NotFound, ValidationFailed
from common.store import rollups, uptime, uptime_reports
from common.store.engine import Connection, Database
from common.store.uptime import Sums, Total
from common.store.uptime_reports import Chosen, Reported

routes = Routes("reports")

_CSV = "text/csv"
_SHEET_PAGE = 1_000
#: Rows by the values of a label.
_MOST_VALUES = 1_000


@dataclass(frozen=True, slots=True)
class _Report:
    """What a report is made of: whose monitors, the objective (0 to 1), the window and its last hours."""

    database: Database
    chosen: Chosen
    target: float
    windows: tuple[Cover, Cover, Cover]


@routes.get(
    "/v1/reports/slo",
    permission="monitors:read",
    query=SloQuery,
    answer=SloReport,
    other_media_type=_CSV,
    statuses=(404,),
)
def report_slo(query: SloQuery) -> Response:
    """Uptime, error budget and burn rate of monitors: of one, of those with a label, or of all.

    `label=team:shop` has a row for each monitor with that label; `label=team` one for each value of the label. As CSV
    all rows come at once, otherwise by pages.
    """
    with services().database.begin(caller().org_id) as connection:
        report = _open(connection, query)
        if query.format == "json":
            return _as_json(connection, report, query)
        by_value = report.chosen.label_name is not None
        pages = iter([_by_value(connection, report)]) if by_value else _pages(report)
    lines = sheet(pages, _period(report), query.target)
    return Response(lines, 200, content_type=f"{_CSV}; charset=utf-8", headers={"Content-Disposition": _DISPOSITION})


_DISPOSITION = 'attachment; filename="slo.csv"'


def _open(connection: Connection, query: SloQuery) -> _Report:
    rolled, _ = rollups.progress(connection)
    length_ms = uptime_windows.length_ms(query.window)
    name, colon, value = (query.label or "").partition(":")
    monitor_id = None if query.monitor_id is None else str(query.monitor_id)
    if query.label is not None and not name:
        raise _wrong("label", "must be a label's name, or name:value")
    if monitor_id is not None and query.label is not None:
        raise _wrong("label", "give either label or monitor_id")
    chosen = Chosen(caller().org_id, monitor_id, {name: value} if colon else None, name if name and not colon else None)
    if monitor_id is not None and not uptime_reports.page(connection, chosen, after=0, limit=1):
        raise NotFound("monitor")
    windows = (_last(rolled, length_ms), _last(rolled, Level.HOUR.ms), _last(rolled, 6 * Level.HOUR.ms))
    return _Report(services().database, chosen, query.target / 100, windows)


def _last(rolled: Rolled, length_ms: int) -> Cover:
    """Up to the last rollup. A window of days begins at a whole hour: so many five minutes less for every monitor."""
    begin_ms = rolled.fine_to_ms - length_ms
    if length_ms >= Level.DAY.ms:
        begin_ms -= begin_ms % Level.HOUR.ms
    return cover(rolled, begin_ms, rolled.fine_to_ms)


def _as_json(connection: Connection, report: _Report, query: SloQuery) -> Response:
    document: dict[str, Any] = {"window": _period(report), "target": query.target, "total": None}
    after = pagination.after_number(query.cursor)
    if not after:
        document["total"] = _total(connection, report)
    if report.chosen.label_name is not None:
        return reply({**document, "data": _by_value(connection, report), "next_cursor": None}, 200)
    found = list(uptime_reports.page(connection, report.chosen, after=after, limit=query.limit + 1))
    shown, last = pagination.cut(found, query.limit)
    cursor = None if last is None else pagination.encode_number(last.number)
    return reply({**document, "data": _rows(connection, report, shown), "next_cursor": cursor}, 200)


def _pages(report: _Report) -> Iterator[list[dict[str, Any]]]:
    """All rows, a page a transaction: whoever reads slowly holds none open."""
    after = 0
    while True:
        with report.database.begin(report.chosen.org_id) as connection:
            found = uptime_reports.page(connection, report.chosen, after=after, limit=_SHEET_PAGE)
            rows = _rows(connection, report, found)
        if not found:
            return
        yield rows
        after = found[-1].number


def _rows(connection: Connection, report: _Report, found: Sequence[Reported]) -> list[dict[str, Any]]:
    ids = [one.id for one in found]
    by_window = [uptime.sums(connection, ids, window) for window in report.windows]
    return [
        {
            "monitor": {"id": one.id, "key": one.key, "name": one.name, "labels": one.labels},
            "value": None,
            "monitors": 1,
            **slo_figures(*(sums.get(one.id, Sums()).times for sums in by_window), target=report.target),
        }
        for one in found
    ]


def _by_value(connection: Connection, report: _Report) -> list[dict[str, Any]]:
    by_window = _totals(connection, report)
    if len(by_window[0]) > _MOST_VALUES:
        raise _wrong("label", f"has more than {_MOST_VALUES} values; ask for one: {report.chosen.label_name}:value")
    return [
        {
            "monitor": None,
            "value": name,
            "monitors": total.monitors,
            **slo_figures(*(part[name].times for part in by_window), target=report.target),
        }
        for name, total in by_window[0].items()
    ]


def _total(connection: Connection, report: _Report) -> dict[str, Any]:
    """All monitors of the report together."""
    if report.chosen.monitor_id is not None:
        [row] = _rows(connection, report, uptime_reports.page(connection, report.chosen, after=0, limit=1))
        return {name: value for name, value in row.items() if name not in ("monitor", "value")}
    by_window = _totals(connection, report)
    return {
        "monitors": sum(total.monitors for total in by_window[0].values()),
        **slo_figures(
            *(sum((total.times for total in part.values()), Times()) for part in by_window), target=report.target
        ),
    }


def _totals(connection: Connection, report: _Report) -> list[dict[str | None, Total]]:
    """{value of the label, or None for all: its total} in each window."""
    chosen = report.chosen
    return [
        {
            total.name: total
            for total in uptime.totals(connection, labels=chosen.labels, label_name=chosen.label_name, cover=window)
        }
        for window in report.windows
    ]


def _period(report: _Report) -> dict[str, Any]:
    return period((report.windows[0].begin_ms, report.windows[0].end_ms))


def _wrong(field: str, message: str) -> ValidationFailed:
    return ValidationFailed("Some parameters are wrong.", details=[FieldError(field, message)])
