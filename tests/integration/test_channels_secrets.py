"""A canary in every secret of every type of channel: it is looked for wherever it must never be."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from psycopg.types.json import Jsonb

from tests.api_cast import Person, session
from tests.api_cast import world as api_world
from tests.certificate import make_certificate
from tests.integration.test_notifier_process import Notifiers
from tests.receivers import CANARY, RECEIVERS, Behaviour, Receiver, receiver_of
from tests.stack import wait_until
from tests.world import World

__all__ = ["api_world"]

#: What each receiver does with the message: one time it is taken, one time refused, one time broken off.
TREATMENTS = (Behaviour.TAKES, Behaviour.REFUSES, Behaviour.RESETS)
#: What is logged of them, after it is written down.
TOLD = ("notification_sent", "notification_dead", "notification_failed")


@dataclass
class Life:
    """What was said and kept while every type of channel delivered, was refused and broke."""

    log: str
    commands: list[str]
    kept_in_redis: str
    rows: dict[str, str]
    answers: dict[str, str]
    statuses: list[tuple[str, str, str | None]]


@pytest.fixture
def life(api_world: Any, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Life]:
    """One channel for each type and treatment, an incident, a notifier with all its debug lines, an API."""
    keys = api_world.services.settings.encryption_keys.get_secret_value()
    world = World(api_world.databases.owner, api_world.databases.worker, key=keys)
    commands: list[str] = []
    with ExitStack() as stack:
        listener = _listen(redis_url, commands)
        stack.callback(listener.close)
        certificate = make_certificate(tmp_path)
        ids = []
        for type_ in RECEIVERS:
            for behaviour in TREATMENTS:
                receiver = stack.enter_context(receiver_of(type_, certificate))
                receiver.behave(behaviour)
                ids.append(_channel(world, receiver))
        notifiers = Notifiers(world, database_url, redis_url, tmp_path / "log")
        stack.callback(notifiers.close)
        notifiers.start(TOCSIN_LOG_LEVEL="debug")
        ends = time.monotonic() + 110  # all of it together
        wait_until(lambda: notifiers.logged("notifier_started"), ends - time.monotonic(), "the notifier")
        world.open()
        # Every row was attempted: sent, dead, or waiting for another try with its error.
        wait_until(
            lambda: all(row[4] for row in world.ledger()) and len(world.ledger()) == len(ids),
            ends - time.monotonic(),
            "all attempts",
        )
        wait_until(lambda: len(world.attempts()) >= len(ids), ends - time.monotonic(), "all settlements")
        wait_until(lambda: all(map(notifiers.logged, TOLD)), ends - time.monotonic(), "its lines")
        api_world.execute("UPDATE memberships SET org_id = %(new)s WHERE org_id = %(old)s AND user_id = %(user)s",
                          new=world.org_id, old=api_world.org_a, user=api_world.users["alice"])  # fmt: skip
        api_world.users["shop"] = world.org_id
        alice = Person(api_world.client, session(api_world, "alice", "shop"))
        answers = _answers(alice, ids)
        yield Life(
            log=notifiers.log_path.read_text(),
            commands=commands,
            kept_in_redis=_everything_in(redis_url),
            rows=_every_table(world),
            answers=answers,
            statuses=world.statuses(),
        )


def _channel(world: World, receiver: Receiver) -> str:
    where = receiver.destination
    # The webhook's own secret is the canary as well.
    world.run(
        "INSERT INTO channels (id, org_id, name, type, config, secrets, is_default)"
        " VALUES (%(id)s, %(org)s, 'c', %(type)s, %(config)s, %(secrets)s, true)",
        id=where.channel_id, org=world.org_id, type=receiver.type_, config=Jsonb(dict(where.config)),
        secrets=world.vault.seal(f"channel:{world.org_id}:{where.channel_id}", dict(where.secrets)),
    )  # fmt: skip
    return where.channel_id


def _listen(redis_url: str, commands: list[str]) -> redis.Redis:
    client = redis.Redis.from_url(redis_url)
    started = threading.Event()

    def listen() -> None:
        with suppress(redis.RedisError, ValueError, OSError, AttributeError), client.monitor() as monitor:  # type: ignore[no-untyped-call]
            started.set()
            commands.extend(heard["command"] for heard in monitor.listen())

    threading.Thread(target=listen, daemon=True).start()
    assert started.wait(30)
    return client


def _everything_in(redis_url: str) -> str:
    with redis.Redis.from_url(redis_url) as client:
        found = [f"{key!r} {client.dump(key)!r}" for key in client.scan_iter()]
    return "\n".join(found)


def _every_table(world: World) -> dict[str, str]:
    """Every row of every table as text; of channels all but what is sealed and what is shown to who may write."""
    tables = [row[0] for row in world.run("SELECT tablename FROM pg_tables WHERE tableowner = 'tocsin_owner'")]
    texts = {table: "\n".join(row[0] for row in world.run(f'SELECT t::text FROM "{table}" t')) for table in tables}
    texts["channels"] = "\n".join(row[0] for row in world.run("SELECT (config - 'url')::text FROM channels"))
    return texts


def _answers(alice: Person, ids: list[str]) -> dict[str, str]:
    notifications = alice.get("/v1/notifications?limit=500").get_json()["data"]
    paths = ["/v1/notifications?limit=500", "/v1/incidents", "/metrics"]
    paths += [f"/v1/notifications/{one['id']}" for one in notifications]
    answers = {path: alice.get(path).text for path in paths}
    # Who may write channels sees the URL of a webhook and of an Alertmanager: it is configuration. Secrets nobody.
    for id_ in ids:
        shown = alice.get(f"/v1/channels/{id_}").get_json()
        shown["config"].pop("url", None)
        answers[f"/v1/channels/{id_}"] = str(shown)
    assert len(notifications) == len(ids)
    return answers


def test_the_canary_is_nowhere(life: Life) -> None:
    assert {status for _, status, _ in life.statuses} == {"sent", "dead", "pending"}
    assert "notification_dead" in life.log and "notification_failed" in life.log and '"level": "debug"' in life.log
    assert len(life.commands) > 10
    assert "delivery_attempts" in life.rows and "the receiver answered 400" in life.rows["delivery_attempts"]
    secrets = (CANARY, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    for secret in secrets:
        assert secret not in life.log
        assert secret not in "\n".join(life.commands)
        assert secret not in life.kept_in_redis
        assert [table for table, text in life.rows.items() if secret in text] == []
        assert [path for path, text in life.answers.items() if secret in text] == []
