"""One picture per table of docs/performance.md, as SVG and PNG, from the kept numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Okabe and Ito's colours, told apart by everybody; grey lines and text read on white and on black.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
_INK = "#808080"

Kept = dict[str, Any]


def draw(scenario: str, kept: Kept, folder: Path) -> list[Path]:
    """Draw the pictures of a scenario's kept result; the files, none for a scenario without a picture."""
    if scenario not in PICTURES:
        return []
    # Ids in SVG from this instead of chance: the same numbers give the same file.
    mpl.rcParams.update({"svg.hashsalt": "tocsin", "font.size": 10, "font.family": "DejaVu Sans"})
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    PICTURES[scenario](figure, kept)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{scenario}.{kind}" for kind in ("svg", "png")]
    for path in paths:
        figure.savefig(path, transparent=True, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def _axes(figure: Figure, place: int = 111, *, title: str, x: str, y: str) -> Axes:
    axes = figure.add_subplot(place)
    axes.set_title(title, color=_INK, fontsize=10, loc="left")
    axes.set_xlabel(x, color=_INK)
    axes.set_ylabel(y, color=_INK)
    axes.tick_params(colors=_INK)
    axes.set_axisbelow(True)
    axes.grid(color=_INK, alpha=0.25, linewidth=0.6)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(_INK)
    return axes


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, labelcolor=_INK, fontsize=9)


def _peers(figure: Figure, kept: Kept) -> None:
    axes = _axes(figure, title="Checks done in time, by the load that was asked for", x="offered per second",
                 y="done per second")  # fmt: skip
    peer = [(s["due"] / s["seconds"], s["done_per_s"]) for s in kept["peer"]]
    ours = [(s["offered_per_s"], s["committed_per_s"]) for s in kept["steps"]]
    top = max(x for x, _ in (*peer, *ours))
    axes.plot([0, top], [0, top], color=_INK, linewidth=0.8, linestyle=":", label="all of them")
    axes.plot(*zip(*peer, strict=True), color=ORANGE, marker="s", label="Prometheus + blackbox_exporter")
    axes.plot(*zip(*ours, strict=True), color=BLUE, marker="o", label="Tocsin (stored and judged)")
    _legend(axes)


def _detection(figure: Figure, kept: Kept) -> None:
    found = kept["detection"]
    rows = [("outage → incident", found["incident"]), ("outage → webhook", found["webhook"]),
            ("recovery → webhook", found["resolve"])]  # fmt: skip
    rows = [(name, spread) for name, spread in rows if spread]
    load = found["load"]
    axes = _axes(figure, title=f"{found['outages']} outages among {load['monitors']:,} monitors at "
                 f"{load['interval_s']} s", x="seconds", y="")  # fmt: skip
    for place, (name, spread) in enumerate(rows):
        axes.barh(place, spread["max_ms"] / 1000, color=BLUE, alpha=0.25, height=0.5)
        axes.barh(place, spread["p50_ms"] / 1000, color=BLUE, height=0.5)
        axes.text(0, place + 0.27, f" {name}: p50 {spread['p50_ms'] / 1000:.2f} s, "
                  f"max {spread['max_ms'] / 1000:.2f} s", color=_INK, va="bottom", ha="left")  # fmt: skip
    axes.set_yticks([])
    axes.set_ylim(-0.5, len(rows) - 0.1)


def _api(figure: Figure, kept: Kept) -> None:
    found = kept["api"]
    axes = _axes(figure, title=f"API at {found['per_second']:,.0f} requests/s, {found['monitors']:,} monitors",
                 x="", y="milliseconds")  # fmt: skip
    names = list(found["latencies"])
    for shift, (key, colour) in enumerate((("p50_ms", GREEN), ("p95_ms", BLUE), ("p99_ms", ORANGE))):
        places = [n + (shift - 1) * 0.26 for n in range(len(names))]
        axes.bar(places, [found["latencies"][name][key] for name in names], 0.24, color=colour, label=key[:3])
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.6, len(names) + 0.1)
    _legend(axes)


def _load(figure: Figure, kept: Kept) -> None:
    found = kept["load"]["latencies"]
    axes = _axes(figure, title="API with a full database, median and p95", x="milliseconds", y="")
    names = sorted(found, key=lambda name: float(found[name]["p95_ms"]), reverse=True)
    axes.barh(names, [found[name]["p95_ms"] for name in names], color=BLUE, alpha=0.25, height=0.6)
    axes.barh(names, [found[name]["p50_ms"] for name in names], color=BLUE, height=0.6)
    axes.tick_params(labelsize=8)


def _assertions(figure: Figure, kept: Kept) -> None:
    found = kept["assertions"]
    axes = _axes(figure, title="Checks done in time, by the load that was asked for", x="offered per second",
                 y="done per second")  # fmt: skip
    top = max(step["offered_per_s"] for step in found["steps"])
    axes.plot([0, top], [0, top], color=_INK, linewidth=0.8, linestyle=":", label="all of them")
    for name, key, colour, marker in (
        ("HTTP, 3 assertions", "steps", BLUE, "o"),
        ("the same over TLS", "tls", GREEN, "s"),
    ):
        steps = [(step["offered_per_s"], step["committed_per_s"]) for step in found[key]]
        axes.plot(*zip(*steps, strict=True), color=colour, marker=marker, label=name)
    if found["beside"]:
        axes.plot(found["beside"]["offered_per_s"], found["answering"]["up_per_s"], color=ORANGE, marker="^",
                  linestyle="", label="HTTP that answers, 5 % hang")  # fmt: skip
    _legend(axes)


