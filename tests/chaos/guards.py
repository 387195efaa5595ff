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
class Simulated:
    """Schedules that show it: of this scenario, in a copy without the guard.

    What only SQL says is not in that copy's simulation, which models the database: there the model goes `without` it in
    an untouched copy, and without the second guard behind it where there are two (tests/simulation/database.py).
    """

    scenario: str
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mutant:
    """One guard less. Where two lines say the same, both have to go: either alone is no change of behaviour.

    `tests` are asked in this order until one notices. Of the checkers, `simulation` should notice, and `fault`, the
    chaos run, in so many `trials`; where neither can, `unseen` says why.
    """

    guard: str
    cuts: tuple[Cut, ...]
    tests: tuple[str, ...]
    simulation: Simulated | None = None
    fault: str = ""
    trials: int = 6
    unseen: str = ""


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
_WINDOWS = "tests/integration/test_maintenance.py"

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
        simulation=Simulated("crowded", ("vote_version",)),
    ),
    Mutant(
        "only a newer slot moves a vote",
        (Cut("common/domain/health.py", "return result.slot_ms > vote.last_slot_ms", "return True"),),
        ("tests/unit/test_health.py",), fault="queue-stale",
        simulation=Simulated("crowded"),
    ),
    Mutant(
        "what was seen before does not overrule what was seen since",
        (Cut("common/domain/health.py",
             "    if result.observed_ms < vote.observed_ms:\n"
             "        return replace(vote, last_slot_ms=result.slot_ms)\n"),),
        ("tests/unit/test_health.py",),
        simulation=Simulated("grouped"),
    ),
    Mutant(
        "an outage takes the whole threshold",
        (Cut("common/domain/health.py", "if getattr(vote, streak) >= needed:", "if getattr(vote, streak) >= 1:"),),
        ("tests/unit/test_health.py",), fault="kill-api",
        simulation=Simulated("crowded"),
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
        simulation=Simulated("crowded", ("result_key",)),
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
        simulation=Simulated("crowded", ("one_open", "state_lock")),
    ),
    Mutant(
        "a resolved incident stays so",
        (Cut("common/store/incidents.py", " AND status <> 'resolved' ORDER BY id FOR", " ORDER BY id FOR"),),
        (_STORE,),
        unseen="two have to resolve it at once, which only the tests can arrange",
    ),
    Mutant(
        "one ledger row per event and channel",
        (
            Cut("migrations/versions/0001_core.sql",
                "  CONSTRAINT notifications_once UNIQUE (event_id, channel_id),\n"),
            Cut("common/store/ledger.py", "    ON CONFLICT (event_id, channel_id) DO NOTHING\n"),
        ),
        (_GUARDS,),
        simulation=Simulated("crowded", ("ledger_key", "organization_hold")),
    ),
    Mutant(
        "one relay at a time per organization",
        (Cut("common/store/outbox.py", "   FOR NO KEY UPDATE OF o SKIP LOCKED\n"),),
        (_RELAY,),
        simulation=Simulated("crowded", ("organization_hold", "ledger_key")),
    ),
    Mutant(
        "the end of a silence waits for the relay",
        (Cut("common/store/held_back.py", " WHERE id = %(org)s FOR NO KEY UPDATE", " WHERE id = %(org)s"),),
        (_SILENCES,),
        unseen="two notifiers have to meet within a millisecond, which only the tests can arrange",
    ),
    Mutant(
        "the end of a silence locks what it announces",
        (Cut("common/store/held_back.py", " ORDER BY id FOR NO KEY UPDATE SKIP LOCKED\n", " ORDER BY id\n"),),
        (_SILENCES,),
        unseen="two notifiers have to meet within a millisecond, which only the tests can arrange",
    ),
    Mutant(
        "a silence that is settled has no effect",
        (Cut("common/store/route_books.py", " AND settled_at IS NULL\n", "\n"),),
        (_SILENCES,),
        unseen="a relay has to go by a time before the end that another has settled",
    ),
    Mutant(
        "rules are those of their version",
        (Cut("common/store/route_books.py", "return kept is not None and kept.version == version",
             "return kept is not None"),),
        (_ROUTES,),
        unseen="the routes of a run do not change while it lasts",
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
        simulation=Simulated("crowded", ("claim_lease",)),
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
        simulation=Simulated("crowded", ("claim_order",)),
    ),
    Mutant(
        "an attempt is settled under its lease",
        (Cut("common/store/settlements.py", "   WHERE n.lease_token = u.token\n"),),
        (_DELIVER,),
        simulation=Simulated("crowded", ("lease_token",)),
    ),
    Mutant(
        "a lease is taken only when it has expired",
        (Cut("common/store/leases.py", " WHERE l.expires_at < clock_timestamp()\n"),),
        (_LEASE,), fault="kill-leader",
        simulation=Simulated("crowded", ("lease_expiry",)),
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
        simulation=Simulated("crowded", ("epoch",)),
    ),
    Mutant(
        "the outbox row is in the transaction",
        (Cut("common/store/incidents.py", 'connection.exec_driver_sql(_ANNOUNCE, {"ids": loud})', _LATE_OUTBOX),),
        (_STORE,), fault="failpoint-commit",
        simulation=Simulated("crowded", ("outbox_in_transaction",)),
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
        simulation=Simulated("grouped"),
    ),
    Mutant(
        "a message is taken whole or not at all",
        (Cut("common/store/bundles.py", " GROUP BY w.token HAVING count(*) = count(h.id)\n", " GROUP BY w.token\n"),),
        (_GROUPS,),
        unseen="two notifiers have to meet within a millisecond, which only the tests can arrange",
    ),
    Mutant(
        "one notifier at a time counts a channel's cap",
        (Cut("common/store/bundles.py", " ORDER BY random() LIMIT %(limit)s\n   FOR NO KEY UPDATE SKIP LOCKED\n",
             " ORDER BY random() LIMIT %(limit)s\n"),),
        (_CAPS,),
        unseen="two notifiers have to meet within a millisecond, which only the tests can arrange",
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
        unseen="what is lost so is as if its worker had died a moment sooner: the next slot makes up for it",
    ),
    Mutant(
        "a transition waits for the disk",
        (Cut("worker/writer.py", "                commit_durably(connection)\n", "                pass\n"),),
        (_GUARDS,), fault="postgres-stop",
    ),
    Mutant(
        "what we did not hear is not held against a heartbeat",
        (Cut("common/domain/heartbeats.py", "due(_tally(standing, setting.schedule), setting.deaf)",
             "due(_tally(standing, setting.schedule))"),),
        ("tests/unit/test_heartbeats.py",), fault="freeze-api", trials=2,
    ),
    Mutant(
        "a window holds back what it covers",
        (Cut("common/store/holds.py", "ends_at, false FROM windows\n", "ends_at, false FROM windows WHERE false\n"),),
        (_WINDOWS,), fault="kill-scheduler",
    ),
)  # fmt: skip

#: The guards without which nothing of what is promised holds: the first six to be looked at.
CORE = (
    "a vote is written under its version",
    "one result per slot",
    "one open incident per key",
    "one ledger row per event and channel",
    "a lease is renewed under its epoch",
    "the outbox row is in the transaction",
)
