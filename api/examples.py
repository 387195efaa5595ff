"""Examples for the OpenAPI document, by the name of the model: a test holds each against its model."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

EXAMPLES: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "Login": {"email": "admin@example.com", "password": "correct horse battery staple"},
        "ApiKeyIn": {"name": "deploy pipeline", "role": "editor", "expires_in_days": 365},
        "MonitorIn": {
            "type": "http",
            "name": "Shop",
            "key": "shop-home",
            "target": "https://shop.example/health",
            "interval_seconds": 30,
            "failure_threshold": 2,
            "severity": "critical",
            "labels": {"team": "shop"},
            "assertions": [
                {"source": "status", "op": "in", "value": ["200-299"]},
                {"source": "latency_ms", "op": "lt", "value": 800, "on_fail": "degraded"},
            ],
        },
        "ProbeIn": {
            "type": "http",
            "target": "https://shop.example/health",
            "timeout_seconds": 5,
            "assertions": [{"source": "status", "op": "in", "value": ["200-299"]}],
        },
        "BulkIn": {
            "mode": "each",
            "monitors": [
                {"type": "http", "name": "Shop", "key": "shop-home", "target": "https://shop.example/health"},
                {"type": "tcp", "name": "Shop's database", "key": "shop-db", "target": "db.example:5432"},
            ],
        },
        "MonitorSwitchIn": {"labels": {"team": "shop"}},
        "PlanIn": {
            "labels": {"team": "shop"},
            "prune": True,
            "monitors": [
                {
                    "key": "shop-home",
                    "name": "Shop",
                    "type": "http",
                    "target": "https://shop.example/health",
                    "labels": {"team": "shop"},
                    "http": {"headers": {"Authorization": {"secret": None}}},
                }
            ],
        },
        "ApplyIn": {
            "fingerprint": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "monitors": [{"key": "shop-home", "name": "Shop", "type": "http", "target": "https://shop.example/health"}],
        },
        "ChannelIn": {"type": "webhook", "name": "Ops", "config": {"url": "https://hooks.example/tocsin"}},
        "RouteIn": {
            "name": "shop to its team",
            "match": {"severity": "critical", "source": "*", "name": "*"},
            "matchers": [{"label": "team", "op": "=", "value": "shop"}],
            "channel_ids": ["01928e5c-7f3a-7cc1-9d5e-3b1f5a1c2d3e"],
        },
        "SilenceIn": {
            "matchers": [{"label": "team", "op": "=", "value": "shop"}],
            "duration_seconds": 3600,
            "comment": "moving to the new rack",
        },
        "AlertIn": {
            "name": "DiskFull",
            "source": "db-1",
            "severity": "error",
            "status": "firing",
            "summary": "/var is 97 % full",
            "labels": {"team": "database"},
        },
        "IncidentIn": {"title": "Payments are slow", "priority": "P2", "labels": {"team": "shop"}},
        "CommentIn": {"body": "The provider confirms: a fibre was cut."},
        "StatusIn": {"status": "acknowledged"},
        "TenantIn": {"name": "Example Ltd"},
        "InviteIn": {"email": "bob@example.com", "role": "editor"},
    }
)
