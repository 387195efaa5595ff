"""How a page of panels becomes a dashboard of Grafana's: its grid, colours, units and thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_WIDTH = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_GREEN, _YELLOW, _RED = "green", "#EAB839", "red"

#: One colour for one meaning, on every dashboard: {legend: {series: colour}}.
_MEANINGS: Mapping[str, Mapping[str, str]] = {
    "{{verdict}}": {"up": _GREEN, "degraded": _YELLOW, "down": _RED, "unknown": "purple"},
    "{{outcome}}": {"sent": _GREEN, "failed": _YELLOW, "dead": "dark-red", "suppressed": "#8e8e8e"},
    "{{severity}}": {"critical": _RED, "error": "orange", "warning": _YELLOW, "info": "blue"},
    "{{class}}": {"2xx": _GREEN, "3xx": "blue", "4xx": _YELLOW, "5xx": _RED},
    "p50": {"p50": _GREEN},
    "p95": {"p95": _YELLOW},
    "p99": {"p99": _RED},
}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `shown` are (expression, legend); `limits` where yellow and red begin; sizes are of a grid of 24."""

    title: str
    about: str
    shown: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"
    limits: tuple[float, float] | None = None
    low_is_bad: bool = False
    stacked: bool = False
    width: int = 12
    height: int = 8
    decimals: int | None = None
    texts: Mapping[str, str] = field(default_factory=dict)  # of values that are states


@dataclass(frozen=True, slots=True)
class Page:
    """One dashboard: rows of panels under a heading each."""

    uid: str
    title: str
    about: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    variables: Sequence[tuple[str, str]] = ()  # (name, label_values(…)): chosen above the panels


def document(page: Page) -> dict[str, Any]:
    """The dashboard as Grafana takes it."""
    return {
        "uid": page.uid,
        "title": page.title,
        "description": page.about,
        "tags": ["tocsin"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [
            {"title": "Tocsin", "type": "dashboards", "tags": ["tocsin"], "asDropdown": True, "keepTime": True,
             "includeVars": True, "icon": "external link", "targetBlank": False, "tooltip": "", "url": ""}
        ],
        "templating": {"list": list(_variables(page))},
        "annotations": {"list": [_firing()]},
        "panels": list(_panels(page)),
    }  # fmt: skip


def _variables(page: Page) -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0,
           "refresh": 1, "regex": "", "current": {}}  # fmt: skip
    for name, query in page.variables:
        yield {"name": name, "label": name.capitalize(), "type": "query", "datasource": _SOURCE,
               "query": {"query": query, "refId": name}, "refresh": 2, "includeAll": True, "multi": True,
               "allValue": ".*", "sort": 1, "current": {"text": "All", "value": "$__all"}}  # fmt: skip


def _firing() -> dict[str, Any]:
    """Alerts of ours as marks over time."""
    return {"name": "Alerts", "datasource": _SOURCE, "enable": True, "iconColor": "red", "step": "30s",
            "expr": 'ALERTS{alertname=~"Tocsin.*",alertstate="firing"}', "titleFormat": "{{alertname}}"}  # fmt: skip


def _panels(page: Page) -> Iterator[dict[str, Any]]:
    top, id_ = 0, 0
    for heading, panels in page.rows:
        id_ += 1
        yield {"id": id_, "type": "row", "title": heading, "collapsed": False, "panels": [],
               "gridPos": {"x": 0, "y": top, "w": _WIDTH, "h": 1}}  # fmt: skip
        top, left, height = top + 1, 0, 0
        for panel in panels:
            if left + panel.width > _WIDTH:
                top, left, height = top + height, 0, 0
            id_ += 1
            yield _panel(panel, id_, {"x": left, "y": top, "w": panel.width, "h": panel.height})
            left, height = left + panel.width, max(height, panel.height)
        top += height


def _panel(panel: Panel, id_: int, place: Mapping[str, int]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": id_,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": dict(place),
        "targets": [_target(panel, n, *shown) for n, shown in enumerate(panel.shown)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": list(_colours(panel))},
        "options": _OPTIONS[panel.kind],
    }
    if panel.kind == "table":
        hidden = {"Time": True, "__name__": True, "job": True, "alertstate": True}
        made["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
    return made


_TIPS = {"mode": "multi", "sort": "desc"}
_OPTIONS: Mapping[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull", "max"], "showLegend": True},
        "tooltip": _TIPS,
    },
    "stat": {
        "colorMode": "background", "graphMode": "area", "textMode": "auto", "justifyMode": "center",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
    "bargauge": {
        "displayMode": "gradient", "orientation": "horizontal", "showUnfilled": True,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
    "heatmap": {
        "calculate": False, "color": {"scheme": "Spectral", "mode": "scheme", "steps": 64, "exponent": 0.5},
        "yAxis": {"unit": "s"}, "cellGap": 1, "legend": {"show": True}, "tooltip": {"mode": "single"},
    },
    "table": {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}},
}  # fmt: skip


def _target(panel: Panel, number: int, expression: str, legend: str) -> dict[str, Any]:
    now = panel.kind in {"table", "bargauge"}
    return {
        "refId": chr(ord("A") + number),
        "datasource": _SOURCE,
        "expr": expression,
        "legendFormat": legend,
        "instant": now,
        "range": not now,
        "format": {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series"),
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    made: dict[str, Any] = {"unit": panel.unit, "thresholds": _thresholds(panel), "mappings": _mappings(panel)}
    if panel.decimals is not None:
        made["decimals"] = panel.decimals
    if panel.kind == "timeseries":
        made["min"] = 0
        made["color"] = {"mode": "palette-classic"}
        made["custom"] = {
            "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1 if panel.stacked else 2,
            "fillOpacity": 35 if panel.stacked else 8, "showPoints": "never", "spanNulls": 60_000,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.limits else "off"},
        }  # fmt: skip
    elif panel.kind != "heatmap":
        made["color"] = {"mode": "thresholds"}
    return made


def _thresholds(panel: Panel) -> dict[str, Any]:
    if panel.limits is None:
        return {"mode": "absolute", "steps": [{"color": "blue" if panel.kind == "stat" else _GREEN, "value": None}]}
    colours = (_RED, _YELLOW, _GREEN) if panel.low_is_bad else (_GREEN, _YELLOW, _RED)
    values = (None, *panel.limits)
    steps = [{"color": colour, "value": value} for colour, value in zip(colours, values, strict=True)]
    return {"mode": "absolute", "steps": steps}


def _mappings(panel: Panel) -> list[dict[str, Any]]:
    if not panel.texts:
        return []
    return [{"type": "value", "options": {value: {"text": text} for value, text in panel.texts.items()}}]


def _colours(panel: Panel) -> Iterator[dict[str, Any]]:
    """A series that is named after a meaning has its colour."""
    if panel.kind != "timeseries":
        return
    for _, legend in panel.shown:
        for name, colour in _MEANINGS.get(legend, {}).items():
            yield {
                "matcher": {"id": "byName", "options": name},
                "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
            }
