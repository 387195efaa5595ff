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

from api.exposition_families import FAMILIES, OTHERS
from bench.packages import find
from common import telemetry, up
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
    checked = promtool("check", "metrics", feed=generate_latest(telemetry.registry(shared=False)))
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_rules_name_what_is_exported() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        found = named(rule["expr"])
        assert found, rule
        assert found <= exported() | recorded, rule


def test_every_alert_says_what_is_wrong_and_what_to_do_and_is_documented() -> None:
    document = metrics_table.PATH.read_text(encoding="utf-8")
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) > 15
    for alert in alerts:
        assert alert["labels"]["severity"] in {"critical", "error", "warning"}
        assert set(alert["annotations"]) == {"summary", "description"}
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

    def seen() -> dict[str, float]:
        merged = CollectorRegistry()
        MultiProcessCollector(merged, path=str(tmp_path))  # type: ignore[no-untyped-call]
        names = ("tocsin_writer_waiting", "tocsin_checks_late_total")
        return {s.name: s.value for metric in merged.collect() for s in metric.samples if s.name in names}

    assert seen() == {"tocsin_writer_waiting": 7, "tocsin_checks_late_total": 3}
    report = up._report(Console(quiet=True), tmp_path)
    report("role_ended", {"role": "worker-1", "pid": int(done.stdout), "exit_code": -9, "restart_in_s": 0.1})
    assert seen() == {"tocsin_checks_late_total": 3}
