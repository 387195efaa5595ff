"""What a judge reads: never less than it judges by, however much comes and however long it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from common.store import heartbeats, heartbeats_intake
from tests import api_cast
from tests.api_cast import World
from tests.heartbeat_world import Judges, earlier, hearing, judging, make, number, ping, state
from worker import heartbeats as judge

world = api_cast.world


@pytest.fixture
def judges(world: World) -> Iterator[Judges]:
    world.services.pings.start()
    with judging(world) as judges:
        yield judges
    world.services.pings.close()


def reasons(world: World) -> list[str]:
    return [row["reason"] for row in world.rows("SELECT cause ->> 'reason' AS reason FROM incidents")]


def send(world: World, monitor: dict[str, Any], *ages_s: float, kind: int = 0) -> None:
    """Pings as they lie in the inbox, so many seconds old."""
    world.execute(
        "INSERT INTO ping_inbox (at, monitor_no, kind) SELECT now() - age * interval '1 s', %(no)s, %(kind)s"
        " FROM unnest(%(ages)s::float8[]) WITH ORDINALITY AS u(age, n) ORDER BY n",
        no=number(world, monitor), kind=kind, ages=list(ages_s),
    )  # fmt: skip


def test_one_that_floods_the_inbox_makes_nobody_else_miss(
    world: World, judges: Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "_MAX_PINGS", 40)
    loud, quiet = make(world.alice, name="loud"), make(world.alice, name="quiet")
    for monitor in (loud, quiet):
        ping(world, monitor)
    judges.run()
    for monitor in (loud, quiet):
        earlier(world, monitor, 75)
    send(world, loud, *(30.0 for _ in range(200)))
    send(world, quiet, 20.0)
    hearing(world)
    judges.another().step()
    assert reasons(world) == []
    assert state(world, quiet)["status"] == "up"
    assert world.rows("SELECT 1 FROM ping_inbox WHERE monitor_no = %(no)s", no=number(world, quiet)) == []


def test_one_of_which_more_came_than_is_read_is_judged_as_far_as_it_was_read(
    world: World, judges: Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "_MAX_PINGS", 4)
    monitor = make(world.alice)
    ping(world, monitor)
    judges.run()
    # Each minute one, as asked, over ten minutes in which nobody judged.
    earlier(world, monitor, 600)
    send(world, monitor, *range(540, -1, -60))
    hearing(world)
    steps = 0
    one = judges.another()
    while one.step():
        steps += 1
        assert reasons(world) == []
    assert steps >= 3
    assert world.rows("SELECT pings FROM heartbeats") == [{"pings": 11}]
    assert world.rows("SELECT 1 FROM ping_inbox") == []
    assert state(world, monitor)["status"] == "up"
    # And then it is judged up to now again.
    earlier(world, monitor, 75)
    judges.run()
    assert reasons(world) == ["heartbeat_missed"]


def test_what_comes_while_the_inbox_is_being_read_is_not_missed(
    world: World, judges: Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = make(world.alice)
    ping(world, monitor)
    judges.run()
    earlier(world, monitor, 67.5)  # the deadline is in two and a half seconds
    read = heartbeats.inbox

    def slowly(*args: Any, **kwargs: Any) -> heartbeats.Inbox:
        found = read(*args, **kwargs)
        assert ping(world, monitor).status_code == 200
        time.sleep(3.0)
        hearing(world)
        return found

    monkeypatch.setattr(heartbeats, "inbox", slowly)
    judges.another().step()
    monkeypatch.setattr(heartbeats, "inbox", read)
    judges.run()
    assert reasons(world) == []
    assert state(world, monitor)["status"] == "up"


def test_a_spell_that_ends_while_the_inbox_is_being_read_is_known_with_the_ping_after_it(
    world: World, judges: Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = make(world.alice)
    ping(world, monitor)
    judges.run()
    world.services.pings.close()
    earlier(world, monitor, 3_600)
    world.execute("DELETE FROM deaf_spells")
    world.execute("UPDATE hearing SET until = now() - interval '3600 s'")
    read = heartbeats.inbox

    def returning(*args: Any, **kwargs: Any) -> heartbeats.Inbox:
        with world.databases.worker.begin() as connection:
            assert heartbeats_intake.hear(connection, patience_ms=2_000)
        send(world, monitor, 0.0)
        return read(*args, **kwargs)

    monkeypatch.setattr(heartbeats, "inbox", returning)
    judges.another().step()
    assert reasons(world) == []


def spells(world: World) -> list[tuple[int, int]]:
    """Seconds ago."""
    rows = world.rows(
        "SELECT round(extract(epoch FROM now() - from_at))::int AS a, round(extract(epoch FROM now() - until_at))::int"
        " AS b FROM deaf_spells ORDER BY from_at"
    )
    return [(row["a"], row["b"]) for row in rows]


@pytest.mark.parametrize(
    ("before_s", "silent_s", "expected"),
    [
        ((300, 25), 20, [(300, 0)]),  # five seconds of hearing part nothing
        ((300, 60), 20, [(300, 60), (20, 0)]),
        ((300, 25), 1, [(300, 25)]),  # no spell at all
    ],
)
def test_an_api_that_dies_again_and_again_makes_one_spell(
    world: World, before_s: tuple[int, int], silent_s: int, expected: list[tuple[int, int]]
) -> None:
    world.execute("DELETE FROM deaf_spells")
    world.execute(
        "INSERT INTO deaf_spells VALUES (now() - %(a)s * interval '1 s', now() - %(b)s * interval '1 s')",
        a=before_s[0], b=before_s[1],
    )  # fmt: skip
    world.execute("UPDATE hearing SET until = now() - %(s)s * interval '1 s'", s=silent_s)
    with world.databases.worker.begin() as connection:
        assert heartbeats_intake.hear(connection, patience_ms=15_000) is (silent_s > 15)
    # Whatever this machine does between the one and the other: a pause, and no other spells.
    assert [moment for spell in spells(world) for moment in spell] == pytest.approx(
        [moment for spell in expected for moment in spell], abs=12
    )


def test_the_inbox_is_read_by_the_index_of_monitors_whatever_lies_in_it(world: World) -> None:
    loud, quiet = make(world.alice, name="loud"), make(world.alice, name="quiet")
    world.execute(
        "INSERT INTO ping_inbox (at, monitor_no, kind) SELECT now(), %(no)s, 0 FROM generate_series(1, 20000)",
        no=number(world, loud),
    )
    numbers = [number(world, loud), number(world, quiet)]
    for _ in range(2):
        with world.databases.worker.begin() as connection:
            plan = "\n".join(
                row[0]
                for row in connection.exec_driver_sql(f"EXPLAIN {heartbeats._INBOX}", {"monitors": numbers, "limit": 5})
            )
        assert "ping_inbox_of" in plan, plan
        assert "ping_inbox_pkey" not in plan, plan
        world.execute("ANALYZE ping_inbox")
