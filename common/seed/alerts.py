"""Alerts about the services of a universe, as POST /v1/alerts takes them. Pure: the same run gives the same alerts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from common.seed.universe import BACKBONE_SEVERITY, BACKBONE_SOURCE, Universe, chance_of

Document = dict[str, Any]


def stream(universe: Universe, run: str) -> Iterator[Document]:
    """Alerts without end, each a problem of its own that concerns 1 to 10 organizations. `run` keeps runs apart."""
    chance = chance_of(f"alerts {universe.plan.seed} {run}")
    number = 0
    while True:
        number += 1
        service = chance.choice(universe.services)
        yield {
            "alert_id": f"{run}-{number}",
            "dedup_key": f"{run}-{number}",
            "name": service.name,
            "source": service.source,
            "severity": service.severity,
            "summary": f"{service.name} is slow",
            "labels": {
                "team": service.team,
                "region": service.region,
                "stage": "live",
                "host": f"host-{chance.randrange(10_000):04d}",
            },
        }


def backbone(universe: Universe, run: str) -> Iterator[Document]:
    """Alerts without end that concern all organizations but one."""
    chance = chance_of(f"backbone {universe.plan.seed} {run}")
    number = 0
    while True:
        number += 1
        yield {
            "alert_id": f"{run}-backbone-{number}",
            "dedup_key": f"{run}-backbone-{number}",
            "name": f"link-{chance.randrange(100)}",
            "source": BACKBONE_SOURCE,
            "severity": BACKBONE_SEVERITY,
            "summary": "a link of the backbone is down",
            "labels": {"region": "north", "stage": "live"},
        }
