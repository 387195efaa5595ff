"""Nothing secret leaves the places made for it: not in logs, not through the queue, not in an answer after creation."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import pytest
import redis
import requests

from tests.e2e.outage import Watch
from tests.e2e.stack import Stack, wait_for

#: For others than an organization's people: the operator, whoever got a message, jobs.
NOT_OURS = (
    "/v1/organizations",
    "/v1/organizations/{organization_id}",
    "/ack/{token}",
    "/v1/auth/oidc/start",
    "/v1/auth/oidc/callback",
    "/ping/{code}",
    "/ping/{code}/{action}",
    "/api/push/{token}",
)

#: Asked of a heartbeat. The first is made to show its address, to who may change the monitor.
HEARTBEATS = ("/v1/monitors/{monitor_id}/heartbeat", "/v1/monitors/{monitor_id}/pings")

HEADER_SECRET = "hunter2-of-the-monitored-service"


@dataclass
class Life:
    """What a stack was told and said while somebody lived with it."""

    secrets: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def life(stack: Stack, watch: Watch) -> Iterator[Life]:
    """A login, wrong logins, a monitor with a secret, an outage; then every GET that there is."""
    life = Life()
    listener = _listen(stack, life.commands)
    credentials, keys = stack.credentials(), json.loads((stack.data_dir / "keys.json").read_text())
    login = {"email": credentials["email"], "password": credentials["password"]}
    tokens = requests.post(f"{stack.url}/v1/auth/login", json=login, timeout=60).json()
    watch.api.post("/routes", {"name": "all", "channel_ids": [watch.channel["id"]]})
    nobody = [{"label": "name", "op": "=", "value": "nobody"}]
    watch.api.post("/silences", {"matchers": nobody, "duration_seconds": 60})
    new_key = watch.api.post("/api-keys", {"name": "another", "role": "viewer"})
    life.secrets = {
        "password": credentials["password"],
        "API key": credentials["api_key"],
        "another API key": new_key["key"],
        "webhook secret": watch.channel["secret"].removeprefix("whsec_"),
        "access token": tokens["access_token"],
        "refresh token": tokens["refresh_token"],
        "header of a monitor": HEADER_SECRET,
        **{name: value.rstrip("=") for name, value in keys.items()},
    }
    nightly = watch.api.post("/monitors", {"type": "heartbeat", "name": "nightly", "interval_seconds": 60})["id"]
    ping_url = watch.api.get(f"/monitors/{nightly}/heartbeat")["ping_url"]
    life.secrets["ping address"] = ping_url.rpartition("/")[2]
    assert requests.get(f"{stack.url}/ping/{life.secrets['ping address']}", timeout=60).text == "OK"
    watch.api.post("/maintenance", {"name": "x", "monitor_ids": [nightly], "duration_seconds": 60})
    http = {"headers": {"X-Key": {"secret": HEADER_SECRET}}}
    monitor = watch.monitor("guarded", http=http)
    _misuse(stack, life)
    watch.breaks("guarded")
    watch.await_webhooks(monitor, 1)
    watch.api.post(f"/monitors/{monitor}/check")
    watch.mends("guarded")
    watch.await_webhooks(monitor, 2)
    life.answers = _every_answer(stack, watch)
    yield life
    listener.close()


def _misuse(stack: Stack, life: Life) -> None:
    """Secrets where they do not belong: each of these is an error, and errors are logged."""
    url, secrets = stack.url, life.secrets
    misuses: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/auth/login", {"json": {"email": secrets["password"], "password": "wrong"}}),
        ("POST", "/v1/auth/login", {"json": {"email": 1, "password": [secrets["password"]]}}),
        ("POST", "/v1/auth/login", {"data": '{"password": "' + secrets["password"]}),
        ("GET", "/v1/monitors", {"headers": {"Authorization": f"Basic {secrets['API key']}"}}),
        ("GET", "/v1/monitors", {"headers": {"Authorization": f"Bearer {secrets['API key']}x"}}),
        ("GET", f"/v1/monitors?api_key={secrets['API key']}", {}),
    ]
    for method, path, arguments in misuses:
        assert requests.request(method, url + path, timeout=60, **arguments).status_code in (400, 401, 415)


def _every_answer(stack: Stack, watch: Watch) -> dict[str, str]:
    """{path: body} of every GET of the API's own description, lists and single things."""
    spec = requests.get(f"{stack.url}/openapi.json", timeout=60).json()
    ids = {
        "monitor_id": watch.api.items("/monitors")[0]["id"],
        "incident_id": watch.api.items("/incidents")[0]["id"],
        "channel_id": watch.channel["id"],
        "notification_id": watch.api.items("/notifications")[0]["id"],
        "api_key_id": watch.api.items("/api-keys")[0]["id"],
        "user_id": watch.api.items("/users")[0]["id"],
        "route_id": watch.api.items("/routes")[0]["id"],
        "silence_id": watch.api.items("/silences")[0]["id"],
        "maintenance_id": watch.api.items("/maintenance")[0]["id"],
        "name": "notify",
    }
    nightly = {**ids, "monitor_id": watch.api.items("/monitors?type=heartbeat")[0]["id"]}
    answers = {}
    for path in (path for path, methods in spec["paths"].items() if "get" in methods and path not in NOT_OURS):
        # A stream never ends: its first words are enough.
        endless = "text/event-stream" in json.dumps(spec["paths"][path]["get"]["responses"])
        known = nightly if path in HEARTBEATS else ids
        asked = {"target": f"{stack.url}/livez", "module": "http_2xx"} if path == "/probe" else {}
        url = stack.url + path.format(**known)
        (answers[path],) = wait_for(partial(_answer, watch, url, asked, endless=endless), path)
    return answers


