"""What somebody with bad intentions tries, where no other file has it: injection, pickles, Redis rights, cardinality.

Held elsewhere: tokens and keys (test_api_auth), passwords (test_api_passwords, unit/test_passwords), rate limits
(test_rate_limits), tenants (test_api_tenants, test_permissions), browsers (test_security_headers), repeated requests
(test_idempotency), where requests may go (unit/test_egress, test_http_engine, test_api_probes), bombs
(test_http_engine), patterns (unit/test_assertions), secrets (test_channels_secrets, test_rotate_keys,
e2e/test_secrets), webhooks (unit/test_messages, test_deliver).
"""

from __future__ import annotations

import json
import pickle
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import redis
import requests
from prometheus_client import REGISTRY

from api.app import ROUTES, create_app, open_services
from common import log
from common.broker import probe_queue
from common.domain.checks import Lane
from common.vault import SecretUnreadable, Vault, generate_key
from tests import api_cast
from tests.api_cast import PASSWORD, Person, World
from tests.integration.test_api_process import free_port
from tests.sink import Sink
from tests.stack import Queue, Roles, Seed, scheduled, wait_until

world = api_cast.world

ROOT = Path(__file__).parents[2]

#: Texts that mean something to SQL, to LIKE, to a full-text query, to JSON paths, to a shell, to a template.
EVIL = (
    "' OR '1'='1", "'; DROP TABLE monitors; --", '"; SELECT pg_sleep(5); --', "$$; SELECT 1; $$", "%", "_", "\\", "%s",
    "%(org_id)s", "a' & 'b", "!a | b & (", ":*", "'=' | ''", "{{7*7}}", "${jndi:ldap://x}", "../../etc/passwd", "a\\'b",
    "Robert'); DELETE FROM users;--", "\u2028", "\ufeff", "\u0131\u0307", "'::regclass",
)  # fmt: skip


