"""The stream over a real server: connections leave their threads, and are closed once, whoever ends first."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import psutil
import pytest
import requests

from common.clock import utc_now
from notifier.relay import Relay
from tests.conftest import Databases
from tests.integration.test_api_process import environment, free_port, run, serving
from tests.stream_client import StreamClient

#: Threads of the API here: every one of them is free, however many streams there are.
THREADS = 2
MOST = 40
#: What one organization gets of these.
OURS = 36


@dataclass
class Served:
    """A running API with few threads and room for some streams."""

    port: int
    key: str
    databases: Databases
    process: Popen[str]
    clients: list[StreamClient]

    def connect(self, last_id: str | None = None, key: str = "") -> StreamClient:
        self.clients.append(StreamClient.connect(self.port, key or self.key, last_id))
        return self.clients[-1]

    def ready(self, count: int) -> list[StreamClient]:
        """So many that have their place in the stream."""
        made = [self.connect() for _ in range(count)]
        for client in made:
            client.wait(lambda messages: any(message.event == "monitors" for message in messages))
        return made

    def ask(self, method: str, path: str, **arguments: object) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        return requests.request(
            method,
            f"http://127.0.0.1:{self.port}{path}",
            headers=headers,
            timeout=60,
            **arguments,  # type: ignore[arg-type]
        )

    def make_incident(self) -> None:
        assert self.ask("POST", "/v1/incidents", json={"title": "Payments are slow"}).status_code == 201
        relay = Relay(self.databases.worker, lambda _ids: None, utc_now)
        while relay.step():
            pass

    def worker(self) -> psutil.Process:
        """The process that serves, below gunicorn's own."""
        (child,) = psutil.Process(self.process.pid).children()
        return child


@pytest.fixture
def served(databases: Databases, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Served]:
    port = free_port()
    env = environment(
        database_url, redis_url, tmp_path, TOCSIN_PORT=str(port), TOCSIN_API_THREADS=str(THREADS),
        TOCSIN_STREAMS=str(MOST), TOCSIN_STREAMS_PER_CREDENTIAL=str(MOST), TOCSIN_RATE_LIMIT_WRITES="0",
        TOCSIN_LOG_LEVEL="error",
    )  # fmt: skip
    assert run("migrations.run", env).returncode == 0
    key = json.loads((tmp_path / "credentials.json").read_text())["api_key"]
    with ExitStack() as stack:
        process = stack.enter_context(serving(env, port))
        made = Served(port, key, databases, process, [])
        stack.callback(lambda: [client.close() for client in made.clients])
        yield made


def heads(served: Served, count: int) -> list[StreamClient]:
    """So many that were answered, with a stream or a refusal."""
    clients = [served.connect() for _ in range(count)]
    deadline = time.monotonic() + 60
    while not all(client.head for client in clients):
        assert time.monotonic() < deadline
        for client in clients:
            client.read(0.01)
    return clients


def test_many_streams_hold_no_thread_and_hear_of_everything(served: Served) -> None:
    clients = served.ready(OURS)
    assert len(clients) > THREADS
    head = clients[0].head
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    for line in ("Content-Type: text/event-stream; charset=utf-8", "Connection: close", "Cache-Control: no-store"):
        assert line in head.split("\r\n")
    assert "X-Request-ID" in head
    assert "Content-Length" not in head
    for _ in range(3):
        served.make_incident()
    for client in clients:
        client.wait(lambda messages: sum(message.event == "incident" for message in messages) == 3)
        assert client.numbers() == [1, 2, 3]


def test_past_the_cap_is_503_and_who_leaves_makes_room(served: Served) -> None:
    clients = served.ready(OURS)
    refused = served.ask("GET", "/v1/stream")
    assert (refused.status_code, refused.headers["Content-Type"]) == (503, "application/problem+json")
    assert (refused.json()["code"], refused.headers["Retry-After"]) == ("STREAMS_FULL", "30")
    for client in clients[:5]:
        client.close()
    deadline = time.monotonic() + 60
    while True:
        again = served.connect()
        while not again.head:
            again.read(0.2)
        if again.head.startswith("HTTP/1.1 200"):
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    again.wait(lambda messages: len(messages) > 1)


