"""Channels of every type through the API: their secrets go in and never come out, fallbacks, caps, test messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from api.schemas_channels import ChannelIn
from common.channels.registry import CHANNELS
from common.vault import Vault
from tests import api_cast
from tests.api_cast import World
from tests.certificate import make_certificate
from tests.receivers import CANARY, RECEIVERS, Behaviour, Receiver, receiver_of

world = api_cast.world

TYPES = sorted(RECEIVERS)
MAIL = {"to": ["a@example.com"], "sender": "t@example.com", "host": "192.0.2.9", "username": "u", "password": "p"}
ALERTMANAGER = {"url": "http://192.0.2.9:9093"}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=TYPES)
def receiver(request: pytest.FixtureRequest, certificate: tuple[Path, Path]) -> Iterator[Receiver]:
    with receiver_of(request.param, certificate) as receiver:
        yield receiver


def make(world: World, type_: str, config: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return world.alice.make_channel(type=type_, config=config, **fields)


def sealed(world: World, channel: dict[str, Any]) -> Any:
    (row,) = world.rows("SELECT secrets FROM channels WHERE id = %(id)s", id=channel["id"])
    keys = world.services.settings.encryption_keys.get_secret_value()
    return Vault(keys).open(f"channel:{world.org_a}:{channel['id']}", row["secrets"])


@pytest.mark.parametrize(
    ("type_", "secret"),
    [
        ("webhook", set()),
        ("slack", {"url"}),
        ("email", {"password"}),
        ("pagerduty", {"routing_key"}),
        ("alertmanager", {"password", "token"}),
        ("apprise", {"url"}),
    ],
)
def test_which_fields_are_secret(type_: str, secret: set[str]) -> None:
    assert CHANNELS[type_].settings.secret_fields() == secret


def test_secrets_are_stored_sealed_and_read_back_as_null(world: World, receiver: Receiver) -> None:
    made = make(world, receiver.type_, receiver.config)
    hidden = CHANNELS[receiver.type_].settings.secret_fields()
    given = {name: value for name, value in receiver.config.items() if name in hidden}
    assert {name: sealed(world, made).get(name) for name in given} == given
    (row,) = world.rows("SELECT config::text FROM channels")
    assert not any(str(value) in row["config"] for value in given.values())
    path = f"/v1/channels/{made['id']}"
    for person in (world.alice, world.bob):
        for shown in (person.get(path).get_json(), person.get("/v1/channels").get_json()["data"][0]):
            assert all(shown["config"][name] is None for name in hidden)
            assert not any(str(value) in json.dumps(shown) for value in given.values())
    assert CANARY not in world.bob.get(path).text


def test_an_answer_can_be_sent_back_and_changes_nothing(world: World, receiver: Receiver) -> None:
    made = make(world, receiver.type_, receiver.config)
    before = world.rows("SELECT config, secrets FROM channels")
    back = world.alice.patch(f"/v1/channels/{made['id']}", json={**made, "secret": None})
    assert back.status_code == 200, back.text
    assert world.rows("SELECT config, secrets FROM channels") == before


@pytest.mark.parametrize(
    ("type_", "config", "field"),
    [
        ("slack", {}, "config.url"),
        ("slack", {"url": "ftp://x/"}, "config.url"),
        ("slack", {"url": "https://u:p@x/"}, "config.url"),
        ("email", {}, "config.to"),
        ("email", {**MAIL, "to": []}, "config.to"),
        ("email", {**MAIL, "to": ["a@example.com\r\nBcc: b@example.com"]}, "config.to.0"),
        ("email", {**MAIL, "to": ["not an address"]}, "config.to.0"),
        ("email", {**MAIL, "sender": "t@example.com\n"}, "config.sender"),
        ("email", {**MAIL, "host": "mail.example\r\nQUIT"}, "config.host"),
        ("email", {**MAIL, "tls": "none"}, "config.tls"),  # the password would be sent in the clear
        ("email", {**MAIL, "password": None}, "config.password"),
        ("email", {**MAIL, "port": 0}, "config.port"),
        ("email", {"to": ["a@example.com"]}, "config.host"),  # no server of its own, none of the installation's
        ("email", {"to": ["a@example.com"], "sender": "ceo@example.com"}, "config.sender"),
        ("pagerduty", {}, "config.routing_key"),
        ("pagerduty", {"routing_key": 5}, "config.routing_key"),
        ("pagerduty", {"routing_key": "k", "url": "gopher://x"}, "config.url"),
        ("alertmanager", {"url": "x"}, "config.url"),
        ("alertmanager", {"url": "http://x/?a=b"}, "config.url"),
        ("alertmanager", {**ALERTMANAGER, "token": "a\r\nX: y"}, "config.token"),
        ("alertmanager", {**ALERTMANAGER, "username": "u"}, "config.password"),
        ("alertmanager", {**ALERTMANAGER, "username": "u", "password": "p", "token": "t"}, "config.token"),
        ("apprise", {"url": "two://a two://b"}, "config.url"),
        ("apprise", {"url": "nonsense"}, "config.url"),
        ("webhook", {"url": "https://x/", "extra": 1}, "config.extra"),
        ("carrier-pigeon", {}, "type"),
    ],
)
def test_what_is_wrong_is_named(world: World, type_: str, config: dict[str, Any], field: str) -> None:
    bad = world.alice.post("/v1/channels", json={"name": "x", "type": type_, "config": config})
    assert (bad.status_code, bad.get_json()["details"][0]["field"]) == (400, field), bad.text
    assert bad.content_type == "application/problem+json"


@pytest.mark.parametrize(
    ("type_", "config"),
    [
        ("slack", {"url": "http://169.254.169.254/x"}),
        ("email", {**MAIL, "host": "169.254.169.254"}),
        ("pagerduty", {"routing_key": "k", "url": "http://2852039166/"}),
        ("alertmanager", {"url": "http://[fd00:ec2::254]:9093"}),
    ],
)
def test_addresses_that_the_egress_policy_denies_are_refused(world: World, type_: str, config: dict[str, Any]) -> None:
    bad = world.alice.post("/v1/channels", json={"name": "x", "type": type_, "config": config})
    assert (bad.status_code, bad.get_json()["code"]) == (400, "EGRESS_DENIED")


@pytest.mark.parametrize(
    ("type_", "config", "patch"),
    [
        ("email", MAIL, {"host": "192.0.2.66"}),
        ("email", MAIL, {"port": 2525}),
        ("email", MAIL, {"verify_tls": False}),
        ("email", {**MAIL, "tls": "tls"}, {"tls": "starttls"}),
        ("pagerduty", {"routing_key": "k" * 32}, {"url": "http://192.0.2.66/"}),
        ("alertmanager", {**ALERTMANAGER, "token": "t"}, {"url": "http://192.0.2.66/"}),
    ],
)
def test_a_secret_does_not_follow_a_channel_to_another_server(
    world: World, type_: str, config: dict[str, Any], patch: dict[str, Any]
) -> None:
    made = make(world, type_, config)
    path = f"/v1/channels/{made['id']}"
    bad = world.alice.patch(path, json={"config": patch})
    assert bad.status_code == 400, bad.text
    secrets = {name: "new" for name in CHANNELS[type_].settings.secret_fields() if name in config}
    assert [detail["field"] for detail in bad.get_json()["details"]] == [f"config.{name}" for name in secrets]
    assert world.alice.patch(path, json={"config": {**patch, **secrets}}).status_code == 200
    assert sealed(world, made) == secrets


def test_a_secret_is_removed_by_an_empty_text(world: World) -> None:
    made = make(world, "alertmanager", {**ALERTMANAGER, "token": "t"})
    path = f"/v1/channels/{made['id']}"
    assert world.alice.patch(path, json={"config": {"token": "", "url": "http://192.0.2.66"}}).status_code == 200
    assert world.rows("SELECT secrets FROM channels") == [{"secrets": None}]


def test_a_new_secret_mends_a_failing_channel(world: World) -> None:
    made = make(world, "slack", {"url": "https://192.0.2.9/old"})
    world.execute("UPDATE channels SET failures = 5, enabled = false, disabled_reason = 'gone'")
    assert world.alice.get(f"/v1/channels/{made['id']}").get_json()["disabled_reason"] == "gone"
    changed = world.alice.patch(
        f"/v1/channels/{made['id']}", json={"config": {"url": "https://192.0.2.9/new"}, "enabled": True}
    ).get_json()
    assert (changed["enabled"], changed["disabled_reason"]) == (True, None)
    assert world.rows("SELECT failures FROM channels") == [{"failures": 0}]
    assert sealed(world, made) == {"url": "https://192.0.2.9/new"}


def test_every_change_moves_the_routing_version(world: World) -> None:
    def version() -> int:
        (row,) = world.rows("SELECT routing_version AS now FROM organizations WHERE id = %(id)s", id=world.org_a)
        return int(row["now"])

    before = version()
    made = world.alice.make_channel()
    world.alice.patch(f"/v1/channels/{made['id']}", json={"name": "New"})
    world.alice.delete(f"/v1/channels/{made['id']}")
    assert version() == before + 3


def test_a_fallback_is_a_channel_of_ours_that_does_not_lead_back(world: World) -> None:
    first = world.alice.make_channel(cap={"count": 5, "window_seconds": 60})
    second = world.alice.make_channel(fallback_channel_id=first["id"])
    assert (second["fallback_channel_id"], second["cap"]) == (first["id"], None)
    assert first["cap"] == {"count": 5, "window_seconds": 60}
    foreign = world.charlie.make_channel()["id"]
    for id_, wrong in ((second["id"], second["id"]), (first["id"], second["id"]), (first["id"], foreign)):
        bad = world.alice.patch(f"/v1/channels/{id_}", json={"fallback_channel_id": wrong})
        assert (bad.status_code, bad.get_json()["details"][0]["field"]) == (400, "fallback_channel_id"), bad.text
    path = f"/v1/channels/{first['id']}"
    assert world.alice.patch(path, json={"cap": None}).get_json()["cap"] is None
    assert world.alice.delete(path).status_code == 204
    assert world.alice.get(f"/v1/channels/{second['id']}").get_json()["fallback_channel_id"] is None


@pytest.mark.parametrize("cap", [{"count": 0, "window_seconds": 60}, {"count": 5}, {"count": 5, "window_seconds": 0}])
def test_caps_have_limits(world: World, cap: Any) -> None:
    bad = world.alice.post("/v1/channels", json={**api_cast.CHANNEL, "cap": cap})
    assert bad.status_code == 400 and bad.get_json()["details"][0]["field"].startswith("cap")


def test_a_channel_and_those_that_fall_back_to_it_are_locked_in_order_before_it_is_deleted(world: World) -> None:
    gone = make(world, "webhook", {"url": "http://127.0.0.1:9/"})
    for _ in range(4):
        make(world, "webhook", {"url": "http://127.0.0.1:9/"}, fallback_channel_id=gone["id"])
    locked: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, _parameters: Any, _context: Any, _many: Any) -> None:
        if "channels" in statement and ("UPDATE" in statement):
            locked.append(" ".join(statement.split()))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert world.alice.delete(f"/v1/channels/{gone['id']}").status_code == 204
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert "fallback_id" in locked[0]
    assert locked[0].endswith("ORDER BY id FOR NO KEY UPDATE")
    assert world.rows("SELECT 1 FROM channels WHERE fallback_id IS NOT NULL") == []


def test_a_test_message_takes_the_channels_own_way(world: World, receiver: Receiver) -> None:
    made = make(world, receiver.type_, receiver.config, enabled=False)
    answer = world.alice.post(f"/v1/channels/{made['id']}/test")
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["delivered"] is True, answer.text
    assert answer.get_json()["detail"] == ""
    keeps = CHANNELS[receiver.type_].keeps_incidents
    assert len(receiver.messages) == (2 if keeps else 1)
    if keeps:
        # What the test opened, it closes.
        assert b"resolve" in receiver.messages[1] or b"endsAt" in receiver.messages[1]


def test_a_test_message_that_fails_says_so_and_nothing_else(world: World, receiver: Receiver) -> None:
    made = make(world, receiver.type_, receiver.config)
    receiver.behave(Behaviour.REFUSES)
    answer = world.alice.post(f"/v1/channels/{made['id']}/test")
    said = answer.get_json()
    assert said.keys() == {"delivered", "status_code", "detail"}
    assert said["delivered"] is False
    assert said["status_code"] in (400, 550)
    assert said["detail"] and CANARY not in answer.text


def test_a_channel_is_tested_once_in_a_while(
    world: World, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.services.trials, "_monotonic", lambda: 100.0)  # however long it takes us to try again
    with receiver_of("webhook", certificate) as receiver:
        path = f"/v1/channels/{make(world, 'webhook', receiver.config)['id']}/test"
        other = f"/v1/channels/{make(world, 'webhook', receiver.config)['id']}/test"
        assert world.alice.post(path).status_code == 200
        again = world.alice.post(path)
        assert (again.status_code, again.get_json()["code"], again.headers["Retry-After"]) == (
            429,
            "RATE_LIMIT_EXCEEDED",
            "5",
        )
        assert world.alice.post(other).status_code == 200


def test_only_who_may_write_channels_may_test_them(world: World) -> None:
    path = f"/v1/channels/{world.alice.make_channel()['id']}/test"
    assert [person.post(path).status_code for person in (world.bob, world.charlie, world.nobody)] == [403, 404, 401]


def test_the_documentation_shows_every_type(world: World) -> None:
    schemas = world.nobody.get("/openapi.json").get_json()["components"]["schemas"]
    assert schemas["ChannelIn"]["properties"]["type"]["enum"] == list(CHANNELS)
    titles = {one["title"] for one in schemas["ChannelIn"]["properties"]["config"]["anyOf"]}
    assert len(titles) == len(CHANNELS)
    assert ChannelIn.model_fields["type"]
