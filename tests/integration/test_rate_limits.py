"""Rate limits: by person, key and address, shared by all API processes, and never open because Redis is away."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import redis
from pydantic import SecretStr
from werkzeug.test import TestResponse

from api import limits
from api.app import ROUTES, create_app
from common.settings import Settings
from tests import api_cast
from tests.api_cast import MONITOR, PASSWORD, Person, World
from tests.chaos.proxy import BLACKHOLE, PASS, REFUSE, Proxy

world = api_cast.world

#: How long the API waits for Redis before it counts for itself.
IMPATIENT_S = limits._TIMEOUT_S

NOWHERE_REDIS = "redis://127.0.0.1:1/0"
ALERT = {"name": "DiskFull", "source": "db-1"}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that this machine keeps waiting for a moment is not away: all count together here."""
    monkeypatch.setattr(limits, "_TIMEOUT_S", 30.0)


def under(world: World, **settings: Any) -> World:
    """The same world behind an API with these settings."""
    changed = Settings.model_validate({**world.services.settings.model_dump(), **settings})
    client = create_app(replace(world.services, settings=changed)).test_client()

    def again(person: Person) -> Person:
        same = Person(client)
        same.headers = person.headers
        return same

    people = {name: again(getattr(world, name)) for name in ("alice", "bob", "charlie", "nobody")}
    return replace(world, client=client, **people)


def write(person: Person, **arguments: Any) -> TestResponse:
    return person.post("/v1/monitors", json=MONITOR, **arguments)


def login(person: Person, name: str = "alice", password: str = "wrong", **arguments: Any) -> TestResponse:
    return person.post("/v1/auth/login", json={"email": f"{name}@example.com", "password": password}, **arguments)


def at(address: str, **headers: str) -> dict[str, Any]:
    return {"environ_overrides": {"REMOTE_ADDR": address}, "headers": headers}


def statuses(count: int, send: Any) -> list[int]:
    return [send().status_code for _ in range(count)]


def test_writes_beyond_the_limit_are_429_and_say_when_to_come_back(world: World) -> None:
    limited = under(world, rate_limit_writes=3)
    first = write(limited.alice)
    assert first.status_code == 201
    assert first.headers["RateLimit-Policy"] == '"default";q=3;w=60'
    assert re.fullmatch('"default";r=2;t=(60|[345][0-9])', first.headers["RateLimit"])
    assert "Retry-After" not in first.headers
    assert statuses(2, lambda: write(limited.alice)) == [201, 201]
    refused = write(limited.alice)
    assert (refused.status_code, refused.content_type) == (429, "application/problem+json")
    assert refused.get_json()["code"] == "RATE_LIMIT_EXCEEDED"
    assert 30 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit"].startswith('"default";r=0;t=')
    assert len(world.rows("SELECT id FROM monitors")) == 3
    reads = limited.alice.get("/v1/monitors")
    assert (reads.status_code, "RateLimit" in reads.headers) == (200, False)


def test_the_default_is_a_hundred_a_minute() -> None:
    assert Settings().rate_limit_writes == 100


def test_each_person_and_each_key_has_a_limit_of_its_own(world: World) -> None:
    limited = under(world, rate_limit_writes=2)
    keys = [world.alice.post("/v1/api-keys", json={"name": "ci"}).get_json()["key"] for _ in range(2)]
    callers = [limited.alice, limited.charlie, *(Person(limited.client, key) for key in keys)]
    for caller in callers:
        assert statuses(3, lambda caller=caller: write(caller)) == [201, 201, 429]


def test_every_kind_of_write_counts_and_so_does_what_is_refused(world: World) -> None:
    limited = under(world, rate_limit_writes=4)
    monitor = world.alice.make_monitor()["id"]
    assert limited.alice.patch(f"/v1/monitors/{monitor}", json={"name": "x"}).status_code == 200
    assert limited.alice.post("/v1/monitors", json={}).status_code == 400
    assert limited.alice.delete(f"/v1/monitors/{world.org_b}").status_code == 404
    assert limited.alice.post(f"/v1/monitors/{monitor}/pause").status_code == 200
    assert limited.alice.post(f"/v1/monitors/{monitor}/pause").status_code == 429
    assert statuses(5, lambda: write(limited.bob)) == [403, 403, 403, 403, 429]


def test_a_window_ends(world: World, redis_url: str) -> None:
    limited = under(world, rate_limit_writes=1)
    assert statuses(2, lambda: write(limited.alice)) == [201, 429]
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        (counted,) = client.keys("LIMITS:*")
        assert 0 < client.pttl(counted) <= 60_000
        client.pexpire(counted, 1)
        time.sleep(0.01)
    assert statuses(2, lambda: write(limited.alice)) == [201, 429]


