"""Heartbeats over the real API, judged in this process: the world's cast, and a judge with its writer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from werkzeug.test import TestResponse

from common.store.engine import Database
from tests.api_cast import Person, World
from worker.configs import ConfigCache
from worker.heartbeats import Commit, HeartbeatJudge, committer
from worker.judge import Judged
from worker.writer import Writer

HEARTBEAT = {"name": "Backup", "type": "heartbeat", "interval_seconds": 60, "heartbeat": {"grace_seconds": 10}}


@dataclass
class Judges:
    """Judges of one database, each as a worker has it."""

    world: World
    loop: asyncio.AbstractEventLoop
    writer: Writer

    def another(self, commit: Commit | None = None, database: Database | None = None) -> HeartbeatJudge:
        configs = ConfigCache(self.world.databases.worker, self.world.services.vault)
        return HeartbeatJudge(
            database or self.world.databases.worker, configs, commit or committer(self.writer, self.loop)
        )

    def run(self) -> int:
        """Judge until there is nothing to judge; how many steps had something."""
        judge, steps = self.another(), 0
        while judge.step():
            steps += 1
        return steps


@contextmanager
def judging(world: World) -> Iterator[Judges]:
    """A writer on its own thread and loop."""
    loop, stop = asyncio.new_event_loop(), threading.Event()
    writer = Writer(world.databases.worker, loop)
    threads = [
        threading.Thread(target=loop.run_forever, daemon=True),
        threading.Thread(target=lambda: [writer.step() for _ in iter(stop.is_set, True)], daemon=True),
    ]
    for thread in threads:
        thread.start()
    yield Judges(world, loop, writer)
    stop.set()
    threads[1].join(60)
    loop.call_soon_threadsafe(loop.stop)
    threads[0].join(60)
    loop.close()


class Death(Exception):
    """The process ends here."""


def dying(commit: Commit) -> Commit:
    """Commits verdicts, and dies before anything else."""

    def act(judged: Sequence[Judged]) -> None:
        commit(judged)
        raise Death

    return act


def make(person: Person, **fields: Any) -> dict[str, Any]:
    """A heartbeat monitor, with its token."""
    answer = person.post("/v1/monitors", json={**HEARTBEAT, **fields})
    assert answer.status_code == 201, answer.text
    monitor = answer.get_json()
    return {**monitor, "token": token_of(person, monitor["id"])}


def token_of(person: Person, monitor_id: str) -> str:
    answer = person.get(f"/v1/monitors/{monitor_id}/heartbeat")
    assert answer.status_code == 200, answer.text
    return str(UUID(answer.get_json()["ping_url"].rpartition("/")[2]))


def ping(world: World, monitor: dict[str, Any], action: str = "", method: str = "GET", **more: Any) -> TestResponse:
    return world.nobody.call(method, f"/ping/{monitor['token']}{action}", **more)


def number(world: World, monitor: dict[str, Any]) -> int:
    return int(world.rows("SELECT monitor_no FROM monitors WHERE id = %(id)s", id=monitor["id"])[0]["monitor_no"])


def hearing(world: World) -> None:
    """As if an API had been there to hear all the time: a machine under load may have slept."""
    world.execute("DELETE FROM deaf_spells")
    world.execute("UPDATE hearing SET until = clock_timestamp()")


def earlier(world: World, monitor: dict[str, Any], seconds: float, *, heard: bool = True) -> None:
    """As if everything that was remembered of a heartbeat had happened earlier, and it were due; `heard` by us."""
    no = number(world, monitor)
    if heard:
        hearing(world)
    moments = ("heard_at", "expected_at", "deadline_at", "event_at", "looked_to", "watched_from", "counted_from")
    shifted = ", ".join(f"{moment} = {moment} - %(s)s * interval {_SECOND}" for moment in moments)
    marks = "(SELECT coalesce(array_agg(ms - (%(s)s * 1000)::bigint ORDER BY n), '{}')"
    world.execute(
        f"UPDATE heartbeats SET look_at = now(), {shifted},"
        f" successes = {marks} FROM unnest(successes) WITH ORDINALITY AS u(ms, n)) WHERE monitor_no = %(no)s",
        no=no, s=seconds,
    )  # fmt: skip
    world.execute(
        f"UPDATE monitors SET check_from = check_from - %(s)s * interval {_SECOND} WHERE monitor_no = %(no)s",
        no=no,
        s=seconds,
    )
    world.execute(
        f"UPDATE votes SET last_slot = last_slot - %(s)s * interval {_SECOND}"
        " WHERE monitor_no = %(no)s AND last_slot > 'epoch'", no=no, s=seconds,
    )  # fmt: skip


_SECOND = "'1 second'"


def state(world: World, monitor: dict[str, Any]) -> dict[str, Any]:
    answer = world.alice.get(f"/v1/monitors/{monitor['id']}")
    assert answer.status_code == 200
    return dict(answer.get_json()["state"])
