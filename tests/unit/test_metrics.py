"""What is documented, alerted on and drawn is what the code really exports."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from rich.console import Console

from api.app import ROUTES
from api.exposition_families import FAMILIES, OTHERS
from bench.packages import find
from common import telemetry, up
from common.domain.checks import Verdict
from common.domain.matching import LedgerStatus
from notifier.deadman import Ping
from tools import dashboards, metrics_table

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "infra" / "prometheus" / "rules"
RULE_FILE = RULES / "tocsin.rules.yml"
BESIDE = {"up", "ALERTS", *(name for name, _, _ in OTHERS)}
#: What is no function, once labels, ranges and groupings are gone.
_NAME = re.compile(r"\b([a-zA-Z_][\w:]*)\b(?!\s*\()")


def promtool(*arguments: str, feed: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    program = find("promtool", "prometheus", print)
    if program is None:
        pytest.skip("Debian's package prometheus is not installed")
    return subprocess.run([program, *arguments], input=feed, capture_output=True, check=False, timeout=60)


def exported() -> set[str]:
    """Every name of a series that some role or the monitors' exposition has."""
    names = {family.name for family in FAMILIES} | BESIDE
    for metrics in metrics_table.sections().values():
        for metric in metrics:
            family = metric.describe()[0]
            ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}[family.type]
            names |= {family.name + end for end in ends}
    return names


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULE_FILE.read_text())["groups"] for rule in group["rules"]]


def named(expression: str) -> set[str]:
    """The metrics of an expression."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\{[^}]*\}", "", bare)
    bare = re.sub(r"\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    return set(_NAME.findall(bare)) - {"and", "or", "unless", "bool"}


def drawn() -> Iterator[tuple[str, str]]:
    """(where, expression) of every panel, variable and mark."""
    for name, text in dashboards.rendered().items():
        board = json.loads(text)
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                yield f"{name}: {panel['title']}", target["expr"]
        for mark in board["annotations"]["list"]:
            yield f"{name}: {mark['name']}", mark["expr"]


def test_the_tables_of_metrics_are_up_to_date() -> None:
    text = metrics_table.PATH.read_text(encoding="utf-8")
    assert metrics_table.updated(text) == text, "run: python -m tools.metrics_table"


def test_every_metric_stands_in_a_section_and_is_named_as_prometheus_wants() -> None:
    listed = {metric for metrics in metrics_table.sections().values() for metric in metrics}
    made = {value for value in vars(telemetry).values() if hasattr(value, "_labelnames")}
    assert listed == made
    for metric in made:
        family = metric.describe()[0]
        assert family.name.startswith("tocsin_") and family.documentation.endswith(".")
        assert not {"org", "org_id", "tenant", "monitor", "monitor_id", "url", "target", "path"} & set(
            metric._labelnames
        )
    checked = promtool("check", "metrics", feed=generate_latest(telemetry.registry(None)))
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_rules_name_what_is_exported() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        found = named(rule["expr"])
        assert found, rule
        assert found <= exported() | recorded, rule


def labels_of() -> dict[str, set[str]]:
    """{series: its labels} of all that some role or the monitors' exposition has."""
    monitors = {"instance", "job", "monitor", "monitor_id", "location"}
    found = {family.name: monitors | set(family.labels) for family in FAMILIES}
    found |= {name: monitors | set(labels) for name, _, labels in OTHERS}
    for metrics in metrics_table.sections().values():
        for metric in metrics:
            name, kind = metric.describe()[0].name, metric.describe()[0].type
            ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}[kind]
            found |= {name + end: {*metric._labelnames, *(["le"] if end == "_bucket" else [])} for end in ends}
    return found


def test_rules_and_dashboards_ask_for_labels_that_are_there() -> None:
    known = labels_of()
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = [*drawn(), *((rule.get("alert", rule.get("record")), rule["expr"]) for rule in rules())]
    chosen = 0
    for where, expression in asked:
        for name, matchers in re.findall(r"(\w[\w:]*)\{([^}]*)\}", expression):
            wanted = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', matchers)))
            if name in known:
                assert wanted <= known[name], (where, name)
                chosen += 1
        # Groups are of labels that something in the expression has; a recorded series has those it was grouped by.
        there = {label for name in named(expression) - recorded for label in known.get(name, ())} | {"class"}
        for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
            assert set(re.findall(r"\w+", group)) <= there, (where, group)
    assert chosen > 15


def test_rules_ask_for_values_that_are_there() -> None:
    """A matcher that nothing passes, or everything, makes an alert that cannot fire."""
    text = RULE_FILE.read_text(encoding="utf-8") + "".join(dashboards.rendered().values()).replace('\\"', '"')
    paths = {route.path for route in ROUTES}
    for pattern in set(re.findall(r'route!~"([^"]+)"', text)):
        for part in pattern.split("|"):
            assert any(re.fullmatch(part, path) for path in paths), part
    there = {
        "verdict": {verdict.label for verdict in Verdict},
        "outcome": {"hit", "failed", *(ping.value for ping in Ping), *(status.value for status in LedgerStatus)},
        "role": {"api", "scheduler", "worker", "notifier"},
    }
    for name, values in there.items():
        asked = {value for found in re.findall(rf'\b{name}(?:=~|!~|!=|=)"([^"]+)"', text) for value in found.split("|")}
        assert asked and asked <= values, (name, asked - values)


