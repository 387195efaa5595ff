"""Idempotency-Key: whatever is sent twice, at once, or while things break, is made once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from api.app import ROUTES, create_app
from common import rotation
from common.store import idempotency_keys
from common.store.engine import Connection, Database
from common.store.idempotency_keys import Claim
from common.vault import Vault, generate_key
from tests import api_cast
from tests.api_cast import CHANNEL, MONITOR, Person, World
from tests.certificate import make_certificate
from tests.identity_cast import letters_to, with_mail
from tests.receivers import MailReceiver

world = api_cast.world

KEY = {"Idempotency-Key": "k-1"}
MATCHERS = [{"label": "team", "op": "=", "value": "shop"}]

#: {operation: what makes one, its table}; a route that creates and is not here fails the first test.
CREATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "create_monitor": (MONITOR, "monitors"),
    "create_monitors": ({"monitors": [MONITOR]}, "monitors"),
    "apply_monitors": ({"monitors": [{**MONITOR, "key": "applied"}]}, "monitors"),
    "create_channel": (CHANNEL, "channels"),
    "create_api_key": ({"name": "ci"}, "api_keys"),
    "create_invite": ({"email": "dora@example.com", "role": "viewer"}, "invites"),
    "create_organization": ({"name": "C"}, "organizations"),
    "create_silence": ({"matchers": MATCHERS, "duration_seconds": 60}, "silences"),
    "create_maintenance": ({"name": "m", "matchers": MATCHERS, "duration_seconds": 60}, "maintenance_windows"),
    "create_route": ({"name": "r", "channel_ids": []}, "routes"),
    "create_incident": ({"title": "by hand", "severity": "error"}, "incidents"),
    "comment_incident": ({"body": "looking"}, "incident_events"),
}


def create(person: Person, headers: dict[str, str] = KEY, **fields: Any) -> TestResponse:
    return person.post("/v1/monitors", json={**MONITOR, **fields}, headers=headers)


def count(world: World, table: str = "monitors") -> int:
    return int(world.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"])


def test_everything_that_creates_makes_one_of_two_and_answers_the_second_like_the_first(world: World) -> None:
    operator = world.operator()
    incident = world.open_incident(world.alice.make_monitor())
    channel = world.alice.make_channel()["id"]
    creating = {route.operation_id: route for route in ROUTES if route.idempotent}
    assert set(creating) <= set(CREATIONS), "say in CREATIONS how to make one"
    assert len(creating) >= 5
    for name, route in creating.items():
        body, table = CREATIONS[name]
        if name == "create_route":
            body = {**body, "channel_ids": [channel]}
        if name == "apply_monitors":
            body = {**body, "fingerprint": world.alice.post("/v1/monitors/plan", json=body).get_json()["fingerprint"]}
        sender = operator if name == "create_organization" else world.alice
        path = route.path.replace("<incident_id>", incident)
        before = count(world, table)
        first = sender.post(path, json=body, headers=KEY)
        assert (first.status_code, "Idempotency-Replayed" in first.headers) == (route.status, False), (name, first.text)
        second = sender.post(path, json=body, headers=KEY)
        assert (second.status_code, second.headers["Idempotency-Replayed"]) == (200, "true"), name
        assert second.get_data() == first.get_data(), name
        assert second.content_type == first.content_type
        assert second.headers.get("Location") == first.headers.get("Location")
        assert count(world, table) == before + 1, name
        other = sender.post(path, json=body, headers={"Idempotency-Key": "other"})
        # Another one is made, or what it collides with is there.
        assert other.status_code in (route.status, 409, 412), name


def test_another_body_with_the_same_key_is_a_conflict(world: World) -> None:
    assert create(world.alice).status_code == 201
    response = create(world.alice, name="Another")
    assert (response.status_code, response.get_json()["code"]) == (409, "IDEMPOTENCY_KEY_CONFLICT")
    assert count(world) == 1


def test_a_body_is_the_same_when_it_says_the_same(world: World) -> None:
    first = create(world.alice)
    spaced = json.dumps(dict(reversed(MONITOR.items())), indent=4)
    second = world.alice.post("/v1/monitors", data=spaced, content_type="application/json", headers=KEY)
    assert (second.status_code, second.get_json()) == (200, first.get_json())


#: (sent twice, are they the same key?)
SPELLINGS = [
    ("k-1", '"k-1"', True),
    (" k-1 ", "k-1", True),
    ('"a\\"b"', 'a"b', True),
    ("k-1", "K-1", False),
    ("k 1", "k  1", False),
    ("x" * 255, '"' + "x" * 255 + '"', True),
]


@pytest.mark.parametrize(("one", "other", "same"), SPELLINGS)
def test_a_key_may_be_plain_or_a_quoted_string(world: World, one: str, other: str, same: bool) -> None:
    assert create(world.alice, {"Idempotency-Key": one}).status_code == 201
    assert create(world.alice, {"Idempotency-Key": other}).status_code == (200 if same else 201)


@pytest.mark.parametrize("key", ["", '""', " ", "x" * 256, '"' + "x" * 256 + '"', "ü", "a\tb"])
def test_what_is_no_key_is_refused(world: World, key: str) -> None:
    response = create(world.alice, {"Idempotency-Key": key})
    assert (response.status_code, response.get_json()["details"][0]["field"]) == (400, "Idempotency-Key")
    assert count(world) == 0


def test_without_a_key_every_request_makes_one_and_nothing_is_kept(world: World) -> None:
    assert [create(world.alice, {}).status_code for _ in range(2)] == [201, 201]
    assert count(world, "idempotency_keys") == 0


def test_a_key_is_the_business_of_one_caller_and_one_path(world: World) -> None:
    token = world.alice.post("/v1/api-keys", json={"name": "ci"}).get_json()["key"]
    made = [create(person) for person in (world.alice, world.person(token), world.charlie)]
    assert [response.status_code for response in made] == [201, 201, 201]
    assert len({response.get_json()["id"] for response in made}) == 3
    incidents = [world.open_incident(world.alice.make_monitor()) for _ in range(2)]
    for incident in incidents:
        comment = world.alice.post(f"/v1/incidents/{incident}/comments", json={"body": "x"}, headers=KEY)
        assert comment.status_code == 201


def test_of_many_at_once_one_makes_it_and_all_others_get_its_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who makes it may be held up by this machine for longer than the others have patience.
    monkeypatch.setattr(idempotency_keys, "_WAIT_SHORTLY", "SET LOCAL lock_timeout = '60s'")
    app = create_app(world.services)
    barrier = threading.Barrier(8)

    def send(_number: int) -> TestResponse:
        alice = Person(app.test_client())
        alice.headers = world.alice.headers
        barrier.wait()
        return create(alice)

    with ThreadPoolExecutor(8) as threads:
        responses = list(threads.map(send, range(8)))
    assert sorted(response.status_code for response in responses) == [200] * 7 + [201]
    assert len({response.get_data() for response in responses}) == 1
    assert count(world) == 1


def test_who_comes_while_the_first_still_runs_is_told_to_wait(world: World) -> None:
    claim = Claim(world.org_a, f"user:{world.users['alice']}", "POST /v1/monitors", "k-1", b"x" * 32)
    with world.databases.api.begin(world.org_a) as running:
        assert idempotency_keys.claim(running, claim) is None
        began = time.monotonic()
        response = create(world.alice)
        assert 1.5 < time.monotonic() - began < 9  # others who wait for a lock wait for ten
        assert (response.status_code, response.get_json()["code"]) == (409, "IDEMPOTENCY_KEY_IN_USE")
        assert response.headers["Retry-After"] == "1"
        running.rollback()
    assert create(world.alice).status_code == 201


def test_a_refused_request_leaves_its_key_unused(world: World) -> None:
    assert create(world.alice, name="").status_code == 400
    assert create(world.alice, locations=["mars"]).status_code == 400
    world.alice.make_monitor(key="taken")
    assert create(world.alice, key="taken").status_code == 409
    assert count(world, "idempotency_keys") == 0
    assert create(world.alice).status_code == 201


def test_a_replay_asks_for_the_permission_again(world: World) -> None:
    assert create(world.alice).status_code == 201
    world.execute("UPDATE memberships SET role = 'viewer' WHERE user_id = %(id)s", id=world.users["alice"])
    assert create(world.alice).status_code == 403


def _explode(*_arguments: Any) -> None:
    raise RuntimeError("between the creation and the answer")


def _die(connection: Connection, *_arguments: Any) -> None:
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.close()


@pytest.mark.parametrize(("crash", "status"), [(_explode, 500), (_die, 503)])
def test_a_crash_between_the_creation_and_its_answer_leaves_neither(
    world: World, monkeypatch: pytest.MonkeyPatch, crash: Any, status: int
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(idempotency_keys, "complete", crash)
        assert create(world.alice).status_code == status
    for table in ("monitors", "monitor_states", "idempotency_keys", "audit_log"):
        assert count(world, table) == 0, table
    assert create(world.alice).status_code == 201
    assert (count(world), count(world, "audit_log")) == (1, 1)
    assert create(world.alice).status_code == 200
    assert (count(world), count(world, "audit_log")) == (1, 1)


@pytest.mark.parametrize(("crash", "status"), [(_explode, 500), (_die, 503)])
def test_nothing_that_cannot_be_taken_back_leaves_before_the_commit(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, crash: Any, status: int
) -> None:
    with MailReceiver(make_certificate(tmp_path), starttls=False) as receiver:
        alice = with_mail(world, receiver).alice
        invite = {"email": "dora@example.com", "role": "viewer"}
        desired = {"monitors": [{**MONITOR, "key": "applied"}]}
        desired["fingerprint"] = alice.post("/v1/monitors/plan", json=desired).get_json()["fingerprint"]
        requests = [
            ("/v1/invites", invite), ("/v1/monitors", MONITOR), ("/v1/monitors/bulk", {"monitors": [MONITOR]}),
            ("/v1/monitors/apply", desired),
        ]  # fmt: skip
        said = {"mail_sent", "monitor_created", "monitors_created", "monitors_applied"}
        with monkeypatch.context() as patched, capture_logs() as lines:
            patched.setattr(idempotency_keys, "complete", crash)
            for path, body in requests * 10:  # more often than mails may be under way at once
                assert alice.post(path, json=body, headers=KEY).status_code == status
            _let_mails_leave()
        assert (receiver.envelopes, said & {line["event"] for line in lines}) == ([], set())
        with capture_logs() as lines:
            for path, body in requests:
                answer = alice.post(path, json=body, headers=KEY)
                assert answer.headers.get("Idempotency-Replayed") is None, answer.text
                assert answer.get_json().get("mailed", True) is True
            _let_mails_leave()
        assert sorted(said & {line["event"] for line in lines}) == sorted(said)
        for path, body in requests:
            assert alice.post(path, json=body, headers=KEY).headers["Idempotency-Replayed"] == "true"
        assert len(letters_to(receiver, 1)) == 1


def _let_mails_leave() -> None:
    for thread in threading.enumerate():
        if thread.name == "mail":
            thread.join(60)


def test_an_answer_that_is_lost_on_its_way_is_given_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is committed, and then we break before anybody hears of it."""
    share = Database.share

    @contextmanager
    def lost(database: Database, org_id: str = "") -> Iterator[Connection]:
        with share(database, org_id) as connection:
            yield connection
        raise RuntimeError("nobody heard of it")

    with monkeypatch.context() as patched:
        patched.setattr(Database, "share", lost)
        assert create(world.alice).status_code == 500
    assert count(world) == 1
    again = create(world.alice)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert world.alice.get(f"/v1/monitors/{again.get_json()['id']}").status_code == 200
    assert count(world) == 1


