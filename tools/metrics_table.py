"""The tables of docs/metrics.md, made from the registry: `python -m tools.metrics_table`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api.exposition_families import FAMILIES, OTHERS
from api.probe_series import SERIES
from common import telemetry

PATH = Path(__file__).parent.parent / "docs" / "metrics.md"

_SECTION = re.compile(r"# ((?:Scheduler|Worker|Notifier|API|Every role).*)")
_METRIC = re.compile(r"([A-Z_]+) = (?:Gauge|Counter|Histogram)\(")


def sections() -> dict[str, list[Any]]:
    """{which role: its metrics}, as they stand in common/telemetry.py."""
    found: dict[str, list[Any]] = {}
    role = ""
    for line in Path(telemetry.__file__).read_text(encoding="utf-8").splitlines():
        if heading := _SECTION.fullmatch(line):
            role = heading[1]
        elif named := _METRIC.match(line):
            found.setdefault(role, []).append(getattr(telemetry, named[1]))
    return found


def updated(text: str) -> str:
    """The document with its tables as the code has them now."""
    for name, lines in (("our own", _ours()), ("per monitor", _theirs()), ("per probe", _asked())):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{after}"
    return text


def _ours() -> Iterator[str]:
    for role, metrics in sections().items():
        yield f"\n### {role}\n"
        yield "| metric | type | labels | what it says |"
        yield "|---|---|---|---|"
        for metric in metrics:
            family = metric.describe()[0]
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield f"| `{name}` | {family.type} | {_labels(metric._labelnames)} | {family.documentation} |"  # noqa: SLF001
    yield ""


def _theirs() -> Iterator[str]:
    yield "| metric | labels beside the common ones | what it says |"
    yield "|---|---|---|"
    for family in FAMILIES:
        yield f"| `{family.name}` | {_labels(family.labels)} | {family.help} |"
    for name, about, labels in OTHERS:
        yield f"| `{name}` | {_labels(labels)} | {about} |"


def _asked() -> Iterator[str]:
    yield "| metric | labels | probers | what it says |"
    yield "|---|---|---|---|"
    for metric in SERIES:
        probers = ", ".join(metric.probers) or "all"
        yield f"| `{metric.name}` | {_labels(metric.labels)} | {probers} | {metric.help} |"


def _labels(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    PATH.write_text(updated(PATH.read_text(encoding="utf-8")), encoding="utf-8")