def test_all_api_processes_count_together(world: World) -> None:
    one, other = under(world, rate_limit_writes=2), under(world, rate_limit_writes=2)
    assert [write(one.alice).status_code, write(other.alice).status_code] == [201, 201]
    assert [write(one.alice).status_code, write(other.alice).status_code] == [429, 429]


def test_who_is_not_let_in_is_counted_by_address(world: World) -> None:
    limited = under(world, rate_limit_writes=3)
    guess = Person(limited.client, "tcs_000000000000_guess")
    for send in (lambda: write(guess, **at("192.0.2.1")), lambda: guess.get("/v1/monitors", **at("192.0.2.2"))):
        assert statuses(4, send) == [401, 401, 401, 429]
    assert write(guess, **at("192.0.2.3")).status_code == 401
    # Who has good credentials is not kept out by a neighbour who has none.
    assert write(limited.alice, **at("192.0.2.1")).status_code == 201


def test_a_user_of_ipv6_is_a_64(world: World) -> None:
    limited = under(world, rate_limit_writes=2)
    addresses = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:2::3", "2001:db8:1:3::1"]
    found = [write(limited.nobody, **at(address)).status_code for address in addresses]
    assert found == [401, 401, 429, 401]
    mapped = [write(limited.nobody, **at(address)).status_code for address in ("192.0.2.9", "::ffff:192.0.2.9") * 2]
    assert mapped == [401, 401, 429, 429]


def test_one_address_cannot_try_many_accounts(world: World) -> None:
    limited = under(world, rate_limit_auth=3)
    names = iter(["a", "b", "c", "d", "alice"])
    found = [login(limited.nobody, name, **at("192.0.2.1")) for name in names]
    assert [response.status_code for response in found] == [401, 401, 401, 429, 429]
    assert found[-1].headers["RateLimit-Policy"] == '"auth";q=3;w=60'
    assert int(found[-1].headers["Retry-After"]) > 0
    assert login(limited.nobody, "bob", PASSWORD, **at("192.0.2.2")).status_code == 200


def test_many_addresses_cannot_try_one_account(world: World) -> None:
    limited = under(world, rate_limit_auth=3)
    found = [login(limited.nobody, "ALICE" if n % 2 else "alice", **at(f"192.0.2.{n}")).status_code for n in range(5)]
    assert found == [401, 401, 401, 429, 429]
    # Right or wrong makes no difference: an answer would tell that it is right.
    assert login(limited.nobody, "alice", PASSWORD, **at("192.0.2.77")).status_code == 429
    assert login(limited.nobody, "bob", PASSWORD, **at("192.0.2.77")).status_code == 200


def test_every_way_in_is_limited_by_address() -> None:
    open_ways = {route.operation_id for route in ROUTES if route.limit == "auth"}
    assert {"login", "refresh", "logout"} <= open_ways
    for route in ROUTES:
        if route.permission is None and route.path.startswith("/v1/"):
            assert route.limit == "auth", route.operation_id
        if route.writes and route.operation_id not in ("post_ping", "post_ping_action", "post_push"):
            # Of pings only those with an unknown secret are counted (test_heartbeats_pings).
            assert route.limit, route.operation_id


#: (trusted proxies, X-Forwarded-For of two requests, is that one client?)
FORWARDED = [
    (0, "203.0.113.1", "203.0.113.2", True),  # nobody believes it
    (1, "203.0.113.1", "203.0.113.2", False),
    (1, "198.51.100.1, 203.0.113.1", "198.51.100.2, 203.0.113.1", True),  # what the client itself wrote is left
    (2, "198.51.100.1, 203.0.113.1", "198.51.100.2, 203.0.113.1", False),
    (2, "1.1.1.1, 198.51.100.1, 203.0.113.1", "2.2.2.2, 198.51.100.1, 203.0.113.1", True),
]


@pytest.mark.parametrize(("hops", "one", "other", "same"), FORWARDED)
def test_an_address_is_what_trusted_proxies_say(world: World, hops: int, one: str, other: str, same: bool) -> None:
    limited = under(world, rate_limit_writes=1, trusted_proxies=hops)
    found = [write(limited.nobody, **at("192.0.2.1", **{"X-Forwarded-For": text})).status_code for text in (one, other)]
    assert found == [401, 429 if same else 401]