def test_a_key_is_new_again_after_a_day_and_is_deleted_then(world: World) -> None:
    assert create(world.alice).status_code == 201
    lifetime = world.rows("SELECT expires_at - created_at AS lifetime FROM idempotency_keys")[0]["lifetime"]
    assert 86_399 < lifetime.total_seconds() < 86_401
    world.execute("UPDATE idempotency_keys SET expires_at = now() - interval '1 second'")
    assert create(world.alice, name="Another").status_code == 201
    assert (count(world), count(world, "idempotency_keys")) == (2, 1)
    with world.databases.worker.begin() as connection:
        assert idempotency_keys.forget(connection) == 0
    world.execute("UPDATE idempotency_keys SET expires_at = now()")
    with world.databases.worker.begin() as connection:
        assert idempotency_keys.forget(connection) == 1
    assert count(world, "idempotency_keys") == 0


def test_a_secret_that_is_shown_once_is_shown_again_to_who_got_no_answer_and_never_stored_openly(world: World) -> None:
    first = world.alice.post("/v1/api-keys", json={"name": "ci"}, headers=KEY).get_json()
    assert "tcs_" not in repr(world.rows("SELECT * FROM idempotency_keys"))
    assert first["key"].rpartition("_")[2] not in repr(world.rows("SELECT * FROM idempotency_keys, audit_log"))
    again = world.alice.post("/v1/api-keys", json={"name": "ci"}, headers=KEY).get_json()
    assert again["key"] == first["key"]
    assert world.person(again["key"]).get("/v1/auth/me").status_code == 200