def _answer(watch: Watch, url: str, asked: dict[str, str], *, endless: bool) -> list[str]:
    """Nothing where nobody has the time just now: a probe needs a worker."""
    with watch.api.session.get(url, params=asked, timeout=60, stream=endless) as response:
        text = b"".join(islice(response.iter_content(1), 30)).decode() if endless else response.text
    assert response.status_code in (200, 503, 504), f"{url}: {text}"
    return [text] if response.status_code == 200 else []


def _listen(stack: Stack, commands: list[str]) -> redis.Redis:
    """Write down every command that reaches Valkey."""
    client = redis.Redis.from_url(stack.connections()["redis_url"])
    started = threading.Event()

    def listen() -> None:
        with suppress(redis.RedisError, ValueError, OSError, AttributeError), client.monitor() as monitor:  # type: ignore[no-untyped-call]
            started.set()
            commands.extend(heard["command"] for heard in monitor.listen())

    threading.Thread(target=listen, daemon=True).start()
    assert started.wait(60)
    return client


def found(secrets: dict[str, str], text: str) -> list[str]:
    return [name for name, secret in secrets.items() if secret in text]


def test_the_logs_hold_no_secret(stack: Stack, life: Life) -> None:
    logs = [stack.log, *(stack.data_dir / "logs").iterdir()]
    assert {log.name: found(life.secrets, log.read_text(errors="replace")) for log in logs} == {
        log.name: [] for log in logs
    }
    wait_for(lambda: '"event": "batch_started"' in stack.log.read_text(), "debug lines in it")


def test_the_queue_never_carries_a_secret(life: Life) -> None:
    def heard() -> str:  # by a thread of its own, which may be behind
        text = "\n".join(list(life.commands))
        return text if "check_fast" in text and "deliver" in text and len(life.commands) > 100 else ""

    text = wait_for(heard, "checks and deliveries, a hundred commands")
    assert found(life.secrets, text) == []


def test_what_stays_in_valkey_is_no_secret(stack: Stack, life: Life) -> None:
    client: Any = stack.valkey()
    read = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
    }
    # A key that goes away between two questions has the type "none"; queues come and go.
    kinds = [(key, client.type(key)) for key in client.scan_iter()]
    texts = [f"{key!r} {read[kind](key)!r}" for key, kind in kinds if kind in read]
    assert texts
    assert found(life.secrets, "\n".join(texts)) == []


def test_no_answer_shows_a_secret_again(life: Life) -> None:
    shown = {path: found(life.secrets, body) for path, body in life.answers.items()}
    assert shown.pop(HEARTBEATS[0]) == ["ping address"]
    assert not any(shown.values()), shown
    assert {"/v1/channels", "/v1/monitors/{monitor_id}", "/v1/api-keys", "/metrics"} <= set(shown)


def test_webhooks_hold_no_secret(watch: Watch, life: Life) -> None:
    texts = [f"{hook.headers} {hook.body.decode()}" for hook in watch.sink.received]
    assert texts
    assert found(life.secrets, "\n".join(texts)) == []
