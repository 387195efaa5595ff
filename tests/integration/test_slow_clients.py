"""Whoever is slow, says nothing, or does not listen, waits alone: the API has two threads, and others are answered."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

import pytest
import requests

from api import connections
from api.app import ROUTES
from common.embedded import EmbeddedUrls
from tests.integration.test_api_process import environment, free_port, serving

THREADS = 2
#: A client that holds a thread would hold it for so long, one that says nothing at all for ten seconds.
REQUEST_S = 60
#: So much longer than it takes that a machine with other things to do does not fail us.
AT_ONCE_S = 8
LOGIN = b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


class Crowd:
    """An API, and clients of it."""

    def __init__(self, port: int, stack: ExitStack) -> None:
        self.port = port
        self._stack = stack

    def connect(self, sent: bytes = b"", receive_bytes: int = 0) -> socket.socket:
        client = self._stack.enter_context(socket.socket())
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.settimeout(60)
        client.connect(("127.0.0.1", self.port))
        client.sendall(sent)
        return client

    def answered_in_s(self) -> float:
        began = time.monotonic()
        assert requests.get(f"http://127.0.0.1:{self.port}/livez", timeout=60).status_code == 200
        return time.monotonic() - began


@pytest.fixture(scope="module")
def serve(
    servers: EmbeddedUrls, module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], AbstractContextManager[int]]:
    """Starts an API that waits so many seconds for a request; its port."""

    @contextmanager
    def start(request_s: int) -> Iterator[int]:
        found = free_port()
        env = environment(
            module_database_url, servers.redis_url, tmp_path_factory.mktemp("api"), TOCSIN_PORT=str(found),
            TOCSIN_API_THREADS=str(THREADS), TOCSIN_REQUEST_TIMEOUT=str(request_s), TOCSIN_RATE_LIMIT_READS="0",
            TOCSIN_RATE_LIMIT_WRITES="0",
        )  # fmt: skip
        with serving(env, found):
            yield found

    return start


@pytest.fixture(scope="module")
def port(serve: Callable[[int], AbstractContextManager[int]]) -> Iterator[int]:
    """One API for nearly all of these."""
    with serve(REQUEST_S) as found:
        yield found


@pytest.fixture
def crowd(port: int) -> Iterator[Crowd]:
    with ExitStack() as stack:
        yield Crowd(port, stack)


def whole(client: socket.socket) -> tuple[int, bytes]:
    """An answer until the connection ends."""
    head, _, body = b"".join(iter(lambda: client.recv(65_536), b"")).partition(b"\r\n\r\n")
    return int(head.split()[1]), body


#: (what every one of them sends)
SLOW = {
    "nothing": b"",
    "half a head": b"GET /livez HTTP/1.1\r\nHos",
    "half a body": LOGIN + b"Content-Length: 99\r\n\r\n{",
    "half a large body": LOGIN + b"Content-Length: 900000\r\n\r\n" + b" " * 100_000,
    "half a chunked body": LOGIN + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    "chunks that look ended": LOGIN + b"Transfer-Encoding: chunked\r\n\r\nff\r\n0\r\n\r\n",
    "a body that may be sent": LOGIN + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    "no request, and never hangs up": b"\x00\r\n\r\n",
    "a last request, and never hangs up": LIVEZ.replace(b"Host", b"Connection: close\r\nHost"),
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
def test_who_is_slow_holds_no_thread(crowd: Crowd, sent: bytes) -> None:
    for _ in range(6 * THREADS):
        crowd.connect(sent)
    time.sleep(0.2)
    assert crowd.answered_in_s() < AT_ONCE_S


def test_who_does_not_take_an_answer_holds_no_thread(crowd: Crowd) -> None:
    deaf = [crowd.connect(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 20, 4096) for _ in range(3 * THREADS)]
    time.sleep(1)
    assert crowd.answered_in_s() < AT_ONCE_S
    # And nothing of it is lost for one that takes its time.
    deaf[0].sendall(LIVEZ.replace(b"Host", b"Connection: close\r\nHost"))
    document = requests.get(f"http://127.0.0.1:{crowd.port}/openapi.json", timeout=60).content
    assert b"".join(iter(lambda: deaf[0].recv(65_536), b"")).count(document) == 20


def test_past_the_limit_of_connections_the_oldest_silent_one_goes(crowd: Crowd) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit[0] < 2_000:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2_000, limit[1]))
    try:
        silent = [crowd.connect() for _ in range(1_100)]
        assert crowd.answered_in_s() < AT_ONCE_S
        silent[0].settimeout(AT_ONCE_S)
        assert silent[0].recv(1) == b""
        silent[-1].sendall(LIVEZ)
        assert silent[-1].recv(12) == b"HTTP/1.1 200"
    finally:
        for client in silent:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_connections_that_were_used_make_room_as_well(crowd: Crowd) -> None:
    """As many as are kept, each of them after a request."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit[0] < 2_000:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2_000, limit[1]))
    used: list[socket.socket] = []
    try:
        for _ in range(1_050):
            used.append(crowd.connect(LIVEZ))
            assert used[-1].recv(12) == b"HTTP/1.1 200"
        assert crowd.answered_in_s() < AT_ONCE_S
    finally:
        for client in used:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_what_is_not_whole_in_time_is_408(serve: Callable[[int], AbstractContextManager[int]]) -> None:
    with serve(3) as port, ExitStack() as stack:
        crowd = Crowd(port, stack)
        began = time.monotonic()
        half, trickling = crowd.connect(LIVEZ[:-2]), crowd.connect(SLOW["half a body"])
        while time.monotonic() < began + 2:
            trickling.sendall(b" ")
            time.sleep(0.2)
        for client in (half, trickling):
            status, body = whole(client)
            assert (status, json.loads(body)["code"]) == (408, "REQUEST_TIMEOUT")
        assert 2.5 < time.monotonic() - began < 30