def _plain(body: Any) -> bytes:
    return sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).digest()


def test_who_reads_the_table_cannot_try_passwords_against_it(world: World) -> None:
    body = {**MONITOR, "http": {"headers": {"Authorization": {"secret": "1234"}}}}
    assert world.alice.post("/v1/monitors", json=body, headers=KEY).status_code == 201
    (row,) = world.rows("SELECT fingerprint, secrets FROM idempotency_keys")
    assert bytes(row["fingerprint"]) != _plain(body)
    assert _plain(body).hex() not in row["secrets"]
    assert world.alice.post("/v1/monitors", json=body, headers=KEY).status_code == 200


def test_what_the_version_before_this_one_has_kept_is_still_good(world: World) -> None:
    first = create(world.alice)
    (row,) = world.rows("SELECT id::text, secrets FROM idempotency_keys")
    owner = f"idempotency-key:{world.org_a}:{row['id']}"
    kept = world.services.vault.open(owner, row["secrets"])
    del kept["digest"]
    world.execute(
        "UPDATE idempotency_keys SET fingerprint = %(plain)s, secrets = %(secrets)s",
        plain=_plain(MONITOR), secrets=world.services.vault.seal(owner, kept),
    )  # fmt: skip
    again = create(world.alice)
    assert (again.status_code, again.get_data()) == (200, first.get_data())
    assert create(world.alice, name="Another").get_json()["code"] == "IDEMPOTENCY_KEY_CONFLICT"


