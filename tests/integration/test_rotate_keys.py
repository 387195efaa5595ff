"""`tocsin rotate-keys`: every stored secret under the newest key, in pieces, again if need be."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from common import rotation
from common.settings import Settings
from common.vault import SecretUnreadable, Vault, generate_key
from tests.conftest import Databases
from tests.world import World

OLD, NEW = generate_key(), generate_key()


@pytest.fixture
def world(databases: Databases) -> World:
    return World(databases.owner, databases.worker, key=OLD)


def _tokens(world: World, table: str) -> list[tuple[str, str, str]]:
    return [tuple(row) for row in world.run(f"SELECT id::text, org_id::text, secrets FROM {table} WHERE secrets > ''")]


def _monitor(world: World, number: int) -> None:
    id_ = str(UUID(int=number + 1))
    world.run(
        "INSERT INTO monitors (id, org_id, name, type, target, interval_s, timeout_s, failure_threshold,"
        " recovery_threshold, retry_interval_s, severity, location_ids, secrets, check_from)"
        " VALUES (%(id)s, %(org)s, 'm', 'http', 'http://x/', 30, 10, 2, 1, 5, 'error', '{1}', %(secrets)s, now())",
        id=id_, org=world.org_id, secrets=world.vault.seal(f"monitor:{world.org_id}:{id_}", {"http.headers.A": "s"}),
    )  # fmt: skip


def _heartbeat(world: World, number: int) -> None:
    id_ = str(UUID(int=number + 1))
    world.run(
        "INSERT INTO heartbeats (id, org_id, monitor_no, token_hash, secrets)"
        " SELECT id, org_id, monitor_no, sha256(id::text::bytea), %(secrets)s FROM monitors WHERE id = %(id)s",
        id=id_, secrets=world.vault.seal(f"heartbeat:{world.org_id}:{id_}", {"token": "s"}),
    )  # fmt: skip


def _rotate(world: World, keys: str, **options: Any) -> dict[str, rotation.Counts]:
    return dict(rotation.rotate(world.owner, Vault(keys), **options))


def test_all_secrets_are_sealed_anew_and_the_old_key_can_go(world: World) -> None:
    for number in range(7):
        world.channel(f"http://127.0.0.1/{number}")
        _monitor(world, number)
    _heartbeat(world, 0)
    world.channel("http://127.0.0.1/", secrets=None)
    assert _rotate(world, f"{NEW},{OLD}", batch=3) == {
        "channels": rotation.Counts(resealed=7),
        "heartbeats": rotation.Counts(resealed=1),
        "idempotency_keys": rotation.Counts(),
        "monitors": rotation.Counts(resealed=7),
    }
    only_new = Vault(NEW)
    for table, owner in (("channels", "channel"), ("heartbeats", "heartbeat"), ("monitors", "monitor")):
        for id_, org, token in _tokens(world, table):
            assert only_new.open(f"{owner}:{org}:{id_}", token)
            with pytest.raises(SecretUnreadable):
                Vault(OLD).open(f"{owner}:{org}:{id_}", token)


def test_a_second_run_finds_nothing_to_do_and_touches_no_row(world: World) -> None:
    for number in range(4):
        world.channel(f"http://127.0.0.1/{number}")
    _rotate(world, f"{NEW},{OLD}")
    before = _tokens(world, "channels")
    assert _rotate(world, f"{NEW},{OLD}")["channels"] == rotation.Counts(current=4)
    assert _tokens(world, "channels") == before


def test_what_was_broken_off_goes_on_where_it_was(world: World) -> None:
    for number in range(9):
        world.channel(f"http://127.0.0.1/{number}")

    class Broken(Exception):
        pass

    left = iter(range(5))

    class Fragile(Vault):
        def reseal(self, owner: str, token: str) -> str | None:
            if next(left, None) is None:
                raise Broken
            return super().reseal(owner, token)

    with pytest.raises(Broken):
        dict(rotation.rotate(world.owner, Fragile(f"{NEW},{OLD}"), batch=2))
    # Two batches of two were committed, the third was not.
    assert _rotate(world, f"{NEW},{OLD}")["channels"] == rotation.Counts(resealed=5, current=4)


def test_what_no_key_opens_is_counted_and_left_alone(world: World) -> None:
    world.channel("http://127.0.0.1/")
    lost = world.channel("http://127.0.0.1/lost")
    world.run("UPDATE channels SET secrets = %(t)s WHERE id = %(id)s", t=Vault(generate_key()).seal("x", 1), id=lost)
    before = {row[0]: row[2] for row in _tokens(world, "channels")}
    assert _rotate(world, f"{NEW},{OLD}")["channels"] == rotation.Counts(resealed=1, unreadable=1)
    assert {row[0]: row[2] for row in _tokens(world, "channels")}[lost] == before[lost]


def test_the_command_says_what_it_did_and_fails_when_something_was_left(
    world: World, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.channel("http://127.0.0.1/")
    settings = Settings(database_url=SecretStr(database_url), encryption_keys=SecretStr(f"{NEW},{OLD}"))
    assert rotation.run(settings) == 0
    said = capsys.readouterr().out
    assert "channels: 1 sealed anew, 0 under the newest key already, 0 unreadable" in said
    world.run("UPDATE channels SET secrets = 'nonsense'")
    assert rotation.run(settings) == 1
    assert OLD not in said and NEW not in said
