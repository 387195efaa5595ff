"""Every alert has a runbook, and every runbook an alert."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent.parent
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")


def alerts() -> list[str]:
    found = []
    for path in sorted((ROOT / "infra" / "prometheus" / "rules").glob("*.rules.yml")):
        groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        found += [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
    return found


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert re.findall(r"^### (\w+)$", RUNBOOKS, re.MULTILINE) == alerts()


def test_every_runbook_says_what_it_means_and_what_to_do() -> None:
    for section in RUNBOOKS.split("\n### ")[1:]:
        assert "**Means**" in section and "**Do**" in section, section.splitlines()[0]