def test_an_answer_whose_key_is_gone_is_a_conflict_and_nothing_is_made_again(world: World) -> None:
    assert create(world.alice).status_code == 201
    other = Person(create_app(replace(world.services, vault=Vault(generate_key()))).test_client())
    other.headers = world.alice.headers
    response = create(other)
    assert (response.status_code, response.get_json()["code"]) == (409, "IDEMPOTENCY_ANSWER_LOST")
    assert count(world) == 1


def test_answers_are_sealed_anew_with_everything_else(world: World) -> None:
    operator, old = world.operator(), world.services.settings.encryption_keys
    assert old is not None
    assert create(world.alice).status_code == 201
    assert operator.post("/v1/organizations", json={"name": "C"}, headers=KEY).status_code == 201
    new = generate_key()
    found = dict(rotation.rotate(world.databases.owner, Vault(f"{new},{old.get_secret_value()}")))
    assert found["idempotency_keys"] == rotation.Counts(resealed=2)
    app = create_app(replace(world.services, vault=Vault(new)))
    alice, boss = Person(app.test_client()), Person(app.test_client())
    alice.headers, boss.headers = world.alice.headers, operator.headers
    assert create(alice).status_code == 200
    assert boss.post("/v1/organizations", json={"name": "C"}, headers=KEY).status_code == 200


INSERT = (
    "INSERT INTO api_keys (id, org_id, name, prefix, key_hash, role)"
    " VALUES (gen_random_uuid(), %(org)s, 'x', gen_random_uuid()::text, sha256('x'), 'viewer')"
)


def add(database: Database, org_id: str, outer: Connection | None = None, *, fail: bool = False) -> None:
    with database.begin(org_id) as connection:
        assert outer is None or connection is outer
        connection.exec_driver_sql(INSERT, {"org": org_id})
        if fail:
            raise ZeroDivisionError


def keys_of(database: Database, org_id: str) -> int:
    with database.begin(org_id) as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM api_keys").scalar_one())


def test_what_joins_a_shared_transaction_is_there_with_all_of_it_or_not_at_all(world: World) -> None:
    database = world.services.database

    def act() -> None:
        with database.share(world.org_a) as outer:
            add(database, world.org_a, outer)
            add(database, world.org_b)  # another organization's is its own
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        act()
    assert (keys_of(database, world.org_a), keys_of(database, world.org_b)) == (0, 1)


def test_a_part_of_a_shared_transaction_that_fails_does_not_take_the_rest_along(world: World) -> None:
    database = world.services.database
    with database.share(world.org_a) as outer:
        with pytest.raises(ZeroDivisionError):
            add(database, world.org_a, outer, fail=True)
        add(database, world.org_a, outer)
    assert keys_of(database, world.org_a) == 1


def test_what_waits_for_the_commit_is_done_after_it_or_never(world: World) -> None:
    database, done = world.services.database, []

    def note(what: str) -> None:
        said = f"{what}, {keys_of(database, world.org_a)} there"
        database.after_commit(lambda: done.append(said), otherwise=lambda: done.append(f"not {said}"))

    def fail(begin: Any, what: str) -> None:
        with begin(world.org_a):
            note(what)
            raise ZeroDivisionError

    note("alone")
    assert done == ["alone, 0 there"]
    with database.share(world.org_a):
        add(database, world.org_a)
        note("shared")
        with pytest.raises(ZeroDivisionError):
            fail(database.begin, "rolled back part")
        with database.begin(world.org_a):
            note("part")
        assert done[1:] == ["not rolled back part, 1 there"]
    assert done[2:] == ["shared, 1 there", "part, 1 there"]
    with pytest.raises(ZeroDivisionError):
        fail(database.share, "in vain")
    assert done[4:] == ["not in vain, 1 there"]
    note("alone again")
    assert done[5:] == ["alone again, 1 there"]
