"""A report as CSV: the same rows, flat, one line each, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from common.domain.accounting import CATEGORIES

#: What makes a spreadsheet take a text for a formula, at its beginning.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

COLUMNS = (
    "monitor_id", "key", "name", "labels", "value", "monitors", "from", "to", "target", "uptime", "coverage",
    *(f"{name}_seconds" for name in CATEGORIES),
    "error_budget_seconds", "error_budget_remaining_seconds", "burn_rate_1h", "burn_rate_6h", "burn_rate_window",
)  # fmt: skip


def sheet(pages: Iterable[list[dict[str, Any]]], window: Mapping[str, Any], target: float) -> Iterator[str]:
    """The lines of a report, a page at a time, after a line with the names of the columns."""
    yield _lines([COLUMNS])
    for rows in pages:
        yield _lines([_cells(row, window, target) for row in rows])


def text_cell(text: str | None) -> str:
    """A text that no spreadsheet takes for a formula: a quotation mark before it says that it is text."""
    if text is None:
        return ""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _cells(row: Mapping[str, Any], window: Mapping[str, Any], target: float) -> list[Any]:
    monitor: Mapping[str, Any] = row["monitor"] or {}
    labels = " ".join(f"{name}:{value}" for name, value in sorted(monitor.get("labels", {}).items()))
    budget, burn = row["error_budget"], row["burn_rate"]
    return [
        monitor.get("id", ""),
        *(text_cell(text) for text in (monitor.get("key"), monitor.get("name"), labels, row["value"])),
        row["monitors"],
        window["from"].isoformat(),
        window["to"].isoformat(),
        target,
        row["uptime"],
        row["coverage"],
        *(row["seconds"][name] for name in CATEGORIES),
        budget["total_seconds"],
        budget["remaining_seconds"],
        burn["last_1h"],
        burn["last_6h"],
        burn["window"],
    ]


def _lines(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
