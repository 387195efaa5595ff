"""What keeps effects from being lost or doubled, line by line, and who has to notice when it is gone.

A guard is here as the mutant that lacks it: tests/chaos/mutants.py tries each one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cut:
    """`old`, which has to be found exactly once in `file`, becomes `new`."""

    file: str
    old: str
    new: str = ""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One guard less. Where two lines say the same, both have to go: either alone is no change of behaviour.

    `tests` are asked in this order until one notices; `fault` is the chaos run that should, in so many `trials`.
    """

    guard: str
    cuts: tuple[Cut, ...]
    tests: tuple[str, ...]
    fault: str = ""
    trials: int = 6


_LATE_OUTBOX = """import threading

        def late(engine: Any = connection.engine) -> None:
            with engine.begin() as other:
                other.exec_driver_sql(_ANNOUNCE, {"ids": loud})
                other.exec_driver_sql(_NOTIFY)

        threading.Timer(0.3, late).start()"""

_LATE_FALLBACK = """    import threading

    def late(engine: Any = connection.engine) -> None:
        with engine.begin() as other:
            fallbacks.hand_over(other, [claim.id for claim in dead], now)

    threading.Timer(0.3, late).start()
    return False
"""

_WRITER, _STORE = "tests/integration/test_writer.py", "tests/integration/test_incidents_store.py"
_GUARDS, _RELAY = "tests/integration/test_guards.py", "tests/integration/test_relay.py"
_SILENCES, _ROUTES = "tests/integration/test_silences_end.py", "tests/integration/test_relay_routes.py"
_ALERTS, _GROUPS = "tests/integration/test_alerts_store.py", "tests/integration/test_groups.py"
_FALLBACK, _CAPS = "tests/integration/test_fallback.py", "tests/integration/test_caps.py"
_LEASE, _DELIVER = "tests/integration/test_lease.py", "tests/integration/test_deliver.py"