#: (what is sent, and in pieces of how many bytes, the statuses of its answers)
FRAMES: list[tuple[bytes, int, list[int]]] = [
    (LIVEZ, 1, [200]),
    (LIVEZ * 3, 10_000, [200, 200, 200]),  # pipelined
    (LIVEZ * 300, 10_000, [200] * 300),
    (LIVEZ * 3, 50, [200, 200, 200]),
    (LOGIN + b"Content-Length: 2\r\n\r\n{}" + LIVEZ, 7, [400, 200]),
    (LOGIN + b"Content-Length: 2\r\n\r\n[]" + LIVEZ, 10_000, [400, 200]),
    (LOGIN + b"Transfer-Encoding: chunked\r\n\r\n1;x=y\r\n{\r\n1\r\n}\r\n0\r\n\r\n" + LIVEZ, 5, [400, 200]),
    (LOGIN + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nA: b\r\n\r\n" + LIVEZ, 10_000, [400, 200]),
    (LOGIN + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n" + LIVEZ, 10_000, [400]),
    (LOGIN + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}X\r\n0\r\n\r\n" + LIVEZ, 10_000, [400]),
    # Not logged in: a body that nobody read is not the next request.
    (
        b"POST /v1/monitors HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n" + b"\n" * 90_000 + LIVEZ,
        50_000,
        [401, 200],
    ),
    (LOGIN + b"Content-Length: 30000000\r\n\r\n" + LIVEZ, 10_000, [413]),
    (LOGIN + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}" + LIVEZ, 10_000, [400, 200]),
    (b"GET /livez HTTP/1.1\r\nX: " + b"x" * 70_000, 10_000, [431]),
]


@pytest.mark.parametrize(("sent", "piece", "statuses"), FRAMES)
def test_however_a_request_arrives_it_is_answered_once(
    crowd: Crowd, sent: bytes, piece: int, statuses: list[int]
) -> None:
    client = crowd.connect()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(sent), piece):
        client.sendall(sent[at : at + piece])
        time.sleep(0.001)
    client.shutdown(socket.SHUT_WR)
    answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == statuses


def test_a_client_that_asks_whether_to_send_its_body_is_told(crowd: Crowd) -> None:
    client = crowd.connect(LOGIN + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"{}")
    assert client.recv(12) == b"HTTP/1.1 400"


def test_large_bodies_that_never_end_are_held_up_to_a_limit(crowd: Crowd) -> None:
    """Eight times 16 MiB: the oldest give way, and the newest of them is still listened to."""
    large = b"POST /v1/monitors/plan HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n"
    clients = [crowd.connect(large) for _ in range(8)]
    for client in clients:
        client.sendall(b" " * 16_000_000)
    assert crowd.answered_in_s() < AT_ONCE_S
    clients[0].settimeout(AT_ONCE_S)
    with suppress(ConnectionResetError):
        assert clients[0].recv(1) == b""
    clients[-1].sendall(b" " * 4_000_000 + LIVEZ.replace(b"Host", b"Connection: close\r\nHost"))
    began = time.monotonic()
    answer = b"".join(iter(lambda: clients[-1].recv(65_536), b""))
    # Nobody read the body: that costs no time either.
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [401, 200]
    assert time.monotonic() - began < AT_ONCE_S


def test_no_route_takes_more_than_the_server() -> None:
    assert max(route.max_bytes for route in ROUTES) <= connections.BODY_BYTES