def test_every_alert_says_what_is_wrong_and_what_to_do_and_is_documented() -> None:
    document = metrics_table.PATH.read_text(encoding="utf-8")
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) > 15
    for alert in alerts:
        assert alert["labels"]["severity"] in {"critical", "error", "warning"}
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}
        # That there is such a heading is held by test_runbooks.
        assert alert["annotations"]["runbook"] == f"docs/runbooks.md#{alert['alert'].lower()}"
        assert f"`{alert['alert']}`" in document


def test_every_alert_is_tested_to_fire_and_to_keep_quiet() -> None:
    cases = [case["name"] for case in yaml.safe_load((RULES / "tocsin.test.yml").read_text())["tests"]]
    for rule in rules():
        if "alert" in rule:
            assert {f"{rule['alert']} fires", f"{rule['alert']} keeps quiet"} <= set(cases)
    tested = promtool("test", "rules", str(RULES / "tocsin.test.yml"))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    for what in (("check", "rules", str(RULE_FILE)), ("check", "config", str(RULES.parent / "prometheus.yml"))):
        checked = promtool(*what)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_dashboards_are_up_to_date() -> None:
    kept = {path.name: path.read_text(encoding="utf-8") for path in dashboards.FOLDER.glob("*.json")}
    assert kept == dashboards.rendered(), "run: python -m tools.dashboards"


def test_dashboards_draw_what_is_exported() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for where, expression in drawn():
        found = named(expression)
        assert found, where
        assert found <= exported() | recorded, (where, found - exported() - recorded)


def test_prometheus_can_read_what_dashboards_ask(tmp_path: Path) -> None:
    asked = [expression.replace("$__rate_interval", "5m").replace("$monitor", ".*") for _, expression in drawn()]
    groups = [{"name": "asked", "rules": [{"record": f"asked:{n}", "expr": text} for n, text in enumerate(asked)]}]
    (tmp_path / "asked.yml").write_text(yaml.safe_dump({"groups": groups}))
    checked = promtool("check", "rules", str(tmp_path / "asked.yml"))
    assert checked.returncode == 0, checked.stderr


def test_panels_lie_side_by_side_and_say_what_they_are() -> None:
    for name, text in dashboards.rendered().items():
        board = json.loads(text)
        taken: set[tuple[int, int]] = set()
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
            assert not cells & taken, (name, panel["title"])
            assert place["x"] + place["w"] <= 24
            taken |= cells
            if panel["type"] != "row":
                assert panel["title"] and panel["targets"], (name, panel["title"])
                assert panel["fieldConfig"]["defaults"]["unit"]


def test_every_dashboard_and_its_source_are_provisioned() -> None:
    folder = dashboards.FOLDER.parent / "provisioning"
    (provider,) = yaml.safe_load((folder / "dashboards" / "tocsin.yml").read_text())["providers"]
    (source,) = yaml.safe_load((folder / "datasources" / "tocsin.yml").read_text())["datasources"]
    assert (provider["options"]["path"], source["type"]) == ("/etc/grafana/dashboards", "prometheus")


def test_what_is_gone_leaves_its_counts_and_takes_its_gauges_along(tmp_path: Path) -> None:
    code = (
        "import os; from common import telemetry;"
        "telemetry.WRITER_WAITING.set(7); telemetry.CHECKS_LATE.inc(3); print(os.getpid())"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )

    def seen(registry: CollectorRegistry) -> dict[str, float]:
        names = ("tocsin_writer_waiting", "tocsin_checks_late_total")
        return {s.name: s.value for metric in registry.collect() for s in metric.samples if s.name in names}

    everything = CollectorRegistry()
    MultiProcessCollector(everything, path=str(tmp_path))  # type: ignore[no-untyped-call]
    assert seen(everything) == {"tocsin_writer_waiting": 7, "tocsin_checks_late_total": 3}
    # Nobody may have been there to tell of its end: the API's master was killed with its workers.
    assert seen(telemetry.registry(tmp_path)) == {"tocsin_checks_late_total": 3}
    report = up._report(Console(quiet=True), tmp_path)
    report("role_ended", {"role": "worker-1", "pid": int(done.stdout), "exit_code": -9, "restart_in_s": 0.1})
    assert seen(everything) == {"tocsin_checks_late_total": 3}


def test_what_a_living_process_measures_is_shown_with_its_help(tmp_path: Path) -> None:
    code = (
        "import sys; from common import telemetry; telemetry.WRITER_WAITING.set(7); telemetry.tell_build('worker');"
        "print('there', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        text = generate_latest(telemetry.registry(tmp_path))
        process.communicate("", timeout=60)
    assert b"\ntocsin_writer_waiting 7.0\n" in text and b'tocsin_build_info{role="worker"' in text
    assert b"# HELP tocsin_writer_waiting Results that are probed and not committed yet.\n" in text
    checked = promtool("check", "metrics", feed=text)
    assert (checked.returncode, checked.stderr) == (0, b"")
    assert b"tocsin_build_info{" not in generate_latest(telemetry.registry(tmp_path))


def test_whatever_is_measured_goes_with_its_process() -> None:
    """A worker that is gone has no results waiting, and a role that is gone must be missed."""
    modes = {metric.describe()[0].name: metric._multiprocess_mode
             for metrics in metrics_table.sections().values() for metric in metrics
             if metric.describe()[0].type == "gauge"}  # fmt: skip
    kept = {name for name, mode in modes.items() if not mode.startswith("live")}
    # How long nobody has led is told by the last one who did.
    assert kept == {"tocsin_leader_renewed_timestamp_seconds"}
