"""Examples of what is sent, for the OpenAPI document: a test holds each against its model."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_ID = "01928e5c-7f3a-7cc1-9d5e-3b1f5a1c2d3e"

#: By the name of the model of a whole body.
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
                    "http": {"headers": {"Authorization": None}},
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
            "channel_ids": [_ID],
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
        "SwitchIn": {"organization_id": _ID},
        "RegistrationIn": {
            "email": "bob@example.com",
            "password": "a quiet lantern hums",
            "name": "Bob",
            "organization": "Example Ltd",
        },
        "TokenIn": {"token": "gAAAAABnPyQ1c2VhbGVkLXJlZ2lzdHJhdGlvbg"},
        "PasswordChange": {"current": "correct horse battery staple", "new": "a quiet lantern hums"},
        "ForgottenPassword": {"email": "bob@example.com"},
        "PasswordReset": {"token": "kq3vXb0yQ2mJ8sT1nZ5wRr7uYd4eLhFa", "new": "a quiet lantern hums"},
        "AcceptIn": {"token": "kq3vXb0yQ2mJ8sT1nZ5wRr7uYd4eLhFa", "password": "a quiet lantern hums", "name": "Bob"},
        "OrganizationIn": {"name": "Example Ltd"},
        "MembershipIn": {"role": "admin"},
        "SeriesIn": {"ids": [_ID], "window": "6h", "points": 3},
        "MaintenanceIn": {
            "name": "database upgrades",
            "type": "weekly",
            "days": ["sat"],
            "time": "02:00",
            "duration_seconds": 7200,
            "time_zone": "Europe/Berlin",
            "matchers": [{"label": "team", "op": "=", "value": "database"}],
        },
        "IncidentPatch": {"severity": "critical", "labels": {"team": "payments"}, "postmortem": "A fibre was cut."},
        "BulkAcknowledgementIn": {"ids": [_ID], "duration_seconds": 3600},
        "RouteTestIn": {"name": "DiskFull", "source": "db-1", "severity": "error", "labels": {"team": "database"}},
        "RedeliveryIn": {"channel_id": _ID, "since": "2026-11-21T09:00:00Z"},
        "ReplayIn": {"all": True},
    }
)

#: Of what is sent to change a part, by operation.
PATCHES: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "change_own_organization": {"name": "Example Ltd"},
        "change_membership": {"role": "admin"},
        "change_monitor": {"interval_seconds": 60, "labels": {"team": "payments"}, "quorum": None},
        "change_channel": {"config": {"url": "https://hooks.example/other"}, "enabled": True},
        "change_route": {"position": 1, "cooldown_seconds": 600},
        "change_silence": {"comment": "the rack takes longer", "duration_seconds": 7200},
        "change_maintenance": {"until_healthy": True},
        "change_organization": {"enabled": False},
    }
)