def test_alerts_have_a_limit_of_their_own_and_the_operator_none(world: World) -> None:
    limited = under(world, rate_limit_writes=1, rate_limit_alerts=3)
    key = world.alice.post("/v1/api-keys", json={"name": "prometheus"}).get_json()["key"]
    sender = Person(limited.client, key)
    found = [sender.post("/v1/alerts", json=[ALERT]) for _ in range(4)]
    assert [response.status_code for response in found] == [202, 202, 202, 429]
    assert found[-1].headers["RateLimit-Policy"] == '"alerts";q=3;w=60'
    operator = Person(limited.client)
    operator.headers = world.operator().headers
    assert statuses(5, lambda: operator.post("/v1/alerts", json=[ALERT])) == [202] * 5
    webhook = f"/integrations/alertmanager/{key}"
    body = {"version": "4", "alerts": []}
    assert statuses(4, lambda: limited.nobody.post(webhook, json=body, **at("192.0.2.5"))) == [200, 200, 200, 429]


def test_by_default_a_storm_of_alerts_gets_in(world: World) -> None:
    default = under(world, rate_limit_writes=Settings().rate_limit_writes)
    assert statuses(150, lambda: default.alice.post("/v1/alerts", json=[ALERT])) == [202] * 150


def test_reads_are_limited_where_the_operator_wants_it(world: World) -> None:
    limited = under(world, rate_limit_reads=2)
    found = [limited.alice.get("/v1/monitors") for _ in range(3)]
    assert [response.status_code for response in found] == [200, 200, 429]
    assert found[0].headers["RateLimit"].startswith('"reads";r=1;')
    for path in ("/livez", "/readyz", "/metrics", "/docs"):
        assert limited.alice.get(path).status_code == 200


def test_zero_is_no_limit(world: World) -> None:
    free = under(world, rate_limit_writes=0)
    assert statuses(5, lambda: write(free.alice)) == [201] * 5
    assert "RateLimit" not in write(free.alice).headers


def test_without_redis_a_process_counts_for_itself(world: World) -> None:
    alone = under(world, rate_limit_writes=3, rate_limit_auth=2, redis_url=SecretStr(NOWHERE_REDIS))
    assert statuses(5, lambda: write(alone.alice)) == [201, 201, 201, 429, 429]
    refused = write(alone.alice)
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit-Policy"] == '"default";q=3;w=60'
    assert statuses(3, lambda: login(alone.nobody, **at("192.0.2.1"))) == [401, 401, 429]


@pytest.fixture
def proxy(redis_url: str, patience: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A way to Redis that can be broken, for an API that is as patient as ever."""
    monkeypatch.setattr(limits, "_TIMEOUT_S", IMPATIENT_S)
    with Proxy(unquote(urlsplit(redis_url).path)) as proxy:
        yield proxy


def through(world: World, proxy: Proxy, **settings: Any) -> World:
    return under(world, redis_url=SecretStr(f"redis://127.0.0.1:{proxy.port}/0"), **settings)


def rounds(person: Person, count: int = 40) -> list[float]:
    """What each of so many rounds took, shortest first: one request that is not limited, one that is (seconds)."""
    took = []
    for _ in range(count):
        began = time.monotonic()
        assert person.get("/livez").status_code == 200
        assert person.post("/v1/monitors", json={}).status_code == 400
        took.append(time.monotonic() - began)
    return sorted(took)


def test_a_redis_that_hangs_costs_a_tenth_of_a_second_now_and_then(world: World, proxy: Proxy) -> None:
    """Beside what the same costs while it answers; a machine that is busy for a moment gets another try."""
    limited = through(world, proxy, rate_limit_writes=1_000)
    measured = []
    for _ in range(5):
        proxy.mode(PASS)
        well = rounds(limited.alice)
        proxy.mode(BLACKHOLE)
        hanging = rounds(limited.alice)
        measured.append((well[-1], hanging[-1], well[20], hanging[20]))
        if hanging[-1] < well[-1] + 0.4 and hanging[20] < well[20] + 0.04:
            return
    pytest.fail(f"longest and median round, while it answers and while it hangs: {measured}")


def test_while_redis_comes_and_goes_nobody_gets_more_than_twice_the_limit(world: World, proxy: Proxy) -> None:
    limited = through(world, proxy, rate_limit_writes=5)
    found = []
    for mode in (PASS, REFUSE, PASS, BLACKHOLE):
        proxy.mode(mode)
        found += statuses(10, lambda: write(limited.alice))
    assert set(found) == {201, 429}
    assert 5 <= found.count(201) <= 10


def test_when_redis_is_back_all_count_together_again(world: World, proxy: Proxy, redis_url: str) -> None:
    proxy.mode(REFUSE)
    limited = through(world, proxy, rate_limit_writes=1_000)
    assert limited.alice.post("/v1/monitors", json={}).status_code == 400
    proxy.mode(PASS)
    deadline = time.monotonic() + 60
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        while not client.keys("LIMITS:*"):
            assert time.monotonic() < deadline
            assert limited.alice.post("/v1/monitors", json={}).status_code == 400
            time.sleep(0.1)
