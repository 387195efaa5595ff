"""`python -m bench.document`: write the tables and pictures of docs/performance.md from the kept results.

What stands between `<!-- bench: <scenario> -->` and `<!-- end -->` is generated; the rest is written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bench import plots, sizing, targets
from bench.kept import newest

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
_PART = re.compile(r"(<!-- bench: (?P<scenario>[a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)
#: The part that sums up all scenarios.
_TARGETS = "targets"

Kept = dict[str, Any]


def main() -> int:
    """Bring the document up to date with bench/results."""
    text = DOCUMENT.read_text(encoding="utf-8")
    folder = DOCUMENT.parent / DOCUMENT.stem
    for part in _PART.finditer(text):
        if (kept := newest(part["scenario"])) is not None:
            plots.draw(part["scenario"], kept, folder)
    DOCUMENT.write_text(filled(text), encoding="utf-8")
    sizing.write()
    return 0


def filled(text: str) -> str:
    """The document with every generated part as the kept results have it."""
    return _PART.sub(lambda part: part[1] + _part(part["scenario"]) + part[3], text)


def _part(scenario: str) -> str:
    if scenario == _TARGETS:
        return f"\n{_table(['promised', 'measured', ''], targets.rows())}\n"
    kept = newest(scenario)
    if kept is None:
        return f'Not measured yet: `make bench ARGS="--scenario {scenario}"`.\n'
    machine = kept["machine"]
    measured = (
        f"Measured {kept['at'][:10]} on {machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']:.0f} GB, "
        f'kernel {machine["kernel"]}, Python {machine["python"]}; `make bench ARGS="--scenario {scenario}"`.'
    )
    picture = f"![{scenario}](performance/{scenario}.svg)\n\n" if scenario in plots.PICTURES else ""
    return f"\n{picture}{_TABLES[scenario](kept)}\n{measured}\n\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _peers(kept: Kept) -> str:
    head = ["", "offered /s", "held", "done in time", "checks per CPU-second, all processes", "memory, all processes"]
    rows = []
    for step in kept["peer"]:
        memory = sum(step["memory_peak_mb"][name] for name in ("prometheus", "blackbox_exporter"))
        rate = step["due"] / step["seconds"]
        rows.append(_row("Prometheus + blackbox_exporter", rate, step, step["checks_per_cpu_s"], memory))
    for step in kept["steps"]:
        own = sum(seconds for name, seconds in step["cpu_s"].items() if name not in ("target", "bench"))
        memory = sum(size for name, size in step["memory_peak_mb"].items() if name != "target")
        rows.append(_row("Tocsin", step["offered_per_s"], step, step["checks"]["stored"] / own, memory))
    ratio = kept["ratio"]
    said = f"\nTocsin held **{ratio:.1f} times** the load.\n" if ratio else ""
    return _table(head, rows) + said


def _row(name: str, offered: float, step: Kept, per_cpu_s: float, memory_mb: float) -> list[str]:
    return [name, f"{offered:,.0f}", "yes" if step["held"] else "no", f"{step['coverage']:.1%}", f"{per_cpu_s:,.0f}",
            f"{memory_mb:,.0f} MB"]  # fmt: skip


def _detection(kept: Kept) -> str:
    found = kept["detection"]
    load = found["load"]
    names = (("outage → incident committed", "incident"), ("outage → webhook received", "webhook"),
             ("recovery → webhook received", "resolve"))  # fmt: skip
    spreads = [(name, found[key]) for name, key in names if found[key]]
    times = _table(["", "seen", "p50", "p99", "max"],
                   [[name, f"{s['count']} of {found['outages']}", *(f"{s[k] / 1000:.2f} s" for k in
                     ("p50_ms", "p99_ms", "max_ms"))] for name, s in spreads])  # fmt: skip
    lags = [load["counters"].get(key) for key in ("lag_p50_ms", "lag_p99_ms", "lag_max_ms")]
    facts = [
        ["coverage", f"{load['coverage']:.2%} of {load['checks']['due']:,}"],
        ["lag p50 / p99 / max", " / ".join(f"{lag:,.0f} ms" for lag in lags if lag is not None)],
        ["bytes per stored check, with its index", f"{load['bytes_per_check']:.0f}"],
        ["write-ahead log per check (recycled)", f"{load['wal_bytes_per_check']:.0f} bytes"],
        *([f"cores, memory: {role}", f"{load['cpu_s'][role] / load['seconds']:.2f}, {size:.0f} MB"]
          for role, size in load["memory_peak_mb"].items()),
    ]  # fmt: skip
    said = f"\nDuplicate webhooks: {found['duplicates']}; about monitors that never failed: {found['unexpected']}.\n"
    return times + said + "\n" + _table(["under this load", ""], facts)


def _api(kept: Kept) -> str:
    found = kept["api"]
    rows = [[name, f"{v['count']:,}", *(f"{v[k]:.1f} ms" for k in ("p50_ms", "p95_ms", "p99_ms", "max_ms"))]
            for name, v in found["latencies"].items()]  # fmt: skip
    answers = ", ".join(f"{status}: {count:,}" for status, count in found["statuses"].items())
    return _table(["", "requests", "p50", "p95", "p99", "max"], rows) + f"\nAnswers by status: {answers}.\n"


def _load(kept: Kept) -> str:
    found = kept["load"]
    rows = [[name, f"{v['count']:,}", str(found["statements"][name]), *(f"{v[k]:.1f} ms" for k in
             ("p50_ms", "p95_ms", "p99_ms"))] for name, v in found["latencies"].items()]  # fmt: skip
    answers = ", ".join(f"{status}: {count:,}" for status, count in found["statuses"].items())
    load = found["load"]
    cores = ", ".join(f"{role} {used / load['seconds']:.2f}" for role, used in load["cpu_s"].items())
    said = (
        f"\n{found['monitors']:,} monitors at {load['interval_s']} s, {found['results']:,} results,"
        f" {found['incidents']:,} incidents: {found['database_mb']:,.0f} MB, made in {found['seed_s']:.0f} s."
        f" Answers by status: {answers}. Coverage of the checks meanwhile {load['coverage']:.2%}. Cores: {cores}."
        f" The client itself was late by {found['late_p99_ms']:.1f} ms (p99).\n"
    )
    return _table(["", "requests", "SQL statements", "p50", "p95", "p99"], rows) + said


def _growth(kept: Kept) -> str:
    quantities: dict[str, Callable[[Kept], float]] = {
        "start (s)": lambda s: s["start_s"],
        "scheduler memory (MB)": lambda s: s["load"]["memory_peak_mb"]["scheduler"],
        "worker memory (MB)": lambda s: s["load"]["memory_peak_mb"]["worker-1"],
        "PostgreSQL memory (MB)": lambda s: s["load"]["memory_peak_mb"]["postgres"],
        "lag p99 (ms)": lambda s: s["load"]["counters"]["lag_p99_ms"],
        "API read one p95 (ms)": lambda s: s["read_p95_ms"],
        "API list 50 p95 (ms)": lambda s: s["list_p95_ms"],
    }
    sizes = kept["sizes"]
    head = ["", *(f"{size['load']['monitors']:,}" for size in sizes), "grows by power"]
    rows = [[name, *(f"{read(size):,.1f}" for size in sizes), f"{kept['powers'][name]:.2f}"]
            for name, read in quantities.items()]  # fmt: skip
    return _table(head, [*rows, ["coverage", *(f"{size['load']['coverage']:.2%}" for size in sizes), ""]])


def _alerts(kept: Kept) -> str:
    sizes = kept["sizes"]
    quantities: dict[str, Callable[[Kept], str]] = {
        "alerts/s, HTTP → incidents committed": lambda s: f"{s['incidents']['alerts_per_s']:,.0f}",
        "alerts/s, HTTP → ledger committed": lambda s: f"{s['ledger']['alerts_per_s']:,.0f}",
        "ledger rows/s on the way": lambda s: f"{s['ledger']['notifications_per_s']:,.0f}",
        "alerts/s to the ledger, one channel a rule": lambda s: f"{s['ledger_one_channel']['alerts_per_s']:,.0f}",
        "99-fold fan-out, notifications/s": lambda s: f"{s['fan_out']['notifications_per_s']:,.0f}",
        "delivered to a loopback receiver /s": lambda s: _number(s["deliveries_per_s"]),
        "matched alone, alerts/s": lambda s: f"{s['matching']['alone_per_s']:,.0f}",
        "index built": lambda s: f"{s['matching']['build_s']:.2f} s",
        "index after one organization's change": lambda s: f"{s['matching']['refresh_s']:.2f} s",
        "longest wait of an alert meanwhile": lambda s: f"{s['matching']['longest_pause_ms']:.0f} ms",
    }
    head = ["", *(f"{size['routes']:,} rules, {size['channels']:,} channels" for size in sizes)]
    return _table(head, [[name, *map(read, sizes)] for name, read in quantities.items()])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _streams(kept: Kept) -> str:
    found = kept["streams"]
    head = ["", "cores", "memory", "read one p50 / p95", "list 50 p50 / p95"]
    rows = []
    for cost in found["costs"]:
        reads = [cost["reads"].get(name) for name in ("read one", "list 50")]
        said = [f"{read['p50_ms']:.1f} / {read['p95_ms']:.1f} ms" if read else "" for read in reads]
        rows.append([cost["name"], f"{cost['cores']:.3f}", f"{cost['memory_mb']:.0f} MB", *said])
    quiet, busy = found["quiet"], found["with_reads"]
    return _table(head, rows) + (
        f"\nFrom an event to its last byte read: p50 {quiet['p50_ms']:.0f} ms, p99 {quiet['p99_ms']:.0f} ms; with"
        f" reads beside it {busy['p50_ms']:.0f} and {busy['p99_ms']:.0f} ms. {found['delivered']:,} messages of"
        f" {found['expected']:,} came; {found['streams']} streams were open after {found['opened_in_s']:.1f} s.\n"
    )


def _assertions(kept: Kept) -> str:
    found = kept["assertions"]
    head = ["", "offered /s", "held", "done in time", "lag p99", "checks per worker CPU-second"]
    beside = [{**found["beside"], "held": None}] if found["beside"] else []
    rows = [
        [name, f"{step['offered_per_s']:,.0f}", {True: "yes", False: "no", None: ""}[step["held"]],
         f"{step['coverage']:.1%}", f"{step['counters']['lag_p99_ms']:,.0f} ms",
         f"{step['checks_per_worker_cpu_s']:,.0f}"]
        for name, steps in (("HTTP", found["steps"]), ("HTTP, 5 % hang", beside), ("TLS", found["tls"]))
        for step in steps
    ]  # fmt: skip
    if not found["kept"]:
        return _table(head, rows)
    return _table(head, rows) + (
        f"\nWhile 5 % of the targets take the connection and say nothing for 10 s, those that answer are judged up"
        f" {found['answering']['up_per_s']:,.0f} times a second: {found['kept']:.1%} of what was held without them.\n"
    )


def _heartbeats(kept: Kept) -> str:
    head = ["asked /s", "committed and answered /s", "p50", "p95", "p99", "cores: API", "workers", "PostgreSQL"]
    rows = []
    for rate in kept["rates"]:
        cores = rate["cores"]
        workers = sum(used for name, used in cores.items() if name.startswith("worker"))
        times = [f"{rate['latency'][name]:.1f} ms" for name in ("p50_ms", "p95_ms", "p99_ms")]
        used = [f"{each:.2f}" for each in (cores["api"], workers, cores["postgres"])]
        rows.append([f"{rate['per_second']:,}", f"{rate['answered_per_s']:,.0f}", *times, *used])
    return _table(head, rows)


def _exposition(kept: Kept) -> str:
    found = kept["exposition"]
    head = ["", "first", "median of the others", "longest", "CPU: API", "PostgreSQL", "transferred"]
    rows = [
        [scrape["name"], *(f"{scrape[name]:.2f} s" for name in ("first_s", "median_s", "longest_s")),
         *(f"{scrape['cpu_s'][name]:.2f} s" for name in ("api", "postgres")), f"{scrape['transferred_mb']:.1f} MB"]
        for scrape in found["scrapes"]
    ]  # fmt: skip
    return _table(head, rows) + (
        f"\n{found['monitors']:,} monitors are {found['scrapes'][0]['series']:,} series. The API takes"
        f" {found['memory_before_mb']:.0f} MB before and at most {found['memory_peak_mb']:.0f} MB meanwhile.\n"
    )


def _rolling(kept: Kept) -> str:
    found = kept["rolling"]
    # Only an API answers; of the others an older result has the time until they were started.
    rows = [[each["process"], f"{each['ended_s']:.2f} s",
             f"{each['ready_s']:.2f} s" if each["process"].startswith("api") else ""]
            for each in found["restarts"]]  # fmt: skip
    return _table(["process", "ended after SIGTERM", "ready after its start"], rows) + (
        f"\n{found['checks']:,} checks in {found['seconds']:.0f} s, {found['lost']} of them lost;"
        f" {found['requests']:,} requests, {found['failed']} of them answered with a 5xx or not at all.\n"
    )


_TABLES: dict[str, Callable[[Kept], str]] = {
    "peers": _peers,
    "steady": _detection,
    "detect": _detection,
    "api": _api,
    "load": _load,
    "growth": _growth,
    "alerts": _alerts,
    "streams": _streams,
    "assertions": _assertions,
    "heartbeats": _heartbeats,
    "exposition": _exposition,
    "rolling": _rolling,
}

if __name__ == "__main__":
    sys.exit(main())