def test_many_that_come_at_once_get_no_more_than_there_is(served: Served) -> None:
    clients = heads(served, MOST + 20)
    assert sum(client.head.startswith("HTTP/1.1 200") for client in clients) == OURS
    assert sum(client.head.startswith("HTTP/1.1 503") for client in clients) == MOST + 20 - OURS


def test_who_leaves_before_the_answer_and_who_wants_its_head_alone_take_no_place(served: Served) -> None:
    for _ in range(MOST):
        client = served.connect()
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no goodbye
        client.close()
        assert served.ask("HEAD", "/v1/stream").status_code == 200
    served.clients.clear()
    deadline = time.monotonic() + 60
    # The last of them may not have been found gone yet.
    while not all(client.head.startswith("HTTP/1.1 200") for client in heads(served, OURS)):
        assert time.monotonic() < deadline
        for client in served.clients:
            client.close()
        served.clients.clear()
        time.sleep(0.5)


def test_a_stream_ends_soon_after_its_key(served: Served) -> None:
    made = served.ask("POST", "/v1/api-keys", json={"name": "page", "role": "viewer"}).json()
    client = served.connect(key=made["key"])
    client.wait(lambda messages: any(message.event == "monitors" for message in messages))
    (other,) = served.ready(1)
    assert served.ask("DELETE", f"/v1/api-keys/{made['id']}").status_code == 204
    client.wait_for_end()
    other.read(0.5)
    assert not other.ended


def test_every_connection_is_closed_once_and_nothing_is_left(served: Served) -> None:
    """Comers and goers, while other connections take the file numbers that become free."""
    served.ready(3)
    worker = served.worker()
    before = worker.num_fds()
    for _ in range(6):
        leaving = served.ready(10)
        for client in leaving:
            client.close()
        assert served.ask("GET", "/v1/monitors").status_code == 200
    deadline = time.monotonic() + 60
    while worker.num_fds() > before + 4:
        assert time.monotonic() < deadline, (before, worker.num_fds())
        time.sleep(0.1)
    served.make_incident()
    for client in served.clients[:3]:
        client.wait(lambda messages: any(message.event == "incident" for message in messages))


def test_a_connection_that_was_used_before_can_become_a_stream(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    headers = {"Authorization": f"Bearer {served.key}"}
    for _ in range(2):
        connection.request("GET", "/v1/monitors", headers=headers)
        assert connection.getresponse().read()
    connection.request("HEAD", "/v1/stream", headers=headers)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    connection.request("GET", "/v1/stream?last_event_id=0", headers=headers)
    client = StreamClient(connection.sock)
    client.wait(lambda messages: len(messages) > 1)
    assert client.head.startswith("HTTP/1.1 200")
    connection.close()


def test_a_client_that_talks_without_end_is_cut(served: Served) -> None:
    (client,) = served.ready(1)
    client.sock.settimeout(5)
    deadline = time.monotonic() + 60
    while not client.ended:
        assert time.monotonic() < deadline
        with suppress(OSError):  # reset, broken pipe
            client.sock.sendall(b"x" * 4096)
        client.read(0.005)


def test_whoever_may_not_is_refused_as_everywhere(served: Served) -> None:
    client = StreamClient.connect(served.port, "tcs_unknown_key")
    served.clients.append(client)
    while not client.ended and not client.head:
        client.read(0.2)
    assert client.head.startswith("HTTP/1.1 401")


def test_stopping_ends_the_streams_at_once(served: Served) -> None:
    clients = served.ready(OURS)
    began = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    for client in clients:
        client.wait_for_end()
    took = time.monotonic() - began
    assert took < 15, took  # requests that are under way may take twenty
    assert served.process.wait(60) == 0
    with pytest.raises(OSError):  # refused
        socket.create_connection(("127.0.0.1", served.port), timeout=1)


def test_a_stream_goes_on_over_a_restart_of_the_api(served: Served, tmp_path: Path) -> None:
    (client,) = served.ready(1)
    served.make_incident()
    client.wait(lambda messages: any(message.event == "incident" for message in messages))
    served.worker().send_signal(signal.SIGTERM)  # gunicorn starts another one
    client.wait_for_end()
    served_again = time.monotonic() + 60
    while True:
        try:
            served.make_incident()
            break
        except (OSError, requests.RequestException):
            assert time.monotonic() < served_again
            time.sleep(0.1)
    again = served.connect(client.last_id)
    again.wait(lambda messages: any(message.event == "incident" for message in messages))
    assert again.numbers() == [2]
