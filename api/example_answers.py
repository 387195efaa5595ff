"""Examples of what is answered, for the OpenAPI document: a test holds each against the schema of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_ID = "01928e5c-7f3a-7cc1-9d5e-3b1f5a1c2d3e"
_OTHER_ID = "01928e5d-0b1c-7a52-8f00-6c2d9e4b7a10"
_USER = {"id": "01928e40-11aa-7b21-a3c4-0d5e6f708192", "email": "bob@example.com", "name": "Bob"}
_ACTOR = f"user:{_USER['id']}"
_AT = "2026-11-21T09:30:00Z"
_LATER = "2026-11-21T10:00:00Z"
_TARGET = "https://shop.example/health"
_LABELS = {"team": "shop"}

_ORGANIZATION = {"id": _OTHER_ID, "name": "Example Ltd", "created_at": _AT}
_TENANT = {**_ORGANIZATION, "enabled": True}
_API_KEY = {
    "id": _ID,
    "name": "deploy pipeline",
    "prefix": "3f9c1a7be204",
    "role": "editor",
    "scopes": None,
    "created_by": _USER["id"],
    "created_at": _AT,
    "expires_at": "2027-11-21T09:30:00Z",
    "last_used_at": None,
}
_MAINTENANCE: dict[str, Any] = {
    "id": _ID,
    "name": "database upgrades",
    "type": "weekly",
    "starts_at": None,
    "ends_at": None,
    "duration_seconds": 7200,
    "days": ["sat"],
    "time": "02:00",
    "cron": None,
    "time_zone": "Europe/Berlin",
    "monitor_ids": [],
    "matchers": [{"label": "team", "op": "=", "value": "database"}],
    "until_healthy": False,
    "healthy_for_seconds": 60,
    "comment": "",
    "state": "pending",
    "occurrence": {"starts_at": "2026-11-28T01:00:00Z", "ends_at": "2026-11-28T03:00:00Z"},
    "created_by": _ACTOR,
    "created_at": _AT,
    "updated_at": _AT,
}
_INVITE = {
    "id": _ID,
    "email": "bob@example.com",
    "role": "editor",
    "created_by": _ACTOR,
    "created_at": _AT,
    "expires_at": "2026-11-28T09:30:00Z",
}
_MONITOR: dict[str, Any] = {
    "id": _ID,
    "key": "shop-home",
    "name": "Shop",
    "type": "http",
    "target": _TARGET,
    "interval_seconds": 30,
    "timeout_seconds": 10,
    "failure_threshold": 2,
    "recovery_threshold": 1,
    "retry_interval_seconds": 5,
    "severity": "critical",
    "labels": _LABELS,
    "locations": ["local"],
    "quorum": None,
    "enabled": True,
    "parent_id": None,
    "http": {
        "method": "GET",
        "headers": {"Authorization": None},
        "body": None,
        "follow_redirects": True,
        "verify_tls": True,
    },
    "assertions": [{"source": "status", "op": "in", "value": ["200-299"]}],
    "state": {"status": "up", "since": _AT, "last_check_at": _LATER, "latency_ms": 41.87, "reason": None},
    "config_version": 1,
    "created_at": _AT,
    "updated_at": _AT,
}
_PENDING = {"status": "pending", "since": _AT, "last_check_at": None, "latency_ms": None, "reason": None}
_PHASES = {"dns_ms": 1.9, "connect_ms": 11.24, "tls_ms": 14.06, "ttfb_ms": 30.41, "total_ms": 31.02}
_FAILED = {"source": "status", "op": "in", "expected": "200-299", "actual": "503"}
_SEEN = {
    "verdict": "down",
    "reason": "status_code",
    "message": "expected status 200-299, got 503",
    "latency_ms": 31.02,
    "phases": _PHASES,
    "status_code": 503,
    "failed_assertion": _FAILED,
    "location": "local",
}
_SECONDS = {"up": 604_500, "degraded": 0, "down": 300, "unknown": 0, "paused": 0, "maintenance": 0}
_SLO = {
    "uptime": 0.9995,
    "coverage": 1.0,
    "seconds": _SECONDS,
    "error_budget": {"total_seconds": 604.8, "remaining_seconds": 304.8, "remaining": 0.504},
    "burn_rate": {"last_1h": 0, "last_6h": 0, "window": 0.496},
    "monitors": 1,
}
_WINDOW = {"from": "2026-11-14T10:00:00Z", "to": _LATER}
_COUNTS = {
    "total": 1000,
    "up": 994,
    "degraded": 1,
    "down": 2,
    "unknown": 0,
    "pending": 0,
    "paused": 3,
    "maintenance": 0,
    "open_incidents": 3,
}
_INCIDENT = {
    "id": _OTHER_ID,
    "monitor_id": _ID,
    "monitor_name": "Shop",
    "source": "monitor",
    "dedup_key": f"monitor:{_ID}",
    "name": "Shop",
    "title": "Shop is down",
    "description": "",
    "severity": "critical",
    "priority": "P1",
    "status": "open",
    "opened_at": _AT,
    "acknowledged_at": None,
    "acknowledgement_expires_at": None,
    "resolved_at": None,
    "duration_seconds": 1800,
    "cause": {"reason": "status_code", "message": "expected status 200-299, got 503"},
    "labels": _LABELS,
    "assignee": None,
    "assignee_name": None,
    "reopened_from": None,
    "trace_id": "9f86d081884c7d659a2feaa0c55ad015",
    "deliveries": {"sent": 1, "pending": 0, "dead": 0, "suppressed": 0},
    "version": 1,
}
_DETAIL = {**_INCIDENT, "postmortem": ""}
_BY_HAND = {
    **_DETAIL,
    "monitor_id": None,
    "monitor_name": None,
    "source": "manual",
    "dedup_key": f"manual:{_OTHER_ID}",
    "name": "Payments are slow",
    "title": "Payments are slow",
    "severity": "error",
    "priority": "P2",
    "duration_seconds": 0,
    "cause": {"reason": None, "message": None},
    "deliveries": {"sent": 0, "pending": 0, "dead": 0, "suppressed": 0},
}
_CHANNEL = {
    "id": _ID,
    "name": "Ops",
    "type": "webhook",
    "config": {"url": "https://hooks.example/tocsin"},
    "secret": None,
    "enabled": True,
    "is_default": False,
    "fallback_channel_id": None,
    "cap": None,
    "disabled_reason": None,
    "created_at": _AT,
    "updated_at": _AT,
}
_TOLD = {"id": _ID, "name": "Ops", "type": "webhook", "enabled": True}
_NOTIFICATION = {
    "id": _OTHER_ID,
    "incident_id": _OTHER_ID,
    "event_type": "opened",
    "channel_id": _ID,
    "route_id": None,
    "status": "sent",
    "reason": None,
    "attempts": 1,
    "next_attempt_at": None,
    "sent_at": _AT,
    "created_at": _AT,
}
_AGAIN = {**_NOTIFICATION, "status": "pending", "next_attempt_at": _LATER, "sent_at": None}

#: By the name of the model; of a page they are its rows.
ANSWERS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "Tokens": {
            "access_token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.signature",
            "refresh_token": "eyJhbGciOiJIUzI1NiJ9.eyJmYW1pbHkiOiIxIn0.signature",
            "token_type": "Bearer",
            "expires_in": 900,
        },
        "Me": {
            "user": _USER,
            "api_key": None,
            "organization": _ORGANIZATION,
            "role": "viewer",
            "permissions": ["incidents:read", "monitors:read"],
            "organizations": [{"id": _OTHER_ID, "name": "Example Ltd", "role": "viewer"}],
        },
        "NewApiKey": {**_API_KEY, "key": "tcs_3f9c1a7be204_kq3vXb0yQ2mJ8sT1nZ5wRr7uYd4eLhFa"},
        "ApiKey": {**_API_KEY, "last_used_at": _LATER},
        "Organization": _ORGANIZATION,
        "Member": {**_USER, "role": "editor", "enabled": True, "created_at": _AT},
        "Membership": {
            "user_id": _USER["id"],
            "email": "bob@example.com",
            "name": "Bob",
            "role": "admin",
            "created_at": _AT,
        },
        "NewInvite": {**_INVITE, "token": "kq3vXb0yQ2mJ8sT1nZ5wRr7uYd4eLhFa", "mailed": True},
        "Invite": _INVITE,
        "Monitor": _MONITOR,
        "MonitorPart": _MONITOR,
        "CheckNow": {"check_id": "9f86d081884c7d659a2feaa0c55ad015", "scheduled_at": _LATER},
        "Labels": {
            "data": [{"key": "team", "values": [{"value": "shop", "monitors": 12}], "more": False}],
            "more_keys": False,
        },
        "BulkAnswer": {
            "created": 1,
            "failed": 1,
            "results": [
                {"index": 0, "status": 201, "monitor": {**_MONITOR, "state": _PENDING}, "error": None},
                {
                    "index": 1,
                    "status": 409,
                    "monitor": None,
                    "error": {
                        "code": "KEY_TAKEN",
                        "message": "Another monitor has the key shop-db.",
                        "details": [{"field": "key", "message": "is taken"}],
                    },
                },
            ],
        },
        "MonitorSwitchAnswer": {"changed": 11, "unchanged": 1, "not_found": []},
        "Plan": {
            "fingerprint": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "summary": {"create": 0, "update": 1, "delete": 0, "unchanged": 0},
            "changes": [
                {
                    "action": "update",
                    "key": "shop-home",
                    "id": _ID,
                    "name": "Shop",
                    "differences": [{"field": "interval_seconds", "from": 30, "to": 60}],
                }
            ],
            "drift": [],
        },
        "Export": {
            "monitors": [{"key": "shop-home", "name": "Shop", "type": "http", "target": _TARGET, "labels": _LABELS}],
            "without_key": [{"id": _OTHER_ID, "name": "An experiment"}],
        },
        "Probe": _SEEN,
        "Heartbeat": {
            "ping_url": "https://tocsin.example/ping/3f0d8b1e-6f1c-4c56-9d1c-5b8a2a7c9e10",
            "push_url": "https://tocsin.example/api/push/3f0d8b1e6f1c4c569d1c5b8a2a7c9e10?status=up&msg=OK&ping=",
            "pings": 412,
            "last_ping_at": _AT,
            "expected_at": _AT,
            "deadline_at": _AT,
            "running": 0,
        },
        "PingOut": {
            "n": 412,
            "kind": "success",
            "at": _AT,
            "exit_code": 0,
            "duration_ms": 83_120,
            "rid": None,
            "source": "192.0.2.0/24",
            "body": "copied 3 databases",
        },
        "PushTaken": {"ok": True},
        "Result": {**_SEEN, "scheduled_at": _AT, "trace_id": "9f86d081884c7d659a2feaa0c55ad015"},
        "Uptime": {
            "window": _WINDOW,
            "uptime": 0.9995,
            "coverage": 1,
            "seconds": _SECONDS,
            "incidents": 1,
            "mttr_seconds": 300,
            "mtbf_seconds": 604_500,
            "latency_ms": {"p50": 38.2, "p95": 91.5, "p99": 180.3},
        },
        "SloReport": {
            "window": _WINDOW,
            "target": 0.999,
            "total": _SLO,
            "data": [
                {
                    **_SLO,
                    "monitor": {"id": _ID, "key": "shop-home", "name": "Shop", "labels": _LABELS},
                    "value": None,
                }
            ],
            "next_cursor": None,
        },
        "SeriesOut": {
            "t0": "2026-11-21T04:00:00Z",
            "step_s": 7200,
            "series": [
                {
                    "id": _ID,
                    "up": [1, 0.9875, 1],
                    "p50": [38.2, 37.9, 38.4],
                    "p95": [91.5, 90.2, 95.1],
                    "coverage": [1, 1, 1],
                }
            ],
        },
        "Summary": {"groups": [{**_COUNTS, "group": "shop"}], "other": None, "total": _COUNTS, "at": _LATER},
        "Incident": _INCIDENT,
        "IncidentDetail": _DETAIL,
        "BulkAcknowledgement": {"acknowledged": 1, "unchanged": 0, "not_found": [], "more": False},
        "Event": {
            "id": _ID,
            "type": "commented",
            "at": _LATER,
            "actor": _ACTOR,
            "actor_name": "Bob",
            "data": {"body": "The provider confirms: a fibre was cut."},
        },
        "Channel": _CHANNEL,
        "Trial": {"delivered": True, "status_code": 200, "detail": ""},
        "Route": {
            "id": _OTHER_ID,
            "name": "shop to its team",
            "position": 1,
            "match": {"severity": "critical", "source": "*", "name": "*"},
            "matchers": [{"label": "team", "op": "=", "value": "shop"}],
            "channel_ids": [_ID],
            "cooldown_seconds": 0,
            "continue": False,
            "group_by": None,
            "group_wait_seconds": 30,
            "group_interval_seconds": 300,
            "repeat_interval_seconds": None,
            "enabled": True,
            "created_at": _AT,
            "updated_at": _AT,
        },
        "RouteTest": {
            "routes": [
                {
                    "id": _OTHER_ID,
                    "name": "shop to its team",
                    "position": 1,
                    "outcome": "taken",
                    "failing": [],
                    "channels": [_TOLD],
                    "group_key": None,
                    "cooldown_until": None,
                }
            ],
            "unrouted": False,
            "default": False,
            "channels": [],
            "silenced_by": [],
            "held_back": {
                "reason": "maintenance",
                "maintenance_id": _ID,
                "maintenance": "database upgrades",
                "parent_id": None,
                "parent": None,
                "parent_incident_id": None,
                "until": _LATER,
            },
        },
        "Silence": {
            "id": _ID,
            "matchers": [{"label": "team", "op": "=", "value": "shop"}],
            "comment": "moving to the new rack",
            "created_by": _ACTOR,
            "starts_at": _AT,
            "ends_at": "2026-11-21T10:30:00Z",
            "state": "active",
            "created_at": _AT,
            "updated_at": _AT,
        },
        "Maintenance": _MAINTENANCE,
        "Tally": {"accepted": 1, "deduplicated": 0, "resolved": 0, "unmatched": 0},
        "AlertsTaken": {"status": "success", "opened": 1, "deduplicated": 0, "resolved": 0, "unmatched": 0},
        "EventTaken": {"status": "success", "message": "Event processed", "dedup_key": "srv01/HTTP"},
        "NewTenant": {**_TENANT, "api_key": "tcs_3f9c1a7be204_kq3vXb0yQ2mJ8sT1nZ5wRr7uYd4eLhFa"},
        "Tenant": _TENANT,
        "Notification": _NOTIFICATION,
        "NotificationDetail": {
            **_NOTIFICATION,
            "delivery_attempts": [
                {
                    "number": 1,
                    "outcome": "delivered",
                    "status_code": 200,
                    "error": None,
                    "duration_ms": 18.6,
                    "at": _AT,
                    "message_id": _NOTIFICATION["id"],
                }
            ],
        },
        "Redelivery": {"redelivered": 12, "remaining": 0},
        "Queue": {"name": "urgent.local", "messages": 0, "delayed": 0, "dead": 1, "oldest_dead_at": _AT},
        "DeadMessage": {
            "id": _ID,
            "actor": "deliver",
            "enqueued_at": _AT,
            "died_at": _LATER,
            "retries": 3,
            "error": "Unavailable",
        },
        "Replay": {"replayed": 1, "remaining": 0},
        "Location": {
            "name": "local",
            "status": "fresh",
            "workers": 2,
            "checks_last_minute": 480,
            "last_seen_at": _LATER,
            "last_result_at": _LATER,
            "backlog": {"fast": 0, "slow": 0, "urgent": 0},
            "blind_since": None,
            "reason": None,
            "created_at": _AT,
        },
        "AuditEntry": {
            "id": _OTHER_ID,
            "at": _AT,
            "actor": _ACTOR,
            "action": "change_own_organization",
            "resource_type": "organization",
            "resource_id": _OTHER_ID,
            "before": {"name": "Example"},
            "after": {"name": "Example Ltd"},
            "request_id": _ID,
            "address": "192.0.2.7",
        },
        "TargetGroup": {
            "targets": [_TARGET],
            "labels": {"__meta_tocsin_monitor": "Shop", "__meta_tocsin_type": "http", "__meta_tocsin_label_team": "x"},
        },
        "Alive": {"status": "ok"},
        "Ready": {"status": "ready", "checks": {"postgres": "ok", "redis": "ok"}},
    }
)

#: By operation, where it answers with another one than its model's.
BY_OPERATION: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "create_monitor": {**_MONITOR, "state": _PENDING},
        "change_monitor": {**_MONITOR, "interval_seconds": 60, "labels": {"team": "payments"}, "config_version": 2},
        "pause_monitor": {
            **_MONITOR,
            "enabled": False,
            "state": {**_MONITOR["state"], "status": "paused"},
            "config_version": 2,
        },
        "resume_monitor": {**_MONITOR, "state": _PENDING, "config_version": 3},
        "create_incident": _BY_HAND,
        "change_incident": {
            **_DETAIL,
            "labels": {"team": "payments"},
            "postmortem": "A fibre was cut.",
            "version": 2,
        },
        "set_incident_status": {**_DETAIL, "status": "acknowledged", "acknowledged_at": _LATER, "version": 2},
        "change_channel": {**_CHANNEL, "config": {"url": "https://hooks.example/other"}, "updated_at": _LATER},
        "create_channel": {**_CHANNEL, "secret": "whsec_a3EzdlhiMHlRMm1KOHNUMW5aNXdScjd1WWQ0ZUxoRmE="},
        "change_organization": {**_TENANT, "enabled": False},
        "change_maintenance": {**_MAINTENANCE, "until_healthy": True},
        "redeliver_notification": {**_AGAIN, "delivery_attempts": []},
    }
)