MUTANTS = (
    Mutant(
        "a vote is written under its version",
        (
            Cut("common/store/votes.py", "   WHERE v.version = u.version\n"),
            Cut(
                "common/store/votes.py",
                "WHERE v.monitor_no = u.monitor_no AND v.location = u.location AND v.version = u.version",
                "WHERE v.monitor_no = u.monitor_no AND v.location = u.location",
            ),
        ),
        (_WRITER,),
    ),
    Mutant(
        "only a newer slot moves a vote",
        (Cut("common/domain/health.py", "return result.slot_ms > vote.last_slot_ms", "return True"),),
        ("tests/unit/test_health.py",), fault="queue-stale",
    ),
    Mutant(
        "an outage takes the whole threshold",
        (Cut("common/domain/health.py", "if getattr(vote, streak) >= needed:", "if getattr(vote, streak) >= 1:"),),
        ("tests/unit/test_health.py",), fault="kill-api",
    ),
    Mutant(
        "one result per slot",
        (
            Cut(
                "migrations/versions/0001_core.sql",
                "  kind            \"char\" NOT NULL,                     -- chr of common.domain.checks.Kind + '0'\n"
                "  PRIMARY KEY (monitor_no, location, scheduled_at)\n",
                '  kind            "char" NOT NULL\n',
            ),
            Cut(
                "common/store/result_log.py",
                "         verdict, kind)\n    ON CONFLICT (monitor_no, location, scheduled_at) DO NOTHING\n",
                "         verdict, kind)\n",
            ),
        ),
        (_WRITER,), fault="queue-duplicate",
    ),
    Mutant(
        "one open incident per key",
        (
            Cut("migrations/versions/0002_alerting.sql",
                "CREATE UNIQUE INDEX incidents_one_open", "CREATE INDEX incidents_one_open"),
            Cut("common/store/incidents.py",
                "    ON CONFLICT (org_id, dedup_key) WHERE status <> 'resolved' DO NOTHING\n"),
        ),
        (_STORE,),
    ),
    Mutant(
        "a resolved incident stays so",
        (Cut("common/store/incidents.py", " WHERE i.id = u.id AND i.status <> 'resolved'\n", " WHERE i.id = u.id\n"),),
        (_STORE,),
    ),
    Mutant(
        "one ledger row per event and channel",
        (
            Cut("migrations/versions/0001_core.sql",
                "  CONSTRAINT notifications_once UNIQUE (event_id, channel_id),\n"),
            Cut("common/store/ledger.py", "    ON CONFLICT (event_id, channel_id) DO NOTHING\n"),
        ),
        (_GUARDS,),
    ),
    Mutant(
        "one relay at a time per organization",
        (Cut("common/store/outbox.py", "   FOR NO KEY UPDATE OF o SKIP LOCKED\n"),),
        (_RELAY,),
    ),
    Mutant(
        "the end of a silence waits for the relay",
        (Cut("common/store/held_back.py", " WHERE id = %(org)s FOR NO KEY UPDATE", " WHERE id = %(org)s"),),
        (_SILENCES,),
    ),
    Mutant(
        "the end of a silence locks what it announces",
        (Cut("common/store/held_back.py", " ORDER BY id FOR NO KEY UPDATE SKIP LOCKED\n", " ORDER BY id\n"),),
        (_SILENCES,),
    ),
    Mutant(
        "a silence that is settled has no effect",
        (Cut("common/store/route_books.py", " AND settled_at IS NULL\n", "\n"),),
        (_SILENCES,),
    ),
    Mutant(
        "rules are those of their version",
        (Cut("common/store/route_books.py", "return kept is not None and kept.version == version",
             "return kept is not None"),),
        (_ROUTES,),
    ),
    Mutant(
        "a claim locks what it takes",
        (
            Cut("common/store/notifications.py", "LIMIT greatest(room.free, 0) FOR UPDATE OF n SKIP LOCKED",
                "LIMIT greatest(room.free, 0)"),
            Cut("common/store/notifications.py", "   LIMIT %(limit)s FOR UPDATE OF n SKIP LOCKED",
                "   LIMIT %(limit)s"),
        ),
        (_GUARDS,), fault="failpoint-enqueue",
    ),
    Mutant(
        "what is leased is not claimed",
        (
            Cut(
                "common/store/notifications.py",
                "n.next_attempt_at <= %(now)s AND (n.leased_until IS NULL OR n.leased_until <= %(now)s)\nAND n.no =",
                "n.next_attempt_at <= %(now)s AND n.no =",
            ),
        ),
        (_DELIVER,), fault="failpoint-enqueue",
    ),
    Mutant(
        "the oldest of an incident is told first",
        (
            Cut(
                "common/store/notifications.py",
                """AND n.no = (SELECT o.no FROM notifications o
             WHERE (o.incident_id, o.channel_id) >= (n.incident_id, n.channel_id) AND {PENDING_IN_ORDER}
             ORDER BY o.incident_id, o.channel_id, o.no LIMIT 1)
""",
            ),
        ),
        (_DELIVER,), fault="sink-error",
    ),
    Mutant(
        "an attempt is settled under its lease",
        (Cut("common/store/settlements.py", "   WHERE n.lease_token = u.token\n"),),
        (_DELIVER,),
    ),
    Mutant(
        "a lease is taken only when it has expired",
        (Cut("common/store/leases.py", " WHERE l.expires_at < clock_timestamp()\n"),),
        (_LEASE,), fault="kill-leader",
    ),
    Mutant(
        "a lease is renewed under its epoch",
        (
            Cut(
                "common/store/leases.py",
                " WHERE name = %(name)s AND holder = %(holder)s AND epoch = %(epoch)s\nRETURNING epoch",
                " WHERE name = %(name)s\nRETURNING epoch",
            ),
        ),
        (_LEASE,), fault="freeze-leader",
    ),
    Mutant(
        "the outbox row is in the transaction",
        (Cut("common/store/incidents.py", 'connection.exec_driver_sql(_ANNOUNCE, {"ids": loud})', _LATE_OUTBOX),),
        (_STORE,), fault="failpoint-commit",
    ),
    Mutant(
        "an alert's identity is taken once",
        (
            Cut("migrations/versions/0002_alerting.sql", "  PRIMARY KEY (org_id, alert_id),\n"),
            Cut("common/store/alerts.py", "    ON CONFLICT (org_id, alert_id) DO NOTHING\n"),
        ),
        (_ALERTS,), fault="net-lost-replies",
    ),
    Mutant(
        "a message keeps its id over all attempts",
        (Cut("common/store/bundles.py", "None if first.tried_in == first.id else first.tried_in, is_new=False",
             "str(uuid7()) if len(bundle) > 1 else None, is_new=False"),),
        (_GROUPS,), fault="sink-error",
    ),
    Mutant(
        "a message is taken whole or not at all",
        (Cut("common/store/bundles.py", " GROUP BY w.token HAVING count(*) = count(h.id)\n", " GROUP BY w.token\n"),),
        (_GROUPS,),
    ),
    Mutant(
        "one notifier at a time counts a channel's cap",
        (Cut("common/store/bundles.py", " ORDER BY random() LIMIT %(limit)s\n   FOR NO KEY UPDATE SKIP LOCKED\n",
             " ORDER BY random() LIMIT %(limit)s\n"),),
        (_CAPS,),
    ),
    Mutant(
        "a fallback is told in the transaction of the death",
        (Cut("common/store/settlements.py",
             "    return bool(fallbacks.hand_over(connection, [claim.id for claim in dead], now))\n", _LATE_FALLBACK),),
        (_FALLBACK,), fault="failpoint-settle",
    ),
    Mutant(
        "a message is acknowledged after its commit",
        (Cut("worker/checks.py", "        await ticket.wait()\n", "        del ticket\n"),),
        (_GUARDS,),
    ),
    Mutant(
        "a transition waits for the disk",
        (Cut("worker/writer.py", "                commit_durably(connection)\n", "                pass\n"),),
        (_GUARDS,), fault="postgres-stop",
    ),
)  # fmt: skip
