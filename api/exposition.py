"""Monitors as Prometheus reads them: text, written family by family while it is sent.

No object of prometheus_client per series, and no more than one row a monitor and location in memory: what is written
is gone once the client has it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from api.exposition_families import COVERAGE_RATIO, FAMILIES, RESPONSE_TIME, UPTIME_RATIO, Family, Read, is_fresh
from api.uptime_ratios import Known
from common.domain.checks import Reason
from common.store.exposition import Seen, Target

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

#: {window: {monitor's number: what is known of it}}
Windows = Mapping[str, Mapping[int, Known]]

#: What is sent at once (characters).
_CHUNK = 64 * 1024
_LARGE = 1e6
_NO_LABEL = re.compile(r"[^A-Za-z0-9_]")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_REASONS = {reason.value: reason.label for reason in Reason}


@dataclass(frozen=True, slots=True)
class Line:
    """A row with the labels of its series, written once: for blackbox's names and for Uptime Kuma's ("" where none)."""

    row: Seen
    fresh: bool
    labels: str
    kuma: str


def lines(rows: Iterable[Seen]) -> list[Line]:
    """Rows with their labels. They come monitor by monitor.

    What is said once a monitor is said by the first of its rows that tells how it is now, else by its first.
    """
    found: list[Line] = []
    speaks = 0
    for row in rows:
        fresh, kuma = is_fresh(row), ""
        if not found or found[-1].row.monitor_no != row.monitor_no:
            speaks, kuma = len(found), _kuma_labels(row)
        elif fresh and not found[speaks].fresh:
            kuma = found[speaks].kuma
            found[speaks] = replace(found[speaks], kuma="")
            speaks = len(found)
        found.append(Line(row, fresh, _labels(row), kuma))
    return found


def render(found: Sequence[Line], windows: Windows, *, open_metrics: bool) -> Iterator[str]:
    """The whole text, in pieces."""
    piece: list[str] = []
    size = 0
    for text in chain(_texts(found), _windowed(found, windows)):
        piece.append(text)
        size += len(text)
        if size >= _CHUNK:
            yield "".join(piece)
            piece, size = [], 0
    if open_metrics:
        piece.append("# EOF\n")
    yield "".join(piece)


def compressed(pieces: Iterable[str]) -> Iterator[bytes]:
    """The pieces as gzip; the fastest level already leaves a twentieth."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    for piece in pieces:
        if packed := packer.compress(piece.encode()):
            yield packed
    yield packer.flush()


def label(text: object) -> str:
    """A label's value as it is written between quotes."""
    return str(text).translate(_ESCAPES)


def number(value: float) -> str:
    """A value: whole numbers without a fraction, durations with nine digits, times with all they have."""
    if value == int(value):
        return str(int(value))
    return f"{value:.9g}" if value < _LARGE else repr(float(value))


def head(name: str, help_: str) -> str:
    """What stands before a family's samples."""
    return f"# HELP {name} {help_}\n# TYPE {name} gauge\n"


def named_labels(row: Seen | Target) -> Iterator[tuple[str, str]]:
    """The monitor's own labels under names that Prometheus takes; of two that become one, the first."""
    known = set()
    for key, value in sorted(row.labels.items()):
        name = _NO_LABEL.sub("_", key)
        if name not in known:
            known.add(name)
            yield name, value


def _texts(found: Sequence[Line]) -> Iterator[str]:
    for family in FAMILIES:
        yield head(family.name, family.help)
        for beside, read in family.series:
            yield from _samples(family, f",{beside}" if beside else "", read, found)
    yield head("tocsin_monitor_info", "What a monitor is, and its labels; always 1.")
    for line in found:
        if line.kuma:
            yield f"tocsin_monitor_info{{{_info_labels(line.row)}}} 1\n"
    yield head("tocsin_monitor_failure_info", "Why the newest check failed; always 1, absent while it succeeds.")
    for line in found:
        if line.row.reason and line.fresh:
            yield f'tocsin_monitor_failure_info{{{line.labels},reason="{_REASONS.get(line.row.reason, "other")}"}} 1\n'


def _windowed(found: Sequence[Line], windows: Windows) -> Iterator[str]:
    """What is known of days, of monitors that are not paused."""
    families: tuple[tuple[str, str, Callable[[Known], float | None]], ...] = (
        (*UPTIME_RATIO, lambda known: known.ratio),
        (*COVERAGE_RATIO, lambda known: known.coverage),
        (*RESPONSE_TIME, lambda known: known.mean_s),
    )
    for name, help_, read in families:
        yield head(name, help_)
        for window, figures in windows.items():
            for line in found:
                known = figures.get(line.row.monitor_no) if line.kuma and line.row.enabled else None
                value = None if known is None else read(known)
                if value is not None:
                    yield f'{name}{{{line.kuma},window="{window}"}} {number(value)}\n'


def _samples(family: Family, beside: str, read: Read, found: Sequence[Line]) -> Iterator[str]:
    name, kuma, fresh = family.name, family.kuma, family.fresh
    for line in found:
        labels = line.kuma if kuma else line.labels
        if not labels or (fresh and not line.fresh):
            continue
        value = read(line.row)
        if value is not None:
            yield f"{name}{{{labels}{beside}}} {number(value)}\n"


def _labels(row: Seen) -> str:
    # The id: names need not be unique, and two series of one name would be one too many.
    return (
        f'instance="{label(row.target)}",job="tocsin",monitor="{label(row.name)}",monitor_id="{row.id}",'
        f'location="{label(row.location)}"'
    )


def _kuma_labels(row: Seen) -> str:
    web = row.type in {"http", "websocket"}
    host, _, port = ("", "", "") if web else row.target.rpartition(":") if ":" in row.target else (row.target, "", "")
    shown = (row.target if web else "null", host or "null", port or "null")
    url, hostname, number_ = map(label, shown)
    return (
        f'monitor_id="{row.id}",monitor_name="{label(row.name)}",monitor_type="{row.type}",monitor_url="{url}",'
        f'monitor_hostname="{hostname}",monitor_port="{number_}"'
    )


def _info_labels(row: Seen) -> str:
    own = "".join(f',label_{name}="{label(value)}"' for name, value in named_labels(row))
    return (
        f'instance="{label(row.target)}",job="tocsin",monitor="{label(row.name)}",monitor_id="{row.id}",'
        f'key="{label(row.key or "")}",type="{row.type}",severity="{row.severity}",'
        f'enabled="{str(row.enabled).lower()}"{own}'
    )