def _heartbeats(figure: Figure, kept: Kept) -> None:
    axes = _axes(figure, title="Pings, each committed before its answer", x="asked per second", y="milliseconds")
    rates = [rate["per_second"] for rate in kept["rates"]]
    for key, colour, marker in (("p50_ms", GREEN, "^"), ("p95_ms", BLUE, "o"), ("p99_ms", ORANGE, "s")):
        times = [rate["latency"][key] for rate in kept["rates"]]
        axes.plot(rates, times, color=colour, marker=marker, label=key[:3])
    axes.set_ylim(bottom=0)
    _legend(axes)


def _exposition(figure: Figure, kept: Kept) -> None:
    found = kept["exposition"]
    axes = _axes(figure, title=f"{found['monitors']:,} monitors in one scrape", x="seconds", y="")
    for place, scrape in enumerate(found["scrapes"]):
        axes.barh(place, scrape["longest_s"], color=BLUE, alpha=0.25, height=0.5)
        axes.barh(place, scrape["median_s"], color=BLUE, height=0.5)
        axes.text(0, place + 0.27, f" {scrape['name']}: median {scrape['median_s']:.2f} s, longest "
                  f"{scrape['longest_s']:.2f} s", color=_INK, va="bottom", ha="left")  # fmt: skip
    axes.set_yticks([])
    axes.set_ylim(-0.5, len(found["scrapes"]) - 0.1)


def _rolling(figure: Figure, kept: Kept) -> None:
    found = kept["rolling"]
    axes = _axes(figure, title=f"Every process restarted: {found['checks']:,} checks, {found['lost']} lost",
                 x="seconds", y="")  # fmt: skip
    names = [one["process"] for one in found["restarts"]][::-1]
    ended = [one["ended_s"] for one in found["restarts"]][::-1]
    # Only an API answers.
    ready = [one["ready_s"] if one["process"].startswith("api") else 0.0 for one in found["restarts"]][::-1]
    axes.barh(names, ended, color=ORANGE, height=0.5, label="ended after SIGTERM")
    axes.barh(names, ready, left=ended, color=BLUE, height=0.5, label="ready after its start")
    _legend(axes)


def _streams(figure: Figure, kept: Kept) -> None:
    costs = kept["streams"]["costs"]
    axes = _axes(figure, title="Cores of the API with 500 open streams", x="cores", y="")
    axes.barh([cost["name"] for cost in costs][::-1], [cost["cores"] for cost in costs][::-1], color=BLUE, height=0.5)


def _growth(figure: Figure, kept: Kept) -> None:
    sizes = kept["sizes"]
    numbers = [size["load"]["monitors"] for size in sizes]
    left = _axes(figure, 121, title="memory", x="monitors", y="MB")
    for role, colour in (("scheduler", BLUE), ("worker-1", GREEN), ("postgres", PURPLE)):
        left.plot(numbers, [s["load"]["memory_peak_mb"][role] for s in sizes], color=colour, marker="o", label=role)
    right = _axes(figure, 122, title="time", x="monitors", y="milliseconds")
    right.plot(numbers, [s["load"]["counters"]["lag_p99_ms"] for s in sizes], color=ORANGE, marker="s", label="lag p99")
    right.plot(numbers, [s["list_p95_ms"] for s in sizes], color=BLUE, marker="o", label="API list 50 p95")
    right.plot(numbers, [s["read_p95_ms"] for s in sizes], color=GREEN, marker="^", label="API read one p95")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        _legend(axes)


def _alerts(figure: Figure, kept: Kept) -> None:
    sizes = kept["sizes"]
    numbers = [size["routes"] for size in sizes]
    left = _axes(figure, 121, title="alerts a second", x="rules", y="")
    for name, key, colour, marker in (
        ("to incidents", "incidents", GREEN, "o"),
        ("to the ledger", "ledger", BLUE, "s"),
    ):
        left.plot(numbers, [s[key]["alerts_per_s"] for s in sizes], color=colour, marker=marker, label=name)
    right = _axes(figure, 122, title="index of all rules", x="rules", y="seconds")
    for name, key, colour, marker in (("build", "build_s", PURPLE, "o"), ("one change", "refresh_s", ORANGE, "s")):
        right.plot(numbers, [s["matching"][key] for s in sizes], color=colour, marker=marker, label=name)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
        axes.minorticks_off()
        _legend(axes)
    left.set_ylim(bottom=0)
    right.set_yscale("log")


#: {scenario: what draws it}.
PICTURES: dict[str, Callable[[Figure, Kept], None]] = {
    "peers": _peers,
    "steady": _detection,
    "detect": _detection,
    "api": _api,
    "load": _load,
    "assertions": _assertions,
    "heartbeats": _heartbeats,
    "exposition": _exposition,
    "rolling": _rolling,
    "streams": _streams,
    "growth": _growth,
    "alerts": _alerts,
}