class Evil:
    """What a pickle does when somebody loads it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._path,))


def test_no_text_in_a_query_or_path_is_more_than_a_text(world: World) -> None:
    mine = world.alice.make_monitor(name="Shop", labels={"team": "shop"})
    world.open_incident(mine)
    theirs = world.charlie.make_monitor(name="Theirs", labels={"team": "theirs"})
    tables = ("monitors", "users", "incidents", "organizations", "audit_log")
    before = {table: world.rows(f"SELECT count(*) AS n FROM {table}") for table in tables}
    began = time.monotonic()
    for route in ROUTES:
        if route.method != "GET" or not route.path.startswith("/v1/") or "stream" in route.path:
            continue
        names = route.facts["query"].model_fields if "query" in route.facts else {}
        for text in EVIL:
            path = re.sub(r"<[a-z_]+>", quote(text, safe=""), route.path)
            answers = [world.alice.get(path), *(world.alice.get(path, query_string={name: text}) for name in names)]
            for answer in answers:
                assert answer.status_code < 500, (path, text, answer.text)
                assert theirs["id"] not in answer.text, (path, text)
    assert time.monotonic() - began < 100  # a text that sleeps sleeps for five seconds, in hundreds of places
    assert {table: world.rows(f"SELECT count(*) AS n FROM {table}") for table in tables} == before


def test_wildcards_and_operators_of_others_find_nothing_more(world: World) -> None:
    world.open_incident(world.alice.make_monitor(name="Shop"))
    for path in ("/v1/incidents", "/v1/monitors"):
        assert len(world.alice.get(path, query_string={"q": "shop"}).get_json()["data"]) == 1
        for text in ("%", "_", "s%p", "nothing | shop", "!nothing", "nothing' | 'shop", "sh_p", ".*"):
            answer = world.alice.get(path, query_string={"q": text})
            assert answer.status_code in (200, 400), answer.text
            assert not answer.get_json().get("data"), (path, text)


def test_texts_that_are_stored_come_back_as_they_were(world: World) -> None:
    for text in EVIL:
        made = world.alice.post("/v1/incidents", json={"title": text, "description": text, "labels": {"x": text}})
        if made.status_code == 400:
            continue  # a title has something to be seen
        assert made.status_code == 201, (text, made.text)
        found = world.alice.get(f"/v1/incidents/{made.get_json()['id']}").get_json()
        assert (found["title"], found["description"], found["labels"]) == (text, text, {"x": text})
        listed = world.alice.get("/v1/incidents", query_string={"label": f"x:{text}"})
        assert listed.status_code in (200, 400)


def test_no_value_makes_a_log_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("api", style="json")
    forged = 'x"}\n{"event": "logged_in", "level": "info"}\r\n\x1b[31mred'
    log.get_logger().info("tried", name=forged)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["tried"]
    assert json.loads(lines[0])["name"] == forged
    assert "\x1b" not in lines[0]


def test_a_request_id_that_would_forge_a_line_or_a_header_is_not_taken_over(world: World) -> None:
    for forged in ("a b", "x" * 129, "ä", 'a"b', "a;b"):
        answer = world.alice.get("/v1/monitors", headers={"X-Request-ID": forged})
        assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["X-Request-ID"]), forged


def test_a_pickle_in_queue_or_cache_is_never_loaded(
    world: World, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    loaded = tmp_path / "loaded"
    evil = pickle.dumps(Evil(loaded))
    seed, queue = Seed(database_url), Queue(redis_url)
    with Roles(database_url, redis_url) as roles, Sink() as target:
        up = seed.monitor(target.url("/up"))
        worker = roles.worker()
        for lane in Lane:
            queue.push_raw(evil, lane)
        _push_probe(queue, evil)
        now = seed.now_ms()
        queue.push([scheduled(up, now)])
        wait_until(lambda: seed.count("results") == 1, 60)
        wait_until(lambda: all(queue.set_aside(lane) == 1 for lane in Lane), 60)
        assert worker.alive
    incident = world.open_incident(world.alice.make_monitor())
    path = f"/v1/incidents/{incident}"
    title = world.alice.get(path).get_json()["title"]
    client = redis.Redis.from_url(redis_url)

    def cached() -> list[bytes]:
        world.alice.get(path)  # a Redis that is slow for a moment is left alone for five seconds
        return [key for key in client.scan_iter() if incident.encode() in key]

    wait_until(cached, 60)
    for key in cached():
        client.set(key, evil)
    assert world.alice.get(path).get_json()["title"] == title
    assert not loaded.exists()
    pickle.loads(evil)  # so it does work
    assert loaded.exists()


def _push_probe(queue: Queue, body: bytes) -> None:
    name, message_id = f"tocsin:{probe_queue('local')}", uuid4().hex
    queue.redis.hset(f"{name}.msgs", message_id, body)
    queue.redis.rpush(name, message_id)


def test_a_user_of_redis_needs_no_right_beyond_our_keys(
    world: World, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One dangerous command, KEYS, is Dramatiq's; CONFIG, FLUSHALL and everybody else's keys are out of reach."""
    with _least_rights(redis_url) as (limited, denied), Sink() as target:
        assert world.services.settings.encryption_keys is not None
        keys = world.services.settings.encryption_keys.get_secret_value()
        settings = api_cast.settings_for(database_url, limited, rate_limit_writes=50).model_copy(
            update={"encryption_keys": world.services.settings.encryption_keys}
        )
        services = open_services(settings)
        monkeypatch.setattr(services.probes, "_begin_within_s", 60.0)
        alice = Person(create_app(services).test_client())
        alice.headers = world.alice.headers
        with Roles(database_url, limited, TOCSIN_ENCRYPTION_KEYS=keys) as roles:
            roles.leader()
            roles.worker()
            roles.start("notifier").wait_for("notifier_started")
            monitor = alice.make_monitor(target=target.url("/up"), interval_seconds=1)
            path = f"/v1/monitors/{monitor['id']}"
            assert alice.post(f"{path}/check").status_code == 202, denied()
            wait_until(lambda: len(alice.get(f"{path}/results").get_json()["data"]) >= 2, 60)
            probed = alice.post("/v1/probes", json={"type": "http", "target": target.url("/up")})
            assert (probed.status_code, probed.get_json().get("verdict")) == (200, "up"), probed.text
            incident = world.open_incident(monitor)
            for _ in range(2):
                assert alice.get(f"/v1/incidents/{incident}").status_code == 200
            assert alice.get("/v1/queues").status_code == 200
            assert alice.post("/v1/queues/notify/replay", json={"all": True}).status_code == 200
            assert denied() == []
        with pytest.raises(redis.exceptions.NoPermissionError):
            redis.Redis.from_url(limited).flushall()
        with pytest.raises(redis.exceptions.NoPermissionError):
            redis.Redis.from_url(limited).get("somebody else's")
        assert len(denied()) == 2
        services.database.dispose()
        services.platform.close()
        services.broker.client.close()
        services.incident_cache.close()


@contextmanager
def _least_rights(redis_url: str) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """A user with no right but ours: its URL, and what it was denied so far."""
    admin = redis.Redis.from_url(redis_url, decode_responses=True)
    admin.acl_setuser(
        "least", enabled=True, passwords=["+secret"], reset=True, keys=["tocsin", "tocsin:*", "LIMITS:*"],
        categories=["+@all", "-@admin", "-@dangerous"], commands=["+keys"],
    )  # fmt: skip
    admin.acl_log_reset()
    limited = re.sub(r"^(\w+)://", r"\1://least:secret@", redis_url)

    def denied() -> list[str]:
        return [f"{entry['reason']}: {entry['object']}" for entry in admin.acl_log()]

    try:
        yield limited, denied
    finally:
        admin.acl_deluser("least")
        admin.close()


def test_nothing_that_strangers_write_makes_a_metric(world: World) -> None:
    """Monitors, random paths and methods by the hundred: as many series as before, and none that names one of them."""
    for path in ("/v1/monitors", "/v1/nothing", f"/v1/monitors/{uuid4()}"):
        world.alice.get(path)
        world.alice.call("BREW", path)
    before = _series()
    for number in range(150):
        world.alice.get(f"/v1/{uuid4()}/{number}")
        world.alice.call(f"BREW{number}", "/v1/monitors")
        world.alice.get(f"/v1/monitors/{uuid4()}", query_string={"x": str(uuid4())})
        world.nobody.get("/v1/monitors", headers={"Authorization": f"Bearer {uuid4()}", "X-Request-ID": str(uuid4())})
    after = _series()
    assert len(after) <= len(before) + 20  # a status that was not seen before
    assert not [series for series in after if re.search(r"[0-9a-f]{8}-[0-9a-f]{4}|https?://|BREW", series)]


def _series() -> set[str]:
    return {f"{sample.name} {sample.labels}" for metric in REGISTRY.collect() for sample in metric.samples}


def test_a_secret_moved_to_another_row_or_organization_does_not_open(world: World) -> None:
    secret = {"http": {"headers": {"X": {"secret": "s"}}}}
    mine, other = (world.alice.make_monitor(**secret) for _ in range(2))
    theirs = world.charlie.make_monitor(**secret)
    sealed = {row["id"]: row["secrets"] for row in world.rows("SELECT id::text, secrets FROM monitors")}
    assert len(set(sealed.values())) == 3
    vault = world.services.vault
    assert vault.open(f"monitor:{world.org_a}:{mine['id']}", sealed[mine["id"]]) == {"http.headers.X": "s"}
    for moved in (other, theirs):
        with pytest.raises(SecretUnreadable):
            vault.open(f"monitor:{world.org_a}:{mine['id']}", sealed[moved["id"]])
    with pytest.raises(SecretUnreadable):
        Vault(generate_key()).open(f"monitor:{world.org_a}:{mine['id']}", sealed[mine["id"]])


def test_an_unknown_address_costs_as_much_hashing_as_a_known_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = world.services.passwords
    made: list[str | None] = []
    verify = type(passwords).verify

    def noting(self: Any, stored: str | None, password: str) -> bool:
        made.append(stored)
        return verify(self, stored, password)

    monkeypatch.setattr(type(passwords), "verify", noting)
    for email in ("alice@example.com", "nobody@example.com"):
        made.clear()
        body = {"email": email, "password": PASSWORD + "!"}
        assert world.nobody.post("/v1/auth/login", json=body).status_code == 401
        assert len(made) == 1, email


def test_every_dependency_is_pinned_by_its_hash_and_has_no_other_source() -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-uv.txt"):
        text = (ROOT / name).read_text(encoding="utf-8")
        wanted = re.split(r"\n(?=[A-Za-z0-9])", "\n" + "\n".join(
            line for line in text.splitlines() if not line.lstrip().startswith("#")))[1:]  # fmt: skip
        assert wanted, name
        for block in wanted:
            assert re.match(r"[A-Za-z0-9._-]+(\[[a-z0-9,_-]+\])?==[^\s;\\]+", block), block[:80]
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block[:80]
        assert not re.search(r"(?m)^\s*(--(extra-)?index-url|--find-links|-e |git\+|https?://)", text), name


def test_a_roles_own_metrics_are_served_where_the_operator_says(database_url: str, redis_url: str) -> None:
    port = free_port()
    with Roles(database_url, redis_url, TOCSIN_METRICS_PORT=str(port)) as roles:
        roles.start("scheduler").wait_for("scheduler_started")
        assert "tocsin_" in requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
        for address in _others():
            with pytest.raises(OSError), socket.create_connection((address, port), timeout=2):
                pass


def _others() -> list[str]:
    """Addresses of this machine beside 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # nothing is sent
            own = {asking.getsockname()[0]}
        except OSError:
            own = set()
    return sorted({"127.0.0.2", *own} - {"127.0.0.1"})
